"""Bad input ends in one clear line, exit code not 0, nothing half-written, and the next good run recovers."""

import shutil

import pytest
from harness.project import Project

from digitsum.mnist import idx

TRAINING, MODEL = "data/paired/train.safetensors", "models/digitsum.safetensors"
WRONG = "is not the file that params.yaml asks for"


def fail_in_one_line(project, *command):
    """Run a command that must fail with one line of error; return that line, and all that was printed."""
    printed = project.fail(*command)
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, printed
    return errors[0], printed


def forge(project, name):
    path = project.folder / name
    path.write_bytes(path.read_bytes()[:-1] + b"\7")


def cut(project, name):
    path = project.folder / name
    path.write_bytes(path.read_bytes()[:1000])


def delete(project, name):
    (project.folder / name).unlink()


def make_a_file_of(project, folder):
    shutil.rmtree(project.folder / folder)
    (project.folder / folder).write_text("")


@pytest.mark.parametrize(
    ("stage", "spoil", "what", "message"),
    [
        ("pair", cut, [f"data/raw/{idx.TRAIN_IMAGES}"], f"data/raw: {idx.TRAIN_IMAGES} {WRONG}: 1,000 bytes"),
        ("pair", forge, [f"data/raw/{idx.TRAIN_LABELS}"], f"data/raw: {idx.TRAIN_LABELS} {WRONG}"),
        ("pair", delete, [f"data/raw/{idx.TEST_IMAGES}"], f"{idx.TEST_IMAGES} is missing; `dvc repro fetch` brings it"),
        ("pair", forge, [f"data/raw/{idx.TEST_LABELS}"], f"data/raw: {idx.TEST_LABELS} {WRONG}"),
        ("train", delete, [TRAINING], f"{TRAINING} is missing; `dvc repro` makes it"),
        ("evaluate", delete, [MODEL], f"{MODEL} is missing; `dvc repro` makes it"),
        ("evaluate", make_a_file_of, ["metrics"], "(metrics)"),
        ("pair", Project.set_param, ["pair.pairs_per_image", 0], "params.yaml: pair.pairs_per_image is 0, expected"),
        ("train", Project.set_param, ["train.lr", 1e30], "training diverged"),
    ],
)
def test_bad_input_ends_a_stage_in_one_clear_line_and_the_next_good_run_recovers(project, stage, spoil, what, message):
    before = project.outputs()
    spoil(project, *what)
    error, _ = fail_in_one_line(project, "python", "-m", "stages", stage)
    assert message in error
    assert not list(project.folder.rglob("*.tmp"))
    project.succeed("git", "reset", "--quiet", "--hard")
    project.reproduce()
    assert project.outputs() == before


def test_a_fetch_without_any_source_fails_through_dvc_and_the_next_run_recovers(project):
    before, good_mirror = project.outputs(), project.environment["MNIST_MIRROR"]
    shutil.rmtree(project.folder / "data/raw")
    # A proxy that nobody answers at keeps the real sources out of reach.
    dead = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "HTTP", "HTTPS", "npm_config")}
    project.environment |= {"MNIST_MIRROR": "/nowhere", "npm_config_fetch_retries": "0", **dead}
    error, printed = fail_in_one_line(project, "dvc", "repro", "fetch")
    assert "no source gave MNIST." in error
    assert printed.count("\n  - ") == 4
    assert not list((project.folder / "data").rglob("*ubyte*"))
    project.environment["MNIST_MIRROR"] = good_mirror
    project.succeed("dvc", "repro", "fetch")
    assert project.outputs() == before


def test_too_little_memory_is_named(project):
    imports = "import torch; from digitsum.core.errors import one_line_errors"
    error, _ = fail_in_one_line(project, "python", "-c", f"{imports}\nwith one_line_errors(): torch.empty(2**50)")
    assert error.startswith("error: out of memory")
