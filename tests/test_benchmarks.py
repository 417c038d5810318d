"""The benchmark: peers as they were published, a clock that stops at the goal, and a table of what was measured."""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from torch.nn import functional

from benchmarks import costs, growth, held_out, speed
from benchmarks.peers import PEERS, Items
from digitsum.pairing.pairs import make_splits
from digitsum.data.splits import load_split, save_split
from digitsum.core.errors import DigitsumError
from digitsum.core.params import load_params
from studies.measuring import train_network


@pytest.fixture
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_trains_and_answers(name, raw):
    test = make_splits(raw, 50, 1, 0)["test"]
    answers = next(PEERS[name](raw, 0, torch.device("cpu")))
    images, _, numbers = test[:3]
    digit, total = answers(images, numbers)
    assert digit.shape == (3, 10)
    assert (total is not None) == name.startswith("seed")
    assert total is None or total.shape == (3, 19)
    assert 0 <= speed.score(answers, test)[0] <= 1


def test_numbers_of_the_older_solutions_are_redrawn_or_fixed_as_they_were(raw):
    fixed, redrawn = Items(raw, redraw=False), Items(raw, redraw=True)
    assert len({fixed[5][2] for _ in range(20)}) == 1
    assert len({redrawn[5][2] for _ in range(20)}) > 1
    _, digit, number, total = fixed[7]
    assert total == digit + number


def test_the_clock_stops_at_the_first_state_that_reaches_the_goal_or_at_the_last(raw, in_root):
    test = make_splits(raw, 50, 1, 0)["test"]

    def answers_right(share):
        def answers(images, numbers):
            digits = torch.stack([(test.images == image).all(dim=(1, 2)).nonzero()[0, 0] % 10 for image in images])
            wrong = torch.arange(len(digits)) >= share * len(digits)
            return functional.one_hot((digits + wrong) % 10, 10).float(), None

        return answers

    states = iter([answers_right(0.5), answers_right(1.0), answers_right(0.2)])
    *_, epochs, digit, total = speed.time_to_goal(states, test)
    assert (epochs, digit, total) == (2, 1.0, None)
    *_, epochs, digit, total = speed.time_to_goal(islice(iter([answers_right(0.5)] * 4), 3), test)
    assert (epochs, digit, total) == (3, 0.5, None)


def test_more_images_and_more_pairs_make_a_split_that_training_takes(raw, tmp_path):
    split = make_splits(raw, 50, 1, 0)["train"]
    save_split(tmp_path / "split", growth.enlarge(split, 3, 4))
    larger = load_split(tmp_path / "split")
    assert (len(larger.images), len(larger)) == (3 * len(split.images), 12 * len(split.images))
    assert larger.images[len(split.images) :].equal(split.images.repeat(2, 1, 1))


def test_operations_are_counted_a_multiplication_and_an_addition_as_two():
    assert costs.flop_of(lambda: torch.ones(10, 20) @ torch.ones(20, 30)) == 2 * 10 * 20 * 30


def test_the_network_of_cdeotte_has_as_many_weights_as_published():
    state = costs.cdeotte().state_dict()
    assert sum(tensor.numel() for name, tensor in state.items() if "num_batches" not in name) == 327_242


@pytest.mark.parametrize("recipe", sorted(path.name for path in (ROOT / "recipes").iterdir()))
def test_a_recipe_means_in_the_benchmark_what_it_means_to_dvc(recipe, project, in_root, monkeypatch):
    lines = (ROOT / "recipes" / recipe).read_text().split()
    monkeypatch.chdir(project.folder)
    expected = speed.read_recipe(Path("recipes") / recipe)
    for line in lines:
        key, value = line.split("=")
        project.set_param(key, yaml.safe_load(value))
    for stage, group in (("pair", "pair"), ("train", "model"), ("train", "train")):
        assert vars(getattr(expected, group)) == vars(getattr(speed.load_params(stage), group))


def test_the_table_is_that_of_the_runs_with_the_present_recipe(in_root):
    found = json.loads(speed.RESULTS.read_text())
    runs = [run for run in speed.read_rows(speed.RUNS) if run["measured_on"] == found["measured_on"]]
    assert speed.results(runs, found["measured_on"], found["clock"]) == found, "run `make bench`"
    assert speed.markdown(found) in Path("README.md").read_text(), "run `make bench`"


def test_what_another_machine_took_is_never_said_of_this_one(in_root, tmp_path, monkeypatch, raw):
    trained = []
    monkeypatch.setattr(speed, "time_to_goal", lambda *_: trained.append(1) or (2.0, 1.0, 1, 0.99, None))
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(speed.idx, "read_raw", lambda *_: raw)
    monkeypatch.setattr(speed, "load_split", lambda path: make_splits(raw, 50, 1, 0)[path.stem])
    for name in ("RUNS", "RESULTS", "README"):
        shutil.copy(getattr(speed, name), tmp_path)
        monkeypatch.setattr(speed, name, tmp_path / getattr(speed, name).name)
    committed = len(speed.read_rows(speed.RUNS))
    for where, options, runs in (("here", [], 23), ("here", [], 23), ("there", [], 46), ("there", ["--threads=2"], 69)):
        monkeypatch.setattr(speed, "machine", lambda _, where=where: where)
        monkeypatch.setattr(sys, "argv", ["speed", *options])
        speed.main()
        assert len(trained) == len(speed.read_rows(speed.RUNS)) - committed == runs
        found = json.loads(speed.RESULTS.read_text())
        assert found["measured_on"].startswith(where)
        assert found["cpu_seconds"]["tuomaso"] == {"median": 2.0, "min": 2.0, "max": 2.0}
        assert found["accuracy"]["quick"]["n"] == 10


def test_what_was_measured_holds_what_the_readme_promises(in_root):
    found = json.loads(speed.RESULTS.read_text())
    assert found["accuracy"]["quick"]["n"] >= 10
    assert min(found["accuracy"]["quick"]["mean"], found["sum_accuracy"]["quick"]["mean"]) >= 0.99
    assert found["ratio"]["quick_over_tuomaso"] <= 1 / 5
    assert found["ratio"]["quick_over_pytorch_examples"] <= 1 / 50
    for name in ("seed_concat", "seed_add"):
        assert found["ratio"][f"quick_over_{name}"] <= 1 / 100 or found["reached"][name] == 0


@pytest.mark.parametrize(("fold", "start", "end"), [(0, 333, 400), (1, 266, 333), (5, 0, 66)])
def test_what_is_held_out_follow_one_another_and_nothing_is_of_the_test_split(fold, start, end, raw):
    splits = make_splits(held_out.hold_out(raw, fold), 0, 1, 0)
    held, kept = slice(start, end), [*range(start), *range(end, 400)]
    assert splits["test"].images.equal(torch.from_numpy(raw.train_images[held].copy()))
    assert splits["test"].digits.tolist() == raw.train_labels[held].tolist()
    assert splits["train"].images.equal(torch.from_numpy(raw.train_images[kept].copy()))
    assert splits["train"].digits.tolist() == raw.train_labels[kept].tolist()


def test_every_fold_is_trained_and_scored_and_their_mean_is_given(raw, in_root, monkeypatch, capsys):
    monkeypatch.setattr(held_out, "read_raw", lambda *_: raw)
    changes = ["train.epochs=1", "train.batch_size=16", "train.threads=1", "model.trunk=small"]
    monkeypatch.setattr(sys, "argv", ["held_out", "--folds", "2", *changes])
    held_out.main()
    found = re.findall(r"^(.+): errors ([\d.]+) %, NLL ([\d.]+), ", capsys.readouterr().out, re.M)
    first, second, mean = ([float(value) for value in values] for _, *values in found)
    assert [name for name, *_ in found] == ["fold 0", "fold 1", "mean"]
    assert first != second
    assert mean == pytest.approx([(a + b) / 2 for a, b in zip(first, second, strict=True)], abs=0.01)


def test_networks_that_differ_in_how_sure_they_are_have_the_same_least_nll():
    logits, digits = torch.randn(200, 10, generator=torch.Generator().manual_seed(0)), torch.arange(200) % 10
    logits[range(200), digits] += 3
    least = held_out.least_nll(logits, digits)
    assert least == pytest.approx(held_out.least_nll(5 * logits, digits), rel=1e-4)
    assert all(least <= functional.cross_entropy(logits / heat, digits) + 1e-6 for heat in (0.5, 0.8, 1, 1.3, 2))


def test_seconds_of_other_numerics_than_pytorch_was_imported_with_are_not_measured(raw, in_root):
    training = make_splits(raw, 50, 1, 0)["train"]
    with pytest.raises(DigitsumError, match=r"counts before PyTorch is imported: set native in params\.yaml$"):
        train_network(load_params("train", changes=["train.numerics=native"]), training, training)


@pytest.mark.parametrize("module", ["benchmarks.held_out", "benchmarks.costs", "studies.seeds"])
def test_a_measurement_without_a_project_ends_in_one_line(module, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", module], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: dvc.yaml is not in this folder; run from the project's root, as DVC does\n"


def test_the_costs_of_a_step_are_measured_and_written(raw, tmp_path, monkeypatch):
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("benchmarks", "data/paired"):
        (tmp_path / folder).mkdir(parents=True)
    save_split(tmp_path / "data/paired/train.safetensors", make_splits(raw, 50, 1, 0)["train"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(costs, "REPEATS", 1)
    monkeypatch.setattr(costs, "run_alone", lambda *_, **__: (0, 0, 1.0))  # whole epochs, in a process of their own
    readme = tmp_path / "benchmarks/README.md"
    readme.write_text(f"{costs.BEGIN}\n{costs.END}\n")
    costs.main()
    assert "| whole step |" in readme.read_text()
    assert "takes 163 TFLOP" in readme.read_text()
