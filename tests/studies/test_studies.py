"""The studies: what is said of them is what their trials gave, and trials rerun when their results would change."""

import json
import re
import shutil
from statistics import mean

import pytest
import yaml
from harness.project import ROOT, Project, copy_files, copy_project
from harness.tiny_mnist import DIGEST_KEYS

from digitsum.core.errors import DigitsumError
from digitsum.core.runner import Stage
from digitsum.model.fusions import FUSIONS
from studies import curves, probe, tables, trial
from studies.fusions import compare
from tools.tables import marks

TRIALS = ["fusions", "baseline_concat", "baseline_add"]


def run_of(digit, total, both):
    return {
        "digit": {"accuracy": digit},
        "sum": {"accuracy": total},
        "joint": {"accuracy": both},
        "all_numbers": {"joint_accuracy": both},
        "weights": 7,
        "sums_correct": [[total] * 10] * 10,
    }


def read_json(name):
    return json.loads((ROOT / "studies" / name).read_text())


# --- What is said of trials ----------------------------------------------------------------------------------------


def test_the_probability_of_beating_counts_paired_seeds_and_ties_for_a_half():
    one = {seed: run_of(1, 1, both) for seed, both in enumerate([0.9, 0.8, 0.7, 0.6])}
    other = {seed: run_of(1, 1, both) for seed, both in enumerate([0.8, 0.8, 0.9, 0.5])}
    assert compare.probability(one, other) == (1 + 0.5 + 0 + 1) / 4
    assert compare.probability(one, other) + compare.probability(other, one) == 1
    with pytest.raises(ValueError, match="no pairs"):
        compare.probability(one, {seed: other[seed] for seed in (0, 1, 2)})


def test_a_fusion_that_wins_with_most_seeds_stands_before_one_with_a_lucky_run():
    steady = {seed: run_of(1, 1, 0.95) for seed in range(3)}
    lucky = {seed: run_of(1, 1, both) for seed, both in enumerate([0.999, 0.94, 0.94])}
    assert mean(compare.values(lucky, "joint")) > 0.95
    assert compare.ranking({"lucky": lucky, "steady": steady}) == ["steady", "lucky"]


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
    variants = {"shift": [0.99] * 3, "film": [0.985, 0.99, 0.998], "add": [0.9] * 3, "sums_alone": [0.97] * 3}
    variants |= {f"{fusion}_{images}": [0.8] * 3 for fusion in ("shift", "film") for images in (1000, 100)}
    for name, scores in variants.items():
        seeds = {seed: run_of(both, both, both) for seed, both in enumerate(scores)}
        (tmp_path / f"results/{name}.json").write_text(json.dumps({"weights": 7, "seeds": seeds}))
    compare.main(None)
    compared = json.loads((tmp_path / "comparison.json").read_text())
    fusions = compared["fusions"]
    assert list(fusions) == ["film", "shift", "add", "sums_alone"]  # on a tie of wins the higher mean comes first
    assert fusions["shift"]["beats"] == {"film": 0.5, "add": 1.0}
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


def test_the_readme_has_the_same_headings_for_every_study():
    headings = ["Question", "How to run", "What is measured", "Results", "Implementation notes"]
    sections = re.split(r"^## ", (ROOT / tables.README).read_text(), flags=re.MULTILINE)
    for section in sections:
        name = section.partition("\n")[0]
        if (ROOT / "studies" / name / "dvc.yaml").exists():
            assert re.findall("^### (.*)$", section, re.MULTILINE) == headings, name


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


def test_fusions_are_compared_over_five_seeds_and_sums_alone_teach_shift_the_digits():
    fusions = read_json("fusions/comparison.json")["fusions"]
    assert all(result["seeds"] == 5 for result in fusions.values())
    assert {name for name, result in fusions.items() if "beats" in result} == {
        name for name in FUSIONS if not name.startswith("baseline_")
    }
    assert fusions["sums_alone"]["digit"]["mean"] >= 0.99


def test_the_baseline_concat_here_is_as_good_as_its_log_says():
    closeness = read_json("baseline_concat/curves.json")
    digit, total = (closeness[score]["last three"] for score in ("digit_loss", "sum_loss"))
    assert digit["log"] == pytest.approx(1.474, abs=0.001)
    assert digit["ours"] == pytest.approx(1.473, abs=0.0005)
    assert total["ours"] == pytest.approx(total["log"], rel=0.02)
    assert all(2.51 <= one <= 2.57 for one in closeness["sum_loss"]["seeds"])


def test_the_log_of_concat_counts_the_last_batch_of_the_test_split():
    last_batch = read_json("baseline_concat/curves.json")["last_batch"]
    assert last_batch["images"] == 10_000 % 128 == 16
    assert last_batch["digits_correct"] == {"log, mean of the last ten": 16, "ours": 16}


def test_nine_sums_are_never_predicted_by_the_baseline_concat():
    confusion = read_json("baseline_concat/results/as_it_was.json")["seeds"]["0"]["confusion_sum"]
    predicted = [sum(row[column] for row in confusion) for column in range(19)]
    assert predicted.count(0) == read_json("baseline_concat/curves.json")["sums_never_predicted"] == 9


def test_the_baseline_concat_learns_both_answers_on_logits():
    runs = compare.read_results(ROOT / "studies/baseline_concat/results")["logits"]
    assert mean(compare.values(runs, "digit")) >= 0.985
    assert mean(compare.values(runs, "sum")) >= 0.98


def test_the_baseline_add_here_is_as_good_as_its_log_says():
    closeness = read_json("baseline_add/curves.json")
    for epoch in ("epoch 10", "epoch 20", "epoch 40"):
        digit, *losses = (closeness[score][epoch] for score in ("digit_accuracy", "digit_loss", "sum_loss"))
        assert digit["ours"] == pytest.approx(digit["log"], abs=0.002)
        assert sum(one["ours"] for one in losses) == pytest.approx(sum(one["log"] for one in losses), rel=0.03)


def test_the_baseline_add_remembers_half_of_the_sums_and_can_add_a_fifth():
    run = read_json("baseline_add/results/as_it_was_40_epochs.json")["seeds"]["0"]
    assert run["curves"]["sum_accuracy"]["training"][-1] == pytest.approx(0.52, abs=0.005)
    assert run["sum"]["accuracy"] == pytest.approx(0.20, abs=0.005)


def test_the_run_of_40_epochs_begins_with_the_ten_epochs_of_the_baseline_add():
    curves_of = {
        name: read_json(f"baseline_add/results/{name}.json")["seeds"]["0"]["curves"]
        for name in ("as_it_was", "as_it_was_40_epochs")
    }
    for score, splits in curves_of["as_it_was"].items():
        for split, curve in splits.items():
            assert curves_of["as_it_was_40_epochs"][score][split][:10] == curve


def test_the_baseline_add_learns_the_digits_on_logits():
    runs = compare.read_results(ROOT / "studies/baseline_add/results")["logits"]
    assert mean(compare.values(runs, "digit")) >= 0.985


# --- What a probe sees ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("study", TRIALS)
def test_a_probe_has_every_phase_of_its_variants_schedule_and_few_steps(study, monkeypatch):
    monkeypatch.chdir(ROOT / "studies" / study)
    stage = Stage("probe")
    for name in stage.declared.values["variants"]:
        long = trial.read_variant(stage, name)
        short = probe.shortened(long, 60_000)
        train, pair = short.training.train, short.pair
        for part in ("warped", "clean"):
            epochs = [
                one.epochs - one.clean_epochs if part == "warped" else one.clean_epochs
                for one in (long.training.train, train)
            ]
            assert (epochs[0] > 0) == (epochs[1] > 0), (name, part)
        steps = train.epochs * -(-pair.training_size // train.batch_size)
        assert 10 <= steps <= 40, name
        assert pair.training_size % train.batch_size, f"{name}: the last batch is a part of one, as in training"
        same = {"epochs": 0, "clean_epochs": 0}
        assert {**vars(train), **same} == {**vars(long.training.train), **same}


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
    ("changes", "message"),
    [
        ({"model.fusoin": "film"}, "variants.film sets model.fusoin, which is not a parameter"),
        ({"modle.fusion": "film"}, "variants.film sets modle.fusion, which is not a parameter"),
        ({"model.fusion": 3}, "model.fusion is 3, expected a name"),
        ({"seeds": 3}, "seeds of the variant film are 3, expected a list"),
        ({"keep": ["curve"]}, 'keep of the variant film is "curve", expected one of sums_correct, curves'),
    ],
)
def test_a_wrong_variant_ends_in_one_line(changes, message, monkeypatch):
    monkeypatch.chdir(ROOT / "studies/fusions")
    stage = Stage("trial")
    stage.declared.values["variants"]["film"] = changes
    with pytest.raises(DigitsumError, match=re.escape(message)):
        trial.read_variant(stage, "film")


def test_an_unknown_variant_ends_in_one_line(monkeypatch):
    monkeypatch.chdir(ROOT / "studies/fusions")
    with pytest.raises(DigitsumError, match="expected one of shift, concat"):
        trial.read_variant(Stage("trial"), "flim")


# --- Studies on tiny data ------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path, tiny_mnist, request):
    """Return one study of a project on tiny data, with two seeds; of the fusions two and no comparison."""
    (tmp_path / "project").mkdir()
    folder = copy_project(tmp_path / "project", tiny_mnist).folder
    (folder / "data/raw").mkdir(parents=True)
    for name, content in tiny_mnist.contents.items():
        (folder / "data/raw" / name).write_bytes(content)
    inner = folder / "studies" / request.param
    for pipeline in (folder / "studies").glob("*/dvc.yaml"):
        if pipeline.parent != inner:
            shutil.rmtree(pipeline.parent)
    for name in ("dvc.lock", "probes.json"):
        (inner / name).unlink()
    for name in ("results", "plots"):
        shutil.rmtree(inner / name)
    project = Project(inner, tiny_mnist.folder)
    for name, digest in tiny_mnist.digests.items():
        project.set_param(f"mnist.{DIGEST_KEYS[name]}", digest)
    project.set_param("train.batch_size", 34)
    params = yaml.safe_load((inner / "params.yaml").read_text())
    params["seeds"] = [0, 1]
    if request.param == "fusions":
        params["pair"]["validation_size"] = 50
        params["variants"] = {name: params["variants"][name] for name in ("shift", "film")}
        pipeline = yaml.safe_load((inner / "dvc.yaml").read_text())
        del pipeline["stages"]["compare"]
        (inner / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    (inner / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return project


fusions_study = pytest.mark.parametrize("study", ["fusions"], indirect=True)


@fusions_study
def test_an_interrupted_trial_keeps_the_seeds_that_are_done_and_ends_with_the_same_file(study, monkeypatch, capsys):
    def run_trial():
        stage = Stage("trial")
        trial.main(stage, "film")
        stage.remove_checkpoints()

    monkeypatch.chdir(study.folder)
    probe.main(Stage("probe"))
    run_trial()
    result = study.folder / "results/film.json"
    uninterrupted = result.read_bytes()
    seeds = json.loads(uninterrupted)["seeds"]
    assert list(seeds) == ["0", "1"]
    assert seeds["0"] != seeds["1"]
    result.unlink()

    trained, train_and_score = [], trial.train_and_score

    def interrupted(variant, seed, *more):
        trained.append(seed)
        if trained == [0, 1]:
            raise KeyboardInterrupt
        return train_and_score(variant, seed, *more)

    monkeypatch.setattr(trial, "train_and_score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_trial()
    assert not result.exists()
    run_trial()
    assert trained == [0, 1, 1]
    assert re.search("continuing from .*/studies/.dvc/tmp/checkpoints/.*/film.json: seeds 0", capsys.readouterr().out)
    assert result.read_bytes() == uninterrupted
    assert not list(study.folder.glob("../.dvc/tmp/checkpoints/*"))

    trained.clear()
    with pytest.raises(KeyboardInterrupt):
        run_trial()
    study.set_param("train.lr", 0.02)
    probe.main(Stage("probe"))
    run_trial()
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
    formula = "relu((1 + scale) * self.hidden(embedding) + shift)"
    assert formula in fusions.read_text()
    fusions.write_text(fusions.read_text().replace(formula, formula.replace("1 + scale", "1 + 1.01 * scale")))
    assert study.reproduce() == ["probe", "trial@film"]
    study.set_param("train.lr", 0.02)
    assert study.reproduce() == ["probe", "trial@shift", "trial@film"]
    assert "up to date" in study.succeed("dvc", "status")


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
