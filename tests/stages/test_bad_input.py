"""Bad input ends in one clear line, exit code not 0, nothing half-written, and the next good run recovers."""

import os
import shutil
import sys

import pytest
import torch
from harness.project import copy_project

from digitsum.mnist import idx


def assert_one_clear_line(printed, message):
    """Check that what a stage printed names its error in one line, without a traceback."""
    assert "Traceback" not in printed, printed
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, printed
    assert message in errors[0]


def spoil_raw(name, change):
    def spoil(project):
        path = project.folder / "data/raw" / name
        # DVC links or copies from its cache: write a new file, so that the cache stays whole.
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(change(content))

    return spoil


BAD_STAGE_INPUT = {
    "truncated raw file": (
        "pair",
        spoil_raw(idx.TRAIN_IMAGES, lambda content: content[:1000]),
        "data/raw: train-images-idx3-ubyte is not the file that params.yaml asks for: 1,000 bytes",
    ),
    "forged raw file": (
        "pair",
        spoil_raw(idx.TRAIN_LABELS, lambda content: content[:-1] + b"\7"),
        "data/raw: train-labels-idx1-ubyte is not the file that params.yaml asks for",
    ),
    "missing raw file": (
        "pair",
        lambda project: (project.folder / "data/raw" / idx.TEST_IMAGES).unlink(),
        "t10k-images-idx3-ubyte is missing; `dvc repro fetch` brings it",
    ),
    "missing training split": (
        "train",
        lambda project: (project.folder / "data/paired/train.safetensors").unlink(),
        "data/paired/train.safetensors is missing; `dvc repro` makes it",
    ),
    "missing model": (
        "evaluate",
        lambda project: (project.folder / "models/digitsum.safetensors").unlink(),
        "models/digitsum.safetensors is missing; `dvc repro` makes it",
    ),
    "unknown fusion": (
        "train",
        lambda project: project.set_param("model.fusion", "glue"),
        'model.fusion is "glue", expected one of shift, concat, add',
    ),
    "threads: ten": (
        "train",
        lambda project: project.set_param("compute.threads", "ten"),
        'params.yaml: compute.threads is "ten", expected a whole number of at least 1',
    ),
    "pairs_per_image: 0": (
        "pair",
        lambda project: project.set_param("pair.pairs_per_image", 0),
        "params.yaml: pair.pairs_per_image is 0, expected a whole number of at least 1",
    ),
    "a loss that becomes NaN": (
        "train",
        lambda project: project.set_param("train.lr", 1e30),
        "training diverged",
    ),
    "a folder that is a file": (
        "evaluate",
        lambda project: (shutil.rmtree(project.folder / "metrics"), (project.folder / "metrics").write_text("")),
        "(metrics)",
    ),
}


@pytest.mark.parametrize("fault", BAD_STAGE_INPUT)
def test_bad_input_ends_a_stage_in_one_clear_line_and_the_next_good_run_recovers(project, fault):
    stage, spoil, message = BAD_STAGE_INPUT[fault]
    before = project.outputs()
    spoil(project)
    code, printed = project.stage(stage)
    assert code == 1
    assert_one_clear_line(printed, message)
    assert not list(project.folder.rglob("*.tmp"))
    project.succeed("git", "checkout", "--quiet", "--force", ".")
    if not (project.folder / "metrics").is_dir():
        (project.folder / "metrics").unlink()
        project.succeed("git", "checkout", "--quiet", ".")
    project.reproduce()
    assert project.outputs() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_fails_through_dvc_in_one_line(project):
    code, printed = project.run("dvc", "exp", "run", "-S", "train.device=cuda", "-S", "train.epochs=1")
    assert code != 0
    assert_one_clear_line(printed, "params.yaml: train.device is cuda, but this machine has none")
    assert "failed to reproduce 'train'" in printed


def test_a_fetch_without_any_source_fails_through_dvc_and_the_next_run_recovers(tmp_path, tiny_mnist):
    folder = tmp_path / "project"
    folder.mkdir()
    project = copy_project(folder, tiny_mnist)
    good_mirror, no_mirror = project.environment["MNIST_MIRROR"], tmp_path / "empty"
    # A proxy that nobody answers at keeps the real sources out of reach.
    dead = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "HTTP", "HTTPS", "npm_config")}
    project.environment |= {"MNIST_MIRROR": str(no_mirror), "npm_config_fetch_retries": "0", **dead}
    code, printed = project.run("dvc", "repro", "fetch")
    assert code != 0
    assert_one_clear_line(printed, "no source gave MNIST.")
    assert printed.count("\n  - ") == 4
    assert not (folder / "dvc.lock").exists()
    assert not list((folder / "data").rglob("*ubyte*"))
    project.environment["MNIST_MIRROR"] = good_mirror
    project.succeed("dvc", "repro", "fetch")
    assert {path.name for path in (folder / "data/raw").iterdir()} == set(idx.FILES)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv, to make even root respect permissions")
def test_a_read_only_folder_is_named(project):
    shutil.rmtree(project.folder / "data/raw")
    (project.folder / "data").chmod(0o555)
    capabilities = "-dac_override,-dac_read_search,-fowner"
    confined = ("setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}") if os.getuid() == 0 else ()
    code, printed = project.run(*confined, sys.executable, "-m", "stages", "fetch")
    assert code == 1
    assert_one_clear_line(printed, "Permission denied (data/raw)")
    (project.folder / "data").chmod(0o755)
    project.reproduce()
    assert project.succeed("git", "status", "--porcelain") == ""


def test_too_little_memory_is_named(project):
    code, printed = project.run(
        *(sys.executable, "-c"),
        "import torch; from digitsum.core.errors import one_line_errors as one\nwith one(): torch.empty(2**50)",
    )
    assert code == 1
    assert_one_clear_line(printed, "error: out of memory")


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files, which Windows has not")
def test_a_disk_that_fills_up_leaves_nothing_half_written(project):
    """A limit on file size stands for the full disk: the write stops in the middle in the same way."""
    import resource

    shutil.rmtree(project.folder / "data/raw")
    limit = 100_000
    code, printed = project.run(
        *(sys.executable, "-m", "stages", "fetch"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)),
    )
    assert code == 1
    assert_one_clear_line(printed, "File too large (data/raw/train-images-idx3-ubyte)")
    assert not list(project.folder.glob("data/raw/*"))
    assert not list(project.folder.rglob("*.tmp"))
    project.reproduce()
    assert project.succeed("git", "status", "--porcelain") == ""
