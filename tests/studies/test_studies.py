"""The studies: what is said of them is what their trials gave, and trials rerun when their results would change."""

import json
import re
import shutil
from statistics import mean

import pytest
import torch
import yaml
from harness.project import ROOT, Project, copy_files
from harness.trials import interrupt_and_continue, run_trial

from digitsum.core.errors import DigitsumError
from digitsum.core.files import leaves
from digitsum.core.runner import Stage
from digitsum.model.fusions import FUSIONS
from studies import curves, probe, tables, trial
from studies.fusions import compare
from tools.tables import marks

TRIALS = ["fusions", "baseline_concat", "baseline_add"]


def run_of(share):
    """Return the entry of a seed in the results, every accuracy of which is `share`."""
    scores = {answer: {"accuracy": share} for answer in ("digit", "sum", "joint")}
    return scores | {"all_numbers": {"joint_accuracy": share}, "sums_correct": [[share] * 10] * 10}


def read_json(name):
    return json.loads((ROOT / "studies" / name).read_text())


# --- What is said of trials ----------------------------------------------------------------------------------------


def test_curves_are_compared_epoch_by_epoch_and_in_the_mean_of_the_last_three():
    theirs, ours = [float(value) for value in range(30)], [float(value) for value in range(30)]
    ours[0], ours[4], ours[-1] = 99.0, 4.5, 28.7
    closeness = curves.compare(theirs, ours)
    assert closeness["epoch 1"] == {"log": 0.0, "ours": 99.0}
    assert closeness["epoch 10"] == {"log": 9.0, "ours": 9.0}
    assert closeness["last three"] == {"log": 28.0, "ours": 27.9}
    assert closeness["largest difference after epoch 1"] == 0.5


def test_fusions_are_ranked_and_drawn_from_their_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    variants = {"shift": [0.99] * 3, "film": [0.985, 0.99, 0.998], "sums_alone": [0.97] * 3}
    variants |= {"add": [0.95] * 3, "concat": [0.98, 0.94, 0.94]}  # concat has the higher mean, add wins more often
    variants |= {f"{fusion}_{images}": [0.8] * 3 for fusion in ("shift", "film") for images in (1000, 100)}
    for name, scores in variants.items():
        seeds = {seed: run_of(share) for seed, share in enumerate(scores)}
        (tmp_path / f"results/{name}.json").write_text(json.dumps({"weights": 7, "seeds": seeds}))
    compare.main(None)
    compared = json.loads((tmp_path / "comparison.json").read_text())
    fusions = compared["fusions"]
    # On a tie of wins, as of film and shift, the higher mean comes first.
    assert list(fusions) == ["film", "shift", "add", "concat", "sums_alone"]
    assert fusions["shift"]["beats"] == {"film": 0.5, "add": 1.0, "concat": 1.0}
    assert fusions["add"]["beats"] == {"film": 0.0, "shift": 0.0, "concat": 0.67}
    assert fusions["film"]["joint"] == {"mean": 0.991, "sd": 0.00656}
    assert {fusion: list(sizes) for fusion, sizes in compared["fewer_labels"].items()} == {
        fusion: ["100", "1000", "55000"] for fusion in ("film", "shift")
    }
    for figure in ("accuracies", "sums", "fewer_labels"):
        assert (tmp_path / f"plots/{figure}.png").read_bytes().startswith(b"\x89PNG")


# --- The committed results -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tables.TABLES)
def test_the_table_in_the_readme_is_that_of_the_results(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    begin, end = marks(name, tables.COMMAND)
    assert f"{begin}\n{tables.TABLES[name]()}\n{end}" in (ROOT / tables.README).read_text(), "run `make tables`"


@pytest.mark.parametrize("study", TRIALS)
def test_a_study_has_the_results_of_its_variants_with_its_seeds_and_no_others(study, monkeypatch):
    monkeypatch.chdir(ROOT / "studies" / study)
    stage = Stage("trial")
    variants = stage.declared.values["variants"]
    results = compare.read_results(ROOT / "studies" / study / "results")
    assert results.keys() == variants.keys()
    for name, runs in results.items():
        variant = trial.read_variant(stage, name)
        assert list(runs) == variant.seeds, name
        for run in runs.values():
            assert set(variant.keep) == set(trial.PARTS) & run.keys(), name


def test_all_fusions_are_compared_over_five_seeds():
    fusions = read_json("fusions/comparison.json")["fusions"]
    assert all(result["seeds"] == 5 for result in fusions.values())
    compared = {name for name, result in fusions.items() if "beats" in result}
    assert (
        compared == set(FUSIONS) & yaml.safe_load((ROOT / "studies/fusions/params.yaml").read_text())["variants"].keys()
    )


@pytest.mark.parametrize(
    ("file", "figure", "least", "most"),
    [
        ("fusions/comparison.json", "fusions.sums_alone.digit.mean", 0.99, 1),
        ("baseline_concat/curves.json", "digit_loss.last three.log", 1.473, 1.475),
        ("baseline_concat/curves.json", "digit_loss.last three.ours", 1.4725, 1.4735),
        ("baseline_concat/curves.json", "last_batch.images", 10_000 % 128, 16),
        ("baseline_concat/curves.json", "last_batch.digits_correct.log, mean of the last ten", 16, 16),
        ("baseline_concat/curves.json", "last_batch.digits_correct.ours", 16, 16),
        ("baseline_concat/curves.json", "sums_never_predicted", 9, 9),
        ("baseline_add/results/as_it_was_40_epochs.json", "seeds.0.sum.accuracy", 0.195, 0.205),
    ],
)
def test_a_result_is_what_the_readme_says_of_it(file, figure, least, most):
    assert least <= leaves(read_json(file))[figure] <= most


def test_the_sum_loss_of_the_baseline_concat_ends_as_in_its_log():
    loss = read_json("baseline_concat/curves.json")["sum_loss"]
    assert loss["last three"]["ours"] == pytest.approx(loss["last three"]["log"], rel=0.02)
    assert all(2.51 <= one <= 2.57 for one in loss["seeds"])


@pytest.mark.parametrize(
    ("baseline", "answer", "least"),
    [("baseline_concat", "digit", 0.985), ("baseline_concat", "sum", 0.98), ("baseline_add", "digit", 0.985)],
)
def test_a_baseline_learns_on_logits(baseline, answer, least):
    runs = compare.read_results(ROOT / "studies" / baseline / "results")["logits"]
    assert mean(compare.values(runs, answer)) >= least


def test_the_baseline_add_here_is_as_good_as_its_log_says():
    closeness = read_json("baseline_add/curves.json")
    for epoch in ("epoch 10", "epoch 20", "epoch 40"):
        digit, *losses = (closeness[score][epoch] for score in ("digit_accuracy", "digit_loss", "sum_loss"))
        assert digit["ours"] == pytest.approx(digit["log"], abs=0.002)
        assert sum(one["ours"] for one in losses) == pytest.approx(sum(one["log"] for one in losses), rel=0.03)


def test_the_run_of_40_epochs_begins_with_the_ten_epochs_of_the_baseline_add_and_remembers_half_of_the_sums():
    names = ("as_it_was", "as_it_was_40_epochs")
    ten, forty = (leaves(read_json(f"baseline_add/results/{name}.json")["seeds"]["0"]["curves"]) for name in names)
    assert ten == {name: curve[:10] for name, curve in forty.items()}
    assert forty["sum_accuracy.training"][-1] == pytest.approx(0.52, abs=0.005)


# --- What a probe sees ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("study", TRIALS)
def test_a_probe_has_every_phase_of_its_variants_schedule_and_few_steps(study, monkeypatch):
    monkeypatch.chdir(ROOT / "studies" / study)
    stage = Stage("probe")
    for name in stage.declared.values["variants"]:
        long = trial.read_variant(stage, name)
        short = probe.shortened(long, 60_000)
        train, pair, full = short.training.train, short.pair, long.training.train
        assert (train.clean_epochs > 0) == (full.clean_epochs > 0), name
        assert (train.epochs > train.clean_epochs) == (full.epochs > full.clean_epochs), name
        steps = train.epochs * -(-pair.training_size // train.batch_size)
        assert 10 <= steps <= 40, name
        assert pair.training_size % train.batch_size, f"{name}: the last batch is a part of one, as in training"
        same = {"epochs": 0, "clean_epochs": 0}
        assert vars(train) | same == vars(full) | same


@pytest.mark.parametrize("study", TRIALS)
def test_trials_depend_on_their_variant_and_their_probe_and_on_nothing_else(study):
    block = yaml.safe_load((ROOT / "studies" / study / "dvc.yaml").read_text())["stages"]["trial"]["do"]
    assert "deps" not in block
    assert block["params"] == ["seeds", "keep", "variants.${key}", {"probes.json": ["variants.${key}"]}]


def test_a_key_that_a_study_leaves_out_is_that_of_the_pipeline(monkeypatch):
    monkeypatch.chdir(ROOT / "studies/fusions")
    stage = Stage("trial")
    del stage.declared.values["train"]["precision"]
    assert trial.read_variant(stage, "film").training.train.precision == "float32"
    del stage.declared.values["train"]["epochs"]
    pipeline = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert trial.read_variant(stage, "film").training.train.epochs == pipeline["train"]["epochs"]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("flim", {}, 'a variant is "flim", expected one of shift, concat'),
        ("film", {"model.fusoin": "film"}, "variants.film sets model.fusoin, which is not a parameter"),
        ("film", {"modle.fusion": "film"}, "variants.film sets modle.fusion, which is not a parameter"),
        ("film", {"model.fusion": 3}, "model.fusion is 3, expected a name"),
        ("film", {"seeds": 3}, "seeds of the variant film are 3, expected a list"),
        ("film", {"keep": ["curve"]}, 'keep of the variant film is "curve", expected one of sums_correct, curves'),
    ],
)
def test_a_wrong_variant_ends_in_one_line(name, changes, message, monkeypatch):
    monkeypatch.chdir(ROOT / "studies/fusions")
    stage = Stage("trial")
    stage.declared.values["variants"]["film"] = changes
    with pytest.raises(DigitsumError, match=re.escape(message)):
        trial.read_variant(stage, name)


# --- Studies on tiny data ------------------------------------------------------------------------------------------


fusions_study = pytest.mark.parametrize("study", ["fusions"], indirect=True)


@fusions_study
def test_an_interrupted_trial_keeps_the_seeds_that_are_done_and_ends_with_the_same_file(study, monkeypatch, capsys):
    monkeypatch.chdir(study.folder)
    probe.main(Stage("probe"))
    trained = interrupt_and_continue(monkeypatch, trial, "film", "train_and_score")
    seeds = json.loads((study.folder / "results/film.json").read_text())["seeds"]
    assert list(seeds) == ["0", "1"]
    assert seeds["0"] != seeds["1"]
    assert re.search("continuing from .*/studies/.dvc/tmp/checkpoints/.*/film.json: seeds 0", capsys.readouterr().out)
    assert not list(study.folder.glob("../.dvc/tmp/checkpoints/*"))

    trained.clear()
    with pytest.raises(KeyboardInterrupt):
        run_trial(trial, "film")
    study.set_param("train.lr", 0.02)
    probe.main(Stage("probe"))
    run_trial(trial, "film")
    assert trained == [0, 1, 0, 1], "seeds trained with other parameters are not continued from"


@fusions_study
def test_a_trial_refuses_code_or_parameters_that_were_edited_after_the_probe(study, monkeypatch):
    monkeypatch.chdir(study.folder)
    with pytest.raises(DigitsumError, match="probes.json has no probe of film; run `dvc repro`"):
        trial.main(Stage("trial"), "film")
    stage = Stage("probe")
    (study.folder / "probes.json").write_text(
        json.dumps({"inputs": trial.inputs_digest(stage), "variants": {"film": "0123"}})
    )
    assert trial.read_probe(Stage("trial"), "film") == "0123"
    fusions = study.folder / "../src/digitsum/model/fusions.py"
    fusions.write_text(fusions.read_text() + "# edited\n")
    with pytest.raises(DigitsumError, match=r"they changed since; run `dvc repro` again"):
        trial.read_probe(Stage("trial"), "film")


@fusions_study
def test_missing_data_is_named_with_the_folder_to_fetch_it_in(study, monkeypatch):
    monkeypatch.chdir(study.folder)
    shutil.rmtree(study.folder / "../../data/raw")
    with pytest.raises(DigitsumError, match="`dvc repro fetch` brings it .in the project's root: cd ../..."):
        probe.main(Stage("probe"))


@pytest.mark.slow
@fusions_study
def test_trials_rerun_when_an_edit_changes_their_bits_and_only_then(study):
    assert study.reproduce() == ["probe", "trial@shift", "trial@film"]
    assert study.reproduce() == []
    fusions = study.folder / "../src/digitsum/model/fusions.py"
    fusions.write_text(fusions.read_text() + "# edited\n")
    assert study.reproduce() == ["probe"]
    fusions.write_text(fusions.read_text() + "\n\ndef unused():\n    return 1\n")
    assert study.reproduce() == ["probe"]
    formula = "relu((1 + scale) * self.hidden(embedding) + shift)"
    assert formula in fusions.read_text()
    fusions.write_text(fusions.read_text().replace(formula, formula.replace("1 + scale", "1 + 1.01 * scale")))
    assert study.reproduce() == ["probe", "trial@film"]
    study.set_param("train.lr", 0.02)
    assert study.reproduce() == ["probe", "trial@shift", "trial@film"]
    assert "up to date" in study.succeed("dvc", "status")

    # What fails or is interrupted leaves the files that git tracks as they were.
    tracked = study.outputs("results"), (study.folder / "probes.json").read_bytes()
    shutil.rmtree(study.folder / "../../data/raw")
    for stage in ("probe", "trial@film"):
        assert "is missing" in study.fail("dvc", "repro", "--force", "--single-item", stage)
    assert (study.outputs("results"), (study.folder / "probes.json").read_bytes()) == tracked


@pytest.mark.slow
@pytest.mark.parametrize("study", ["baseline_concat"], indirect=True)
def test_one_command_trains_a_baseline_and_compares_it_with_its_log(study):
    assert study.reproduce() == ["probe", "trial@as_it_was", "trial@fixed_numbers", "trial@logits", "curves"]
    closeness = json.loads((study.folder / "curves.json").read_text())
    runs = json.loads((study.folder / "results/as_it_was.json").read_text())["seeds"]
    assert closeness["sum_loss"]["epoch 29"]["ours"] == runs["0"]["curves"]["sum_loss"]["validation"][-1]
    assert closeness["sum_loss"]["epoch 29"]["log"] == 2.5778
    assert closeness["last_batch"]["images"] == 100 % 34
    assert len(closeness["sum_loss"]["seeds"]) == 2
    predicted = torch.tensor(runs["0"]["confusion_sum"]).sum(0)
    assert closeness["sums_never_predicted"] == (predicted == 0).sum()
    for figure in ("curves", "confusion_sum"):
        assert (study.folder / f"plots/{figure}.png").read_bytes()
    logits = json.loads((study.folder / "results/logits.json").read_text())["seeds"]
    assert runs["0"]["sum"] != logits["0"]["sum"]


# --- The studies of this repository --------------------------------------------------------------------------------


@pytest.mark.slow
def test_in_a_fresh_clone_without_data_no_result_of_the_studies_is_stale(tmp_path):
    copy_files(tmp_path)
    clone = Project(tmp_path, tmp_path)
    clone.succeed("git", "init", "--quiet")
    assert "up to date" in Project(tmp_path / "studies", tmp_path).succeed("dvc", "status")
    assert "studies" not in clone.succeed("dvc", "dag")
    assert "studies" not in clone.succeed("dvc", "status")
    assert "studies" not in clone.succeed("dvc", "metrics", "show")
