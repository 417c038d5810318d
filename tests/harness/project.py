"""A throw-away copy of this project, in a git repository of its own, that runs on tiny data."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from harness.tiny_mnist import DIGEST_KEYS

ROOT = Path(__file__).resolve().parents[2]
STAGES = ["fetch", "pair", "train", "evaluate", "export"]


def stages_run(printed):
    """Return the stages whose commands DVC ran, by what it printed."""
    return [stage for stage in STAGES if f"Running stage '{stage}'" in printed]


class Project:
    """A copy of this project in a git repository of its own, with parameters for tiny data."""

    def __init__(self, folder, mirror):
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))},
            "MNIST_MIRROR": str(mirror),
            "PYTHONPATH": str(folder / "src"),  # an installed digitsum points to the code of another folder
            "DVC_NO_ANALYTICS": "1",
        }

    def copy(self, folder):
        """Copy the project as it is to `folder`."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder, self.environment["MNIST_MIRROR"])

    def run(self, *command, folder=".", **options):
        """Run a command in a folder of the project; return its exit code and what it printed, on both streams."""
        done = subprocess.run(
            command,
            cwd=self.folder / folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            **options,
        )
        return done.returncode, done.stdout

    def succeed(self, *command, **options):
        """Run a command that must succeed; return what it printed."""
        code, printed = self.run(*command, **options)
        assert code == 0, printed
        return printed

    def fail(self, *command):
        """Run a command that must fail, and without a traceback; return what it printed."""
        code, printed = self.run(*command)
        assert code != 0, printed
        assert "Traceback" not in printed, printed
        return printed

    def reproduce(self, **options):
        """Do what `dvc repro` does, in this process, which saves DVC's start; return the stages whose commands ran."""
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

    def set_param(self, key, value):
        """Change one parameter in params.yaml."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        group, leaf = key.split(".")
        params[group][leaf] = value
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def outputs(self, *folders):
        """Return the bytes of every file in these folders, by path; of all that stages have made if none is named."""
        folders = folders or ("data", "models", "metrics", "plots", "web")
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for folder in folders
            for path in sorted((self.folder / folder).rglob("*"))
            if path.is_file()
        }


TINY_PARAMS = {
    "pair.validation_size": 50,
    "train.shards": 1,
    "model.trunk": "strided",
    "train.epochs": 1,
    "train.clean_epochs": 0,
    "train.batch_size": 34,
    "train.translation": 1,
    "train.rotation": 3,
}


def copy_files(folder, without=()):
    """Copy the files of this project that git knows or would add to `folder`; return their names."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    names = {name for name in listed if (ROOT / name).exists() and not name.startswith(without)}
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    return names


def copy_project(folder, tiny_mnist):
    """Copy the files of this project, but for the pipeline's results, to run on tiny data; commit them."""
    copy_files(folder, without=("metrics/", "plots/", "dvc.lock"))
    project = Project(folder, tiny_mnist.folder)
    for name, digest in tiny_mnist.digests.items():
        project.set_param(f"mnist.{DIGEST_KEYS[name]}", digest)
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


def install(project):
    """Make `make` find everything installed in `project`: what runs these tests, on the project's own code."""
    (project.folder / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (project.folder / ".venv" / name).symlink_to(Path(sys.prefix, name))
    for mark in (".runs", ".tests"):
        (project.folder / ".venv" / mark).touch()
    return project
