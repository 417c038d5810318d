"""A stage that is killed, at whatever moment, is made good by the next `dvc repro`, to the very same bytes."""

import errno
import functools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from dvc.exceptions import ReproductionError

from digitsum.core.numerics import cores

CHANGES = {
    "fetch": ("fetch.timeout", 11),
    "pair": ("pair.seed", 1),
    "train": ("train.epochs", 3),
    "evaluate": ("evaluate.mistakes_shown", 5),
    "export": ("train.seed", 5),  # it has no parameters of its own
}
POINTS = [  # see faults.py; an epoch has 11 steps here, and train.safetensors in stage train is the checkpoint
    ("fetch", "update 3"),
    ("fetch", "writing t10k-images-idx3-ubyte"),
    ("fetch", "renaming train-labels-idx1-ubyte"),
    ("fetch", "renamed train-images-idx3-ubyte"),
    ("pair", "writing train.safetensors"),
    ("pair", "renaming test.safetensors"),
    ("pair", "writing pairs.png"),
    ("train", "update 5"),
    ("train", "update 25"),
    ("train", "writing train.safetensors"),
    ("train", "renaming train.safetensors"),
    ("train", "renamed train.safetensors"),
    ("train", "writing training.csv"),
    ("train", "renaming train.json"),
    ("train", "writing digitsum.safetensors"),
    ("train", "renaming digitsum.safetensors"),
    ("train", "renamed digitsum.safetensors"),
    ("evaluate", "writing test.safetensors"),
    ("evaluate", "renaming evaluate.json"),
    ("evaluate", "writing confusion_digit.png"),
    ("evaluate", "renamed mistakes.png"),
    ("export", "writing digitsum.onnx"),
    ("export", "renaming index.html"),
    ("export", "renamed export.json"),
]
DISK_FAULTS = [
    *((stage, point, "ENOSPC") for stage, point in POINTS if point.startswith(("writing", "renaming"))),
    *((stage, point, "EIO") for stage, point in POINTS if point.startswith(("writing", "renaming"))),
    ("fetch", "opening train-images-idx3-ubyte", "EROFS"),
    ("pair", "opening test.safetensors", "EROFS"),
    ("train", "opening train.safetensors", "EROFS"),
    ("train", "opening digitsum.safetensors", "EROFS"),
    ("evaluate", "opening confusion_sum.png", "EROFS"),
]
CONTINUING = "continuing from .*/.dvc/tmp/checkpoints/[0-9a-f]{64}/train.safetensors: epoch"
# Written after every epoch or stage: whole, but of another than the last.
IN_STEPS = {"plots/training.csv", "metrics/train.json", "dvc.lock"}


@pytest.fixture(scope="session")
def uninterrupted(finished, tmp_path_factory):
    """Return a function from a stage to what a run with its change leaves when nothing disturbs it."""

    @functools.cache
    def give(stage):
        project = finished.copy(tmp_path_factory.mktemp("uninterrupted") / "project")
        change(project, stage)
        project.reproduce()
        return everything(project)

    return give


def change(project, stage):
    """Make `stage` run, and not only come from the cache; make fetch download, and not only keep what it has."""
    project.set_param(*CHANGES[stage])
    if stage == "fetch":
        shutil.rmtree(project.folder / "data/raw")


def everything(project):
    return project.outputs() | {"dvc.lock": (project.folder / "dvc.lock").read_bytes()}


def reproduce_with_fault(project, fault, monkeypatch, capfd):
    """Have `dvc repro` fail by a fault, see faults.py; give what was printed as errors."""
    with monkeypatch.context() as patch:
        patch.setenv("FAULT", fault)
        with pytest.raises(ReproductionError):
            project.reproduce()
    printed = capfd.readouterr().err
    assert "Traceback" not in printed
    return printed


def assert_made_good(project, before, expected):
    """Check that nothing stands half-written, that one `dvc repro` ends well, and that nothing else is left."""
    for name, content in everything(project).items():
        assert name in IN_STEPS or name.endswith(".tmp") or content in (before.get(name), expected[name]), name
    project.reproduce()
    assert everything(project) == expected
    assert not list(project.folder.glob(".dvc/tmp/checkpoints/*"))


@pytest.fixture(scope="module")
def server(tiny_mnist):
    """Return the URL of a mirror on this machine: fetch downloads, and shows its progress."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tiny_mnist.folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
@pytest.mark.parametrize(("stage", "point"), POINTS)
def test_a_killed_stage_is_made_good_by_the_next_run(
    project, uninterrupted, server, stage, point, name, monkeypatch, capfd
):
    expected, before = uninterrupted(stage), everything(project)
    project.environment["MNIST_MIRROR"] = server
    change(project, stage)
    printed = reproduce_with_fault(project, f"{name} {point}", monkeypatch, capfd)
    assert name == "SIGKILL" or "error: interrupted" in printed
    assert_made_good(project, before, expected)
    resumed = stage == "train" and point not in ("update 5", "writing train.safetensors", "renaming train.safetensors")
    assert resumed == bool(re.search(CONTINUING, capfd.readouterr().out))


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "point", "name"), DISK_FAULTS)
def test_a_disk_that_fails_ends_in_one_line(project, uninterrupted, stage, point, name, monkeypatch, capfd):
    expected, before = uninterrupted(stage), everything(project)
    change(project, stage)
    printed = reproduce_with_fault(project, f"{name} {point}", monkeypatch, capfd)
    error = rf"^error: {os.strerror(getattr(errno, name))} \(.*{point.split()[1]}\)\. Nothing half-written was kept"
    assert re.search(error, printed, re.MULTILINE)
    assert not list(project.folder.rglob(".*.tmp"))
    assert_made_good(project, before, expected)


@pytest.mark.slow
def test_a_stage_that_outlives_its_dvc_keeps_the_next_run_out_until_it_ends(project, uninterrupted):
    expected, before = uninterrupted("train"), everything(project)
    project.set_param(*CHANGES["train"])
    with start(project, FAULT="SIGSTOP update 5") as dvc:
        orphan = wait_for(lambda: stage_at_work(project))
        wait_for(lambda: orphan.status() == psutil.STATUS_STOPPED)
        dvc.kill()
    printed = project.fail("dvc", "repro")
    assert f"error: stage train, process {orphan.pid}, is running in this folder" in printed
    orphan.resume()
    wait_for(lambda: not stage_at_work(project))
    assert_made_good(project, before, expected)


@pytest.mark.slow
def test_ctrl_c_ends_dvc_and_the_stage_and_the_next_run_goes_on(project, uninterrupted):
    """Real processes all through: the terminal sends Ctrl-C to dvc, to its shell and to Python."""
    expected, before = uninterrupted("train"), everything(project)
    project.set_param(*CHANGES["train"])
    folders = project.environment["PATH"].split(os.pathsep)
    project.environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), *folders[1:]])
    with start(project) as dvc:
        wait_for(lambda: "epoch  1/3" in output(project).read_text())
        os.killpg(dvc.pid, signal.SIGINT)
    printed = output(project).read_text()
    assert dvc.returncode != 0
    assert "error: interrupted" in printed
    assert "Traceback" not in printed
    assert_made_good(project, before, expected)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(20))
def test_a_run_killed_at_a_random_moment_is_made_good(project, uninterrupted, seed):
    expected, before = uninterrupted("pair"), everything(project)
    project.set_param(*CHANGES["pair"])
    draws = random.Random(seed)
    with start(project) as dvc:
        time.sleep(draws.uniform(0.5, 7))
        dvc.kill()
    time.sleep(0.5)  # for a stage that has only just been called
    if stage := stage_at_work(project):
        if draws.random() < 0.5:
            stage.kill()
        wait_for(lambda: not stage_at_work(project))
    # What DVC itself may leave half-done, and what the README says to do then.
    for file in project.folder.glob("plots/.*.tmp"):
        if file.stat().st_size == 0:
            file.unlink()
    (project.folder / ".dvc/tmp/rwlock").unlink(missing_ok=True)
    lock = project.folder / "dvc.lock"
    if not lock.read_text().endswith("\n"):
        project.succeed("git", "checkout", "dvc.lock")
    assert_made_good(project, before, expected)


@pytest.mark.slow
def test_a_run_killed_in_a_temporary_copy_continues_in_the_next_copy_whatever_ran_in_between(project, uninterrupted):
    expected, temporary = uninterrupted("train"), ["dvc", "exp", "run", "--temp", "-S"]
    project.environment["FAULT"] = "SIGKILL update 25"
    assert project.run(*temporary, "train.epochs=3")[0] != 0
    del project.environment["FAULT"]
    project.succeed(*temporary, "train.seed=1", "--name", "another")
    project.set_param("train.seed", 2)
    project.reproduce()
    project.succeed("git", "checkout", "--quiet", "HEAD", ".")
    assert re.search(CONTINUING, project.succeed(*temporary, "train.epochs=3", "--name", "continued"))
    project.succeed("dvc", "exp", "apply", "continued")
    assert project.outputs() == {name: content for name, content in expected.items() if name != "dvc.lock"}
    assert not list(project.folder.glob(".dvc/tmp/checkpoints/*"))


@contextmanager
def start(project, **environment):
    """Start `dvc repro` in a process group of its own, and wait for its end; should the test fail, kill it."""
    holder(project).unlink(missing_ok=True)
    with output(project).open("w") as file:
        dvc = subprocess.Popen(
            ["dvc", "repro"],
            cwd=project.folder,
            env={**project.environment, **environment},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with dvc:
        try:
            yield dvc
        except BaseException:
            if stage := stage_at_work(project):
                stage.kill()
            dvc.kill()
            raise


def output(project):
    return project.folder.parent / "printed"


def holder(project):
    return project.folder / ".dvc/tmp/running/stage.holder"


def stage_at_work(project):
    """Return the process of the last stage that began, if it is still there."""
    if holder(project).exists():
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(int(holder(project).read_text().split()[-1]))


def wait_for(condition):
    """Return what `condition` gives once it is true; fail after a minute."""
    for _ in range(600):
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("a minute has passed")


@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="needs two cores, or there is one worker")
def test_a_worker_that_is_killed_ends_the_stage_and_the_next_run_continues(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    project.set_param("train.shards", 4)
    project.set_param("train.epochs", 40)
    alone = project.copy(tmp_path / "alone")
    alone.environment["WORLD_SIZE"] = "1"
    alone.succeed("dvc", "repro")
    with start(project) as running:
        wait_for(lambda: list(project.folder.glob(".dvc/tmp/checkpoints/*/train.safetensors")))
        (worker,) = stage_at_work(project).children()
        worker.kill()
        assert running.wait(60) != 0
    printed = output(project).read_text()
    assert re.search(r"^error: worker \d of \d has ended with exit code -9; run `dvc repro` again", printed, re.M)
    assert "Traceback" not in printed
    project.environment["WORLD_SIZE"] = "1"
    assert re.search(CONTINUING, project.succeed("dvc", "repro"))
    assert project.outputs() == alone.outputs()
