"""Tiny MNIST-format data, and a throw-away copy of this project that runs on it."""

import gzip
import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import stage_server
import yaml

from digitsum.core import numerics
from digitsum.mnist import idx

# PyTorch and DVC are imported where they are used: pytest reads this file in a process that runs no test, too.

ROOT = Path(__file__).resolve().parent.parent
DIGEST_KEYS = {
    idx.TRAIN_IMAGES: "train_images_sha256",
    idx.TRAIN_LABELS: "train_labels_sha256",
    idx.TEST_IMAGES: "test_images_sha256",
    idx.TEST_LABELS: "test_labels_sha256",
}


STAGES = ["fetch", "pair", "train", "evaluate"]


def stages_run(printed):
    """Return the stages whose commands DVC ran, by what it printed."""
    return [stage for stage in STAGES if f"Running stage '{stage}'" in printed]


def idx_bytes(array):
    """Write an array as an IDX file of bytes."""
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def tiny_images(labels, seed):
    """Draw images that a network can learn: a bright bar for each digit, at its own place, in noise."""
    draws = np.random.default_rng(seed)
    images = draws.integers(0, 60, (len(labels), 28, 28))
    for image, label in zip(images, labels, strict=True):
        row, column = 4 + 5 * (label % 5), 4 + 12 * (label // 5)
        image[row : row + 3, column : column + 9] += 190
    return images.astype(np.uint8)


@dataclass(frozen=True)
class TinyMnist:
    """A folder that serves as MNIST_MIRROR, and what it holds."""

    folder: Path
    contents: dict[str, bytes]
    digests: dict[str, str]


@pytest.fixture(scope="session")
def tiny_mnist(tmp_path_factory):
    """Return 400 training and 100 test images in MNIST's format, as .gz files in a folder."""
    folder = tmp_path_factory.mktemp("mirror")
    train_labels, test_labels = np.arange(400) % 10, np.arange(100) % 10
    arrays = {
        idx.TRAIN_IMAGES: tiny_images(train_labels, 1),
        idx.TRAIN_LABELS: train_labels.astype(np.uint8),
        idx.TEST_IMAGES: tiny_images(test_labels, 2),
        idx.TEST_LABELS: test_labels.astype(np.uint8),
    }
    contents = {name: idx_bytes(array) for name, array in arrays.items()}
    for name, content in contents.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
    return TinyMnist(folder, contents, {name: hashlib.sha256(c).hexdigest() for name, c in contents.items()})


@pytest.fixture
def raw(tiny_mnist, tmp_path):
    """Return the tiny data set, read."""
    for name, content in tiny_mnist.contents.items():
        (tmp_path / name).write_bytes(content)
    return idx.read_raw(tmp_path, tiny_mnist.digests)


@pytest.fixture
def splits(raw):
    """Return the tiny data set as 350 training, 50 validation and 100 test images, each with one number."""
    from digitsum.pairing.pairs import make_splits

    return make_splits(raw, 50, 1, 0)


def pytest_configure(config):
    """Put a `python` first on the PATH that runs stages in forks of a server: see stage_server.py."""
    numerics.prepare("portable")
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # its parent has done so
    folder = Path(tempfile.mkdtemp(prefix="stage-server-"))
    address = str(folder / "socket")
    client = folder / "python"
    client.write_text(stage_server.CLIENT.format(python=sys.executable, address=address))
    client.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, stage_server.__file__, address],
        stdout=subprocess.PIPE,
        env={**os.environ, "TORCH_COMPILE_DISABLE": "1"},  # it would take minutes: test_training.py compiles once
        text=True,
    )
    assert server.stdout.readline() == "ready\n"
    path = os.environ["PATH"]
    os.environ["PATH"] = os.pathsep.join([str(folder), str(Path(sys.executable).parent), path])

    def end():
        os.environ["PATH"] = path
        server.terminate()
        server.communicate()
        shutil.rmtree(folder)

    config.add_cleanup(end)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Two threads that wait for each other are slower on tiny batches, on a busy machine 7 times."""
    if "torch" in sys.modules:  # the tests of files that do not need it shall not wait for it
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def quick_yaml():
    """Have DVC, in this process, read and write YAML with PyYAML's C library: in a tenth of the time.

    Its own code keeps the comments in the files that it rewrites; dvc.lock has none.
    """
    import dvc.utils.serialize
    import dvc.utils.serialize._yaml as dvc_yaml
    import dvc.utils.strictyaml

    def parse(text, path, typ="safe"):
        return yaml.load(text, yaml.CSafeLoader) or {}

    class Dumper(yaml.CSafeDumper):
        pass

    Dumper.add_representer(OrderedDict, Dumper.represent_dict)

    def dump(data, stream):
        yaml.dump(data, stream, Dumper, default_flow_style=False, sort_keys=False)

    with pytest.MonkeyPatch.context() as patch:
        for module in (dvc.utils.serialize, dvc.utils.strictyaml, dvc_yaml):
            patch.setattr(module, "parse_yaml", parse)
        patch.setattr(dvc_yaml, "parse_yaml_for_update", parse)
        patch.setattr(dvc_yaml, "_dump", dump)
        yield


class Project:
    """A copy of this project in a git repository of its own, with parameters for tiny data."""

    def __init__(self, folder, mirror):
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))},
            "MNIST_MIRROR": str(mirror),
            "DVC_NO_ANALYTICS": "1",
        }

    def copy(self, folder):
        """Copy the project as it is to `folder`."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder, self.environment["MNIST_MIRROR"])

    def run(self, *command, **options):
        """Run a command in the project; give its exit code and what it printed, on both streams."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            **options,
        )
        return done.returncode, done.stdout

    def succeed(self, *command, **options):
        """Run a command that must succeed; give what it printed."""
        code, printed = self.run(*command, **options)
        assert code == 0, printed
        return printed

    def reproduce(self, **options):
        """Do what `dvc repro` does, in this process, which saves DVC's start; give the stages whose commands ran."""
        import dvc.stage.run
        from dvc.repo import Repo

        commands_run = []
        run = dvc.stage.run.cmd_run

        def record(stage, *arguments, **keywords):
            commands_run.append(stage.name)
            run(stage, *arguments, **keywords)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dvc.stage.run, "cmd_run", record)
            patch.setenv("MNIST_MIRROR", self.environment["MNIST_MIRROR"])
            patch.chdir(self.folder)
            with Repo(self.folder) as repo:
                repo.reproduce(**options)
        return commands_run

    def stage(self, name):
        """Run a stage by itself, without DVC; give its exit code and what it printed."""
        return self.run("python", "-m", f"stages.{name}")

    def set_param(self, key, value):
        """Change one parameter in params.yaml."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        group, leaf = key.split(".")
        params[group][leaf] = value
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def outputs(self):
        """Return the bytes of every file that a stage has made, by path."""
        folders = ("data", "models", "metrics", "plots")
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for folder in folders
            for path in sorted((self.folder / folder).rglob("*"))
            if path.is_file()
        }


TINY_PARAMS = {
    "pair.validation_size": 50,
    "train.threads": 1,
    "model.trunk": "strided",
    "train.epochs": 1,
    "train.clean_epochs": 0,
    "train.batch_size": 34,
    "train.translation": 1,
    "train.rotation": 3,
}


def copy_project(folder, tiny_mnist):
    """Copy the files of this project that git knows or would add, but no results and no studies; commit them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not re.match("metrics/|plots/|dvc.lock|studies/.*/", name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    project = Project(folder, tiny_mnist.folder)
    for name, digest in tiny_mnist.digests.items():
        project.set_param(f"fetch.{DIGEST_KEYS[name]}", digest)
    for key, value in TINY_PARAMS.items():
        project.set_param(key, value)
    for command in [
        ["init", "--quiet", "--initial-branch", "main"],
        ["config", "user.name", "test"],
        ["config", "user.email", "test@example.invalid"],
        ["add", "--all"],
        ["commit", "--quiet", "--message", "start"],
    ]:
        project.succeed("git", *command)
    return project


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny_mnist):
    """Return a project on tiny data in which all stages have run once, and their results are committed; touch not."""
    project = copy_project(tmp_path_factory.mktemp("finished"), tiny_mnist)
    assert project.reproduce() == STAGES
    project.succeed("git", "add", "--all")
    project.succeed("git", "commit", "--quiet", "--message", "results")
    return project


@pytest.fixture
def project(finished, tmp_path):
    """Return a copy of the finished project that a test may change."""
    return finished.copy(tmp_path / "project")
