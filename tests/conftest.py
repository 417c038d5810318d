"""Fixtures: tiny data, and a throw-away copy of this project that runs on it."""

import gzip
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from harness import stage_server
from harness.project import STAGES, copy_project
from harness.tiny_mnist import TinyMnist, idx_bytes, split_raw, tiny_images

from digitsum.core import numerics
from digitsum.mnist import idx

# PyTorch and DVC are imported where they are used: pytest reads this file in a process that runs no test, too.


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
    return split_raw(raw)


def pytest_configure(config):
    """Put a `python` first on the PATH that runs stages in forks of a server: see stage_server.py."""
    numerics.set_environment("portable")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's `&` has it ignored, also in child processes
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
        env={**os.environ, "TORCH_COMPILE_DISABLE": "1"},  # it would take minutes: test_loop.py compiles once
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


def pytest_collection_modifyitems(items):
    """Begin with the commands of whole pages, which take minutes: at the end one worker would be left with them."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/tools/test_docs.py"))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Two threads that wait for each other are slower on tiny batches, on a busy machine 7 times."""
    if "torch" in sys.modules:  # the tests of files that do not need it shall not wait for it
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny_mnist):
    """Return a project on tiny data in which all stages have run once, and their results are committed; touch not."""
    project = copy_project(tmp_path_factory.mktemp("finished"), tiny_mnist)
    assert project.reproduce() == STAGES
    # The studies' results are of real data; take them for those of the parameters and the model here.
    project.succeed("dvc", "commit", "--force", "--quiet", "--recursive", ".", folder="studies")
    project.succeed("git", "add", "--all")
    project.succeed("git", "commit", "--quiet", "--message", "results")
    return project


@pytest.fixture
def project(finished, tmp_path):
    """Return a copy of the finished project that a test may change."""
    return finished.copy(tmp_path / "project")
