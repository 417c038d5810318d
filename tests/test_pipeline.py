"""The pipeline as people run it: through DVC, on tiny data, in a repository of its own."""

import hashlib
import json
import re
import shutil
import subprocess

import pytest
import vl_convert
import yaml
from conftest import ROOT, Project

from digitsum.data import idx
from digitsum.model.network import load_model

STAGES = ("fetch", "pair", "train", "evaluate")


def stages_run(printed):
    return [stage for stage in STAGES if f"Running stage '{stage}'" in printed]


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
    project.reproduce()
    assert project.outputs().keys() - before.keys() == {f"data/raw/{idx.TEST_LABELS}"}


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
