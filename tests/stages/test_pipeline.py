"""The pipeline as people run it, on tiny data; and what is committed."""

import json
import os
import subprocess
import sys

import torch
from harness.project import ROOT, STAGES, stages_run

from digitsum.data.tensors import load_tensors
from digitsum.model.network import load_model


def test_the_pipeline_learns_the_tiny_data(finished):
    metrics = json.loads((finished.folder / "metrics/evaluate.json").read_text())
    assert metrics["joint"]["accuracy"] > 0.9
    assert load_model(finished.folder / "models/digitsum.safetensors").model.fusion == "shift"


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
    printed = project.succeed("dvc", "repro", "--force", "--no-run-cache")
    assert stages_run(printed) == STAGES
    after = project.outputs()
    assert {name for name in before | after if before.get(name) != after.get(name)} == set()


def test_a_stage_starts_without_the_libraries_that_it_needs_late_or_never():
    """Each takes seconds to import; a wrong parameter shall be reported before."""
    for modules, absent in [
        ("stages.fetch", {"torch", "sklearn", "matplotlib", "dvc"}),
        ("stages.pair, stages.train, stages.evaluate", {"sklearn", "matplotlib", "dvc", "torchvision"}),
    ]:
        code = f"import sys, {modules}; print(*sys.modules)"
        command = [sys.executable, "-c", code]
        loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert not absent & set(loaded.split())


def test_make_lets_python_keep_what_it_compiles():
    """Without that every stage compiles PyTorch and DVC again, which takes as long as a rerun without training."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = ["make", "-f", "Makefile", "-f", "-", "show"]  # with a target of its own; --eval is not in older makes
    shown = subprocess.check_output(command, cwd=ROOT, env=environment, text=True, input="show: ; @env")
    assert "PATH=" in shown
    assert "PYTHONDONTWRITEBYTECODE" not in shown


def test_the_committed_metrics_reach_what_the_project_promises():
    metrics = json.loads((ROOT / "metrics/evaluate.json").read_text())
    for answer in ("digit", "sum", "joint"):
        assert metrics[answer]["accuracy"] >= 0.995


def test_no_large_file_is_in_git():
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in names if (ROOT / name).is_file() and (ROOT / name).stat().st_size > 2**20] == []


def test_the_number_of_shards_decides_on_the_weights_and_stands_beside_them(project):
    model = project.folder / "models/digitsum.safetensors"
    one, told_one = load_tensors(model)
    one = {name: tensor.clone() for name, tensor in one.items()}  # they are read from their file when they are used
    project.set_param("train.shards", 2)
    project.reproduce()
    two, told_two = load_tensors(model)
    assert (told_one["trained"]["shards"], told_two["trained"]["shards"]) == (1, 2)
    assert not all(torch.equal(one[name], two[name]) for name in one)


def test_without_a_validation_split_no_temperature_is_fitted_and_info_says_so(project):
    model = project.folder / "models/digitsum.safetensors"
    assert load_tensors(model)[0]["digit_temperature"] < 1
    assert "calibrated_on 50 validation pairs" in project.succeed("digitsum", "info", str(model))
    project.set_param("pair.validation_size", 0)
    project.reproduce()
    assert load_tensors(model)[0]["digit_temperature"] == 1
    assert "calibrated_on nothing" in project.succeed("digitsum", "info", str(model))
