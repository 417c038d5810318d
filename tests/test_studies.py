"""The studies: their stages run, and what is said of them is what their trials gave."""

import json
import shutil
from statistics import mean

import pytest
import yaml
from conftest import DIGEST_KEYS, ROOT, Project, copy_project

from tools import check
from digitsum.model.fusions import FUSIONS
from studies import compare, curves, tables
from studies.measuring import read_rows


def run_of(digit, total, both):
    return {
        "digit": {"accuracy": digit},
        "sum": {"accuracy": total},
        "joint": {"accuracy": both},
        "all_numbers": {"joint_accuracy": both},
        "weights": 7,
        "sums_right": [[total] * 10] * 10,
    }


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
    assert closeness["largest difference but for epoch 1"] == 0.5


def test_fusions_are_ranked_and_drawn_from_their_trials(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("trials", "fewer_labels", "metrics", "plots"):
        (tmp_path / folder).mkdir()
    for seed in range(3):
        runs = {
            "trials/shift": 0.99,
            "trials/film": [0.985, 0.99, 0.998][seed],
            "trials/add": 0.9,
            "trials/sums_alone": 0.97,
        }
        runs |= {f"fewer_labels/{fusion}-{images}": 0.8 for fusion in ("shift", "film") for images in (1000, 100)}
        for name, both in runs.items():
            (tmp_path / f"{name}-{seed}.json").write_text(json.dumps(run_of(both, both, both)))
    compare.main()
    results = json.loads((tmp_path / "metrics/fusions.json").read_text())
    assert list(results) == ["film", "shift", "add", "sums_alone"]  # on a tie of wins the higher mean comes first
    assert results["shift"]["beats"] == {"film": 0.5, "add": 1.0}
    assert results["film"]["joint"] == {"mean": 0.991, "sd": 0.00656}
    fewer = json.loads((tmp_path / "metrics/fewer_labels.json").read_text())
    assert {fusion: list(sizes) for fusion, sizes in fewer.items()} == {
        fusion: ["100", "1000", "55000"] for fusion in ("film", "shift")
    }
    for figure in ("accuracies", "sums", "fewer_labels"):
        assert (tmp_path / f"plots/{figure}.png").read_bytes().startswith(b"\x89PNG")


# --- The committed results -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tables.TABLES)
def test_the_table_in_the_readme_is_that_of_the_trials(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert f"{tables.begin(name)}\n{tables.TABLES[name]()}\n" in (ROOT / "README.md").read_text(), "run `make tables`"


def test_fusions_are_compared_over_five_seeds_and_sums_alone_teach_shift_the_digits():
    results = json.loads((ROOT / "studies/fusions/metrics/fusions.json").read_text())
    assert all(result["seeds"] == 5 for result in results.values())
    assert {name for name, result in results.items() if "beats" in result} == {
        name for name in FUSIONS if not name.startswith("seed_")
    }
    assert results["sums_alone"]["digit"]["mean"] >= 0.99


def test_the_older_solution_concat_here_is_as_good_as_its_log_says():
    closeness = json.loads((ROOT / "studies/seed_concat/metrics/curves.json").read_text())
    digit, total = (closeness[score]["last three"] for score in ("digit_loss", "sum_loss"))
    assert digit["log"] == pytest.approx(1.474, abs=0.001)
    assert digit["ours"] <= 1.48
    assert total["ours"] == pytest.approx(total["log"], rel=0.02)
    assert closeness["last_batch"]["digits right"] == {"log, mean of the last ten": 16, "ours": 16}


def test_the_older_solution_concat_learns_both_answers_on_logits():
    trials = compare.read_trials(ROOT / "studies/seed_concat/trials")
    assert mean(compare.values(trials["logits"], "digit")) >= 0.985
    assert mean(compare.values(trials["logits"], "sum")) >= 0.97


def test_the_older_solution_add_here_is_as_good_as_its_log_says():
    closeness = json.loads((ROOT / "studies/seed_add/metrics/curves.json").read_text())
    for epoch in ("epoch 10", "epoch 20", "epoch 40"):
        digit, *losses = (closeness[score][epoch] for score in ("digit_accuracy", "digit_loss", "sum_loss"))
        assert digit["ours"] == pytest.approx(digit["log"], abs=0.003)
        assert sum(one["ours"] for one in losses) == pytest.approx(sum(one["log"] for one in losses), rel=0.03)


def test_the_older_solution_add_learns_the_digits_on_logits():
    trials = compare.read_trials(ROOT / "studies/seed_add/trials")
    assert mean(compare.values(trials["logits"], "digit")) >= 0.985


def test_both_older_solutions_are_the_same_pipeline_with_other_parameters():
    pipelines = [yaml.safe_load((ROOT / f"studies/seed_{name}/dvc.yaml").read_text()) for name in ("concat", "add")]
    for stage in ("pair", "train", "evaluate"):
        for part in ("cmd", "deps", "params", "outs"):
            one, other = (pipeline["stages"][stage].get(part) for pipeline in pipelines)
            assert one == other


# --- The stages of a study, on tiny data ---------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path, tiny_mnist, request):
    """Return a project on tiny data with the pipeline of one study, its trials made few and short."""
    (tmp_path / "project").mkdir()
    project = copy_project(tmp_path / "project", tiny_mnist)
    folder = project.folder / "studies" / request.param
    shutil.copytree(
        ROOT / "studies" / request.param, folder, ignore=lambda *_: ["data", "models", "dvc.lock", "trials"]
    )
    inner = Project(folder, tiny_mnist.folder)
    for name, digest in tiny_mnist.digests.items():
        inner.set_param(f"fetch.{DIGEST_KEYS[name]}", digest)
    inner.set_param("train.threads", 1)
    inner.set_param("train.batch_size", 40)
    pipeline = yaml.safe_load((folder / "dvc.yaml").read_text())
    for stage in pipeline["stages"].values():
        if "matrix" in stage:
            stage["matrix"]["seed"] = [0, 1]
        stage["deps"] = [name for name in stage["deps"] if not name.endswith("-2.csv")]
    (folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    return project


@pytest.mark.slow
@pytest.mark.parametrize("study", ["seed_concat"], indirect=True)
def test_one_command_trains_an_older_solution_and_compares_it_with_its_log(study):
    pipeline = "studies/seed_concat/dvc.yaml"
    assert "failed" not in study.succeed("dvc", "repro", pipeline)
    folder = study.folder / "studies" / "seed_concat"
    closeness = json.loads((folder / "metrics" / "curves.json").read_text())
    ours = [float(row["value"]) for row in read_rows(folder / "plots" / "training.csv") if row["score"] == "sum_loss"]
    assert closeness["sum_loss"]["epoch 29"]["ours"] == ours[-1]
    assert closeness["sum_loss"]["epoch 29"]["log"] == 2.5778
    assert 0 <= closeness["last_batch"]["digits right"]["ours"] <= 16
    assert (folder / "plots" / "curves.png").read_bytes()
    softmaxed, logits = (
        json.loads((folder / "trials" / f"{name}-0.json").read_text()) for name in ("as_it_was", "logits")
    )
    assert softmaxed != logits
    assert study.reproduce(targets=[pipeline]) == []

    # Its code may be older, its parameters may not; and what it imports must be declared.
    code, params = study.folder / "src/digitsum/errors.py", folder / "params.yaml"
    code.write_text(code.read_text() + "# edited\n")
    assert not [stage for stage in contract.stale_stages(study.folder) if "seed_concat" in stage]
    params.write_text(params.read_text().replace("lr: 0.001", "lr: 0.002"))
    assert contract.stale_stages(study.folder)[f"{pipeline}:train"] == [
        "studies/seed_concat/params.yaml: train.lr modified"
    ]
    (folder / "dvc.yaml").write_text((folder / "dvc.yaml").read_text().replace("    - ../trial.py\n", ""))
    done, printed = study.run("dvc", "repro", "--single-item", f"{pipeline}:trial@0-variant0")
    assert done != 0
    assert "stage trial imports ../trial.py without declaring it" in printed
