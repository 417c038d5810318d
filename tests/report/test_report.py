"""The report: planted changes are found and named, noise is called noise, and what cannot be compared says why."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch
from harness.project import Project
from sklearn.metrics import confusion_matrix

from digitsum.core.errors import DigitsumError
from digitsum.core.files import leaves
from digitsum.core.params import neutral, number, to_group
from digitsum.report import settings
from digitsum.report.compare import BETTER, NOISE, SAME, UNKNOWN, WORSE, compare, same_configuration, what_changed
from digitsum.report.files import WORKSPACE
from digitsum.report.markdown import to_markdown
from digitsum.report.revisions import RecordedPredictions, Run, read_run
from digitsum.report.settings import settings_digest
from digitsum.report.tables import shown

IMAGES = 10_000
DIGITS = np.arange(IMAGES) % 10


def predictions(wrong=(), seed=0, pairs=1):
    """Return those of a model that takes the digits of some images for the next one, and adds without a mistake."""
    image = np.tile(np.arange(IMAGES), pairs)
    number = np.random.default_rng(seed).integers(0, 10, len(image))
    digits = DIGITS.copy()
    digits[list(wrong)] = (digits[list(wrong)] + 1) % 10
    actual, predicted = DIGITS[image], digits[image]
    return RecordedPredictions(
        image,
        number,
        actual={"digit": actual, "sum": actual + number},
        predicted={"digit": predicted, "sum": predicted + number},
    )


def run_of(given, name="base", **changes):
    """Return the run of a model with these predictions."""
    confusion = {
        answer: confusion_matrix(given.actual[answer], given.predicted[answer], labels=range(classes))
        for answer, classes in [("digit", 10), ("sum", 19)]
    }
    correct = {answer: given.predicted[answer] == given.actual[answer] for answer in ("digit", "sum")}
    correct["joint"] = correct["digit"] & correct["sum"]
    run = Run(
        revision=name,
        name=name,
        params={"pair.pairs_per_image": 1, "train.lr": 0.01, "train.epochs": 10, "mnist.test_images_sha256": "a"},
        code={"src/digitsum/training/loop.py": ("1", ["train"])},
        results={"models/digitsum.safetensors": str(hash(given.predicted["digit"].tobytes()))},
        metrics={f"{score}.accuracy": pairs.mean() for score, pairs in correct.items()},
        confusion=confusion,
        predictions=given,
        stale=[],
        seeds={},
        machines="a computer",
    )
    return dataclasses.replace(run, **changes)


def cells(text):
    """Return Markdown without the spaces that align its tables."""
    return re.sub(" +", " ", text)


WRONG = range(0, IMAGES, 250)  # 40 images
BASE = run_of(predictions(WRONG))


def spoiled(images, **changes):
    """Return the run of a model that has so many more images wrong, spread over the classes."""
    return run_of(predictions([*WRONG, *range(1, 1 + 7 * images, 7)]), "head", **changes)


# --- Planted changes -----------------------------------------------------------------------------------------------


def test_identical_models_are_no_change():
    comparison = compare(BASE, run_of(predictions(WRONG), "head"))
    assert {score.verdict for score in comparison.scores} == {SAME}
    assert comparison.classes == []
    text = to_markdown(comparison, {})
    assert text.startswith("## No change\n\n`head` against `base`: every output is the same, byte for byte.")
    assert "Nothing that a stage declares has changed." in text


@pytest.mark.parametrize(("images", "verdict"), [(5, NOISE), (20, WORSE), (60, WORSE)])
def test_spoiled_images_are_noise_or_worse_by_their_number(images, verdict):
    comparison = compare(BASE, spoiled(images))
    assert comparison.verdict == verdict
    assert {score.verdict for score in comparison.scores} == {verdict}
    score = comparison.scores[0]
    assert (score.lost, score.won) == (images, 0)
    assert score.difference == pytest.approx(-images / IMAGES)
    assert score.interval[0] < -images / IMAGES < score.interval[1]
    assert len(comparison.lost) == images
    assert all(change.head < change.base for change in comparison.classes)
    assert "exact McNemar test" in to_markdown(comparison, {})
    assert images == 60 or comparison.classes == []  # two of each class: which of them, nobody can tell
    assert compare(spoiled(images), BASE).verdict == (BETTER if verdict == WORSE else NOISE)


def test_who_asks_several_questions_is_harder_to_convince():
    """Six lost images of six are p = 0.031 for the digit; sums, all still correct, are another question."""
    given = predictions(WRONG)
    given.predicted["digit"][1:7] = (given.predicted["digit"][1:7] + 1) % 10
    digit, total, _ = compare(BASE, run_of(given, "head")).scores
    assert (digit.p, digit.verdict) == (pytest.approx(4 / 2**6), NOISE)  # 2 / 2**6 if it were the only question
    assert (digit.lost, total.lost) == (6, 0)


def test_a_model_that_is_better_in_one_and_worse_in_another_is_called_worse():
    given = predictions(WRONG)
    given.predicted["sum"][:] = given.actual["sum"]
    given.predicted["digit"][1:61] = (given.predicted["digit"][1:61] + 1) % 10
    comparison = compare(BASE, run_of(given, "head"))
    assert [score.verdict for score in comparison.scores] == [WORSE, BETTER, WORSE]
    assert comparison.verdict == WORSE
    assert "the trained model is worse in digit and joint; better in sum." in to_markdown(comparison, {})


def test_a_ruined_class_is_named_and_no_other():
    eights = [image for image in range(IMAGES) if DIGITS[image] == 8 and image % 3 == 0]
    comparison = compare(BASE, run_of(predictions([*WRONG, *eights]), "head"))
    digits = {(change.label, change.figure) for change in comparison.classes if change.answer == "digit"}
    assert digits == {(8, "recall"), (9, "precision")}  # eights are taken for nines
    assert all(change.head < change.base for change in comparison.classes if change.answer == "digit")
    assert "| digit 8 | recall | 100.00 | 66.70 | -33.30 | < 0.0001 | 8 to 18 |" in cells(to_markdown(comparison, {}))


def test_another_pairing_seed_is_compared_image_by_image():
    comparison = compare(BASE, run_of(predictions(WRONG, seed=1), "head", params=BASE.params | {"pair.seed": 1}))
    assert {score.verdict for score in comparison.scores} == {SAME}
    assert compare(BASE, run_of(predictions([*WRONG, *range(1, 300, 7)], seed=1), "head")).verdict == WORSE
    assert "The images were paired with other numbers" in comparison.notes[0]


def test_several_pairs_an_image_count_as_one_image():
    head = run_of(
        predictions([*WRONG, 1, 2, 3, 4], pairs=10), "head", params=BASE.params | {"pair.pairs_per_image": 10}
    )
    score = compare(BASE, head).scores[0]
    assert (score.lost, score.verdict) == (4, NOISE)
    assert score.base_interval == pytest.approx(compare(BASE, BASE).scores[0].base_interval)


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({"train.lr": 1}, {"train.lr": 2}, ["`train.lr` 1 → 2"]),
        ({"train.lr": 1}, {"train.rate": 1}, ["`train.lr` is called `train.rate`, still 1"]),
        ({"train.lr": 1}, {"train.rate": 2}, ["`train.lr` 1 is gone", "`train.rate` 2 is new"]),
        ({"train.lr": 1}, {"fit.lr": 1}, ["`train.lr` is called `fit.lr`, still 1"]),
        ({"train.lr": 1}, {"fit.lr": 2}, ["`train.lr` 1 is gone", "`fit.lr` 2 is new"]),
        # A new name belongs to one parameter only; where two could be meant, none is called renamed.
        (
            {"train.lr": 1, "fit.rate": 1},
            {"fit.lr": 1},
            ["`train.lr` is called `fit.lr`, still 1", "`fit.rate` 1 is gone"],
        ),
        ({"a.seed": 0}, {"b.seed": 0, "c.seed": 0}, ["`a.seed` 0 is gone", "`b.seed` 0 is new", "`c.seed` 0 is new"]),
        ({"a.seed": 0, "b.seed": 0}, {"c.seed": 0}, ["`a.seed` 0 is gone", "`b.seed` 0 is gone", "`c.seed` 0 is new"]),
    ],
)
def test_a_parameter_that_kept_its_value_and_half_of_its_name_is_called_renamed(before, after, lines):
    base, head = (dataclasses.replace(BASE, params=params) for params in (before, after))
    assert what_changed(base, head)["parameters"] == lines


def test_what_changed_is_listed_by_name():
    code = {"src/digitsum/training/loop.py": ("2", ["train"])}
    results = BASE.results | {"data/paired/train.safetensors": "2"}
    head = spoiled(60, params=BASE.params | {"train.lr": 0.1}, code=code, results=results)
    text = to_markdown(compare(BASE, head), {})
    assert "- Changed parameters: `train.lr` 0.01 → 0.1\n" in text
    assert "- Changed code: `src/digitsum/training/loop.py` (train)\n" in text
    assert "- Changed data: `data/paired/train.safetensors`\n" in text


# --- What cannot be compared, or only less well --------------------------------------------------------------------


@pytest.mark.parametrize(("images", "verdict"), [(0, SAME), (20, NOISE), (60, WORSE)])
def test_without_predictions_the_counts_are_compared_and_the_cure_is_named(images, verdict):
    comparison = compare(dataclasses.replace(BASE, predictions=None), spoiled(images))
    assert comparison.verdict == verdict
    assert comparison.scores[0].lost is None
    assert "predictions of base are not in DVC's cache or in a remote" in comparison.notes[0]
    assert "`dvc pull evaluate`" in comparison.notes[0]
    text = to_markdown(comparison, {})
    assert "Fisher's exact test" in text
    if images:
        assert "| not known |" in cells(text)
        assert "No class changed" not in text


def test_without_predictions_nothing_is_said_of_pairs_that_share_images():
    head = spoiled(60, predictions=None, params=BASE.params | {"pair.pairs_per_image": 10})
    comparison = compare(BASE, head)
    assert comparison.verdict == UNKNOWN
    assert "without predictions" in comparison.notes[-1]


@pytest.mark.parametrize("group", ["mnist", "fetch"])
def test_different_test_sets_are_not_compared_whatever_the_group_of_their_digests(group):
    earlier = {key.replace("mnist.", f"{group}."): value for key, value in BASE.params.items()}
    assert compare(dataclasses.replace(BASE, params=earlier), BASE).verdict == SAME
    comparison = compare(BASE, spoiled(60, params=earlier | {f"{group}.test_images_sha256": "b"}))
    assert comparison.verdict == UNKNOWN
    assert "different images" in comparison.notes[0]
    assert [score.difference for score in comparison.scores] == [None] * 3
    assert "cannot be told in digit, sum and joint" in to_markdown(comparison, {})


def test_results_of_an_earlier_state_are_noted():
    head = spoiled(0, stale=["train.lr was 0.01 in that run and is 0.02"])
    assert "The results of head are of an earlier state: train.lr was 0.01" in compare(BASE, head).notes[0]


# --- Seeds ---------------------------------------------------------------------------------------------------------


def seed_runs(*joint, seconds=100):
    return {
        seed: {"digit": share, "sum": share, "joint": share, "cpu_seconds": seconds} for seed, share in enumerate(joint)
    }


def test_one_run_each_says_nothing_of_configurations_and_seeds_do():
    head = spoiled(60, params=BASE.params | {"train.lr": 0.1})
    alone = to_markdown(compare(BASE, head), {})
    assert "the trained model is worse" in alone
    assert "nothing is said of the two configurations" in alone
    base = dataclasses.replace(BASE, seeds=seed_runs(0.996, 0.995, 0.996, 0.997))
    head = dataclasses.replace(head, seeds=seed_runs(0.990, 0.996, 0.991))
    text = to_markdown(compare(base, head), {})
    assert "base over 4 seeds: joint 99.60 ± 0.08 %" in text
    assert "P(head beats base) = 0.33, joint accuracy, 3 paired seeds" in text
    assert "nothing is said of the two configurations" not in text


SLOW = seed_runs(0.99, seconds=300)
MOVED = {"compute.lr" if key == "train.lr" else key: value for key, value in BASE.params.items()}


@pytest.mark.parametrize(
    ("params", "beats"),
    [
        (BASE.params, None),
        (BASE.params | {"evaluate.mistakes_shown": 5, "train.seed": 1}, None),
        (MOVED, None),
        (MOVED | {"compute.lr": 0.02}, 0.5),
    ],
)
def test_equal_configurations_are_not_compared_over_seeds(params, beats):
    """The seed, what evaluate alone reads, and the name of a group make no other configuration."""
    seeds = seed_runs(0.996, 0.995)
    comparison = compare(dataclasses.replace(BASE, seeds=seeds), spoiled(60, params=params, seeds=seeds))
    assert comparison.beats == beats
    assert ("seeds" in to_markdown(comparison, {})) == (beats is not None)


@pytest.mark.parametrize(
    ("changes", "cost"),
    [
        ({}, "unchanged"),
        ({"machines": "another"}, "unchanged"),
        ({"metrics": BASE.metrics | {"weights": 5}}, "unchanged"),  # what only one of them recorded is no cost
        ({"seeds": SLOW}, "CPU-seconds of training 100 → 300"),
        ({"seeds": SLOW, "machines": "another"}, "CPU-seconds of training 100 → 300, not on the same machine"),
    ],
)
def test_costs_are_those_that_changed_and_seconds_of_two_machines_are_marked(changes, cost):
    base = dataclasses.replace(BASE, seeds=seed_runs(0.99, seconds=100))
    head = dataclasses.replace(base, **changes)
    assert f"Cost: {cost}.\n" in to_markdown(compare(base, head), {})


# --- False alarms --------------------------------------------------------------------------------------------------


def test_equal_models_raise_an_alarm_in_at_most_five_of_a_hundred_comparisons():
    """Digit and sum fail by chances of their own, so that three questions are asked, and any of them may cry wolf."""
    draws = np.random.default_rng(0)

    def draw():
        given = predictions()
        for answer in ("digit", "sum"):
            wrong = np.flatnonzero(draws.random(150) < 0.3)
            given.predicted[answer][wrong] = (given.predicted[answer][wrong] + 1) % 10
        return run_of(given)

    verdicts = [compare(draw(), draw()).verdict for _ in range(200)]
    assert sum(verdict in (BETTER, WORSE) for verdict in verdicts) <= 0.05 * 200 + 2 * (0.05 * 0.95 * 200) ** 0.5


# --- What git and DVC record ---------------------------------------------------------------------------------------


BEFORE = """
stages:
  train: {cmd: cp stages/train.py model, params: [pair.pairs_per_image, train.lr, train.numerics, train.threads],
    deps: [src/digitsum/training/loop.py, src/digitsum/training/rest/warps.py, stages/train.py], outs: [model]}
  evaluate: {cmd: cp model predictions, params: [fetch.test_images_sha256, train.numerics],
    deps: [model, stages/evaluate.py], outs: [predictions]}
"""
AFTER = """
stages:
  train: {cmd: cp stages/train.py model, params: [pair, train, compute],
    deps: [src/digitsum/training, stages/train.py], outs: [model]}
  evaluate: {cmd: cp model predictions, params: [mnist, compute],
    deps: [model, src/digitsum/training, stages/evaluate.py], outs: [predictions]}
"""
PARAMS_BEFORE = {
    "fetch": {"test_images_sha256": "a" * 64},
    "pair": {"pairs_per_image": 1},
    "train": {"lr": 0.01, "numerics": "portable", "threads": 2},
}
PARAMS_AFTER = {
    "mnist": {"test_images_sha256": "a" * 64},
    "pair": {"pairs_per_image": 1},
    "train": {"lr": 0.01},
    "compute": {"numerics": "portable", "threads": 2},
}
TRAINING = "src/digitsum/training"
FOLDER_CHANGED = f"{TRAINING} is not what it was in that run"
FILES = {
    "studies/.dvc/config": "",  # a DVC project of its own, as here
    ".dvcignore": "__pycache__\n",
    "src/digitsum/training/loop.py": "loop",
    "src/digitsum/training/rest/warps.py": "warps",
    "stages/train.py": "train",
    "stages/evaluate.py": "evaluate",
    "metrics/train.json": '{"weights": 5}',
    "metrics/evaluate.json": json.dumps({answer: {"accuracy": 0.75} for answer in ("digit", "sum", "joint")}),
    "plots/confusion_digit.csv": "actual,predicted,count\n0,0,3\n0,1,1\n1,0,0\n1,1,0\n",
    "plots/confusion_sum.csv": "actual,predicted,count\n0,0,3\n0,1,1\n1,0,0\n1,1,0\n",
}


def seed_table(params, accuracy):
    row = f"{settings_digest(leaves(params))},portable,0,{accuracy},{accuracy},{accuracy},100,a computer"
    return f"params,numerics,seed,digit,sum,joint,cpu_seconds,machine\n{row}\n"


@pytest.fixture(scope="module")
def regrouped(tmp_path_factory):
    """Return a small pipeline that DVC ran twice: with files and single parameters, then with folders and groups."""
    project = Project(tmp_path_factory.mktemp("regrouped"), "nowhere")
    project.succeed("git", "init", "--quiet")
    project.succeed("dvc", "init", "--quiet")
    author = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    write(project, FILES)
    for declared, params, seeds, accuracy in [
        (BEFORE, PARAMS_BEFORE, "studies/seeds.csv", 0.9),
        (AFTER, PARAMS_AFTER, "studies/seeds/seeds.csv", 0.8),
    ]:
        write(project, {"dvc.yaml": declared, "params.yaml": json.dumps(params), seeds: seed_table(params, accuracy)})
        project.reproduce()
        project.succeed("git", "add", "--all")
        project.succeed("git", *author, "commit", "--quiet", "--message", "results")
    return project


def write(project, files):
    for name, content in files.items():
        path = project.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink() if content is None else path.write_text(content)


@pytest.fixture
def edited(regrouped, tmp_path, monkeypatch):
    """Return a function that changes files in a copy of the small pipeline and reads its workspace as a run."""
    project = regrouped.copy(tmp_path / "copy")
    monkeypatch.chdir(project.folder)

    def edit(files):
        write(project, files)
        return read_run(WORKSPACE)

    return edit


def test_a_new_parameter_with_its_neutral_value_counts_as_if_it_were_not_there(monkeypatch):
    before = settings_digest({"train.lr": 0.1})
    group = dataclasses.make_dataclass("Train", [("mixup", float, neutral(0.0, number(at_least=0, at_most=1)))])
    monkeypatch.setitem(settings.GROUPS, "train", group)
    assert settings_digest({"train.lr": 0.1, "train.mixup": 0.0}) == before
    assert settings_digest({"train.lr": 0.1, "train.mixup": 0.2}) != before
    with pytest.raises(DigitsumError, match="train.mixup is -1, expected a number of at least 0"):
        to_group(group, {"train": {"mixup": -1}})


def test_a_run_before_folders_and_groups_is_up_to_date_and_compared_with_one_after(regrouped, monkeypatch):
    monkeypatch.chdir(regrouped.folder)
    before, after = read_run("HEAD~1"), read_run("HEAD")
    assert ".dir" in (regrouped.folder / "dvc.lock").read_text()  # the digest of a folder, as DVC computes it
    assert (before.stale, before.params) == ([], leaves(PARAMS_BEFORE))
    assert (after.stale, after.params) == ([], leaves(PARAMS_AFTER))
    comparison = compare(before, after)
    assert comparison.verdict == SAME
    assert comparison.changed["parameters"] == [
        "`train.numerics` is called `compute.numerics`, still portable",
        "`train.threads` is called `compute.threads`, still 2",
        "`fetch.test_images_sha256` is called `mnist.test_images_sha256`, still aaaaaaaaaaaa…",
    ]
    assert comparison.changed["code"] == []
    assert before.code.keys() == after.code.keys()
    assert after.code["src/digitsum/training/rest/warps.py"][1] == ["train", "evaluate"]
    assert (before.seeds[0]["joint"], after.seeds[0]["joint"]) == (0.9, 0.8)
    assert same_configuration(before, after)


@pytest.mark.parametrize(
    ("files", "code", "stale"),
    [
        ({f"{TRAINING}/rest/warps.py": "edited"}, f"`{TRAINING}/rest/warps.py` (train, evaluate)", [FOLDER_CHANGED]),
        ({f"{TRAINING}/new.py": ""}, f"`{TRAINING}/new.py` (train, evaluate)", [FOLDER_CHANGED]),
        ({f"{TRAINING}/loop.py": None}, f"`{TRAINING}/loop.py` (train, evaluate)", [FOLDER_CHANGED]),
        (
            {"stages/train.py": "edited"},
            "`stages/train.py` (train)",
            ["stages/train.py is not what it was in that run"],
        ),
        ({f"{TRAINING}/__pycache__/loop.pyc": "compiled"}, None, []),
        ({"src/digitsum/report/compare.py": "declared by no stage"}, None, []),
        (
            {"params.yaml": json.dumps(PARAMS_AFTER | {"train": {"lr": 0.02, "new": 1}, "report": {"figures": True}})},
            None,
            ["train.lr was 0.01 in that run and is 0.02", "train.new is new since that run"],
        ),
    ],
)
def test_changed_code_is_named_by_file_and_what_a_stage_declares_makes_results_stale(edited, files, code, stale):
    head = edited(files)
    assert head.stale == stale
    assert compare(read_run("HEAD"), head).changed["code"] == ([code] if code else [])


def test_results_of_which_a_stage_did_not_see_the_latest_are_stale(edited, tmp_path):
    """As after `dvc repro train`: the metrics are those of the model before."""
    lock = tmp_path / "copy/dvc.lock"
    train, evaluate = lock.read_text().split("  evaluate:")
    digest = re.search(r"path: model\n +hash: md5\n +md5: (\w+)", evaluate)[1]
    head = edited({"dvc.lock": f"{train.replace(digest, 'f' * 32)}  evaluate:{evaluate}"})
    assert "model is not what it was in that run" in head.stale


# --- The command, on a project with tiny data ----------------------------------------------------------------------


@pytest.fixture
def branch(project):
    """Return a project whose branch `slow` has a learning rate with which nothing is learnt."""
    project.succeed("git", "checkout", "--quiet", "-b", "slow")
    project.set_param("train.lr", 1e-9)
    project.reproduce()
    project.succeed("git", "commit", "--all", "--quiet", "--message", "Learn nothing")
    return project


@pytest.mark.slow
def test_the_command_compares_with_where_the_branch_began_and_can_be_a_gate(branch):
    code, printed = branch.run("digitsum", "report", "--output", "report", "--fail-on", "worse")
    assert code == 3, printed
    text = (branch.folder / "report/report.md").read_text()
    assert text.startswith("## Worse\n\n`workspace` against `")
    assert "- Changed parameters: `train.lr` 0.01 → 1e-09\n" in text
    assert "Changed code" not in text
    for picture in ("confusion_digit.png", "confusion_sum.png", "images.png"):
        assert f"]({picture})" in text
        assert (branch.folder / "report" / picture).read_bytes().startswith(b"\x89PNG")
    content = json.loads((branch.folder / "report/report.json").read_text())
    joint = content["scores"]["joint"]
    assert joint.keys() >= {"p", "difference", "interval", "base_interval", "won"}
    assert content["verdict"] == joint["verdict"] == "worse"
    assert joint["lost"] == len(content["images_lost"]) > 20
    assert re.match(
        r"## Worse\n\n`slow \(\w+\)` against `main \(", branch.succeed("digitsum", "report", "main", "slow")
    )
    printed = branch.succeed("digitsum", "report", "slow", "main", "--fail-on", "worse")
    assert printed.startswith("## Better\n")
    printed = branch.succeed("digitsum", "report", "slow", "--fail-on", "worse")
    assert printed.startswith("## No change\n")
    assert "**Note:**" not in printed  # the results are those of the files here


def test_a_clone_without_data_compares_what_git_has_and_says_what_brings_the_rest(branch, tmp_path):
    branch.succeed("git", "clone", "--quiet", str(branch.folder), str(tmp_path / "clone"))
    branch.folder = tmp_path / "clone"
    printed = branch.succeed("digitsum", "report", "origin/main", "HEAD", "--output", "report")
    text = (branch.folder / "report/report.md").read_text()
    assert printed == "report/report.md: worse\n"
    assert text.count("not in DVC's cache or in a remote") == 2
    assert "`dvc pull evaluate`" in text
    assert "![Change of the confusion of the digit](confusion_digit.png)" in text
    assert not (branch.folder / "report/images.png").exists()
    command = "import sys; from digitsum import cli; cli.main(); assert 'torch' not in sys.modules"
    branch.succeed("python", "-c", command, "report", "origin/main", "HEAD")  # PyTorch takes seconds


def test_what_cannot_be_read_ends_in_one_line(project, tmp_path):
    source = f"file://{project.folder}"
    project.succeed("git", "checkout", "--quiet", "-b", "later")
    project.succeed("git", "commit", "--quiet", "--allow-empty", "--message", "later")
    project.succeed("git", "checkout", "--quiet", "main")
    shallow = ["--depth", "1", "--branch", "later"]
    project.succeed("git", "clone", "--quiet", *shallow, source, str(tmp_path / "clone"))
    for folder, arguments, error in [
        (project.folder, ["HEAD~1"], "HEAD~1 has no run of this pipeline to compare ("),
        (project.folder, ["nowhere"], "nowhere is no revision of git and no experiment of DVC here; "),
        (
            tmp_path / "clone",
            ["HEAD~1"],
            "HEAD~1 is no revision of git and no experiment of DVC here; this clone is shall",
        ),
        (
            tmp_path / "clone",
            [],
            "this clone is shallow and does not reach the base; run `git fetch --unshallow origin '",
        ),
    ]:
        code, printed = project.run("digitsum", "report", *arguments, folder=folder)
        assert code == 1
        assert printed.startswith(f"error: {error}")
        assert printed.count("\n") == 1
    project.succeed("bash", "-c", printed.split("`")[1], folder=folder)
    assert project.succeed("digitsum", "report", folder=folder).startswith("## No change\n")


def test_a_gate_that_cannot_judge_is_shut(project):
    shutil.rmtree(project.folder / ".dvc/cache")
    shutil.rmtree(project.folder / "data")
    project.set_param("pair.pairs_per_image", 2)
    lock = project.folder / "dvc.lock"
    lock.write_text(lock.read_text().replace("pairs_per_image: 1", "pairs_per_image: 2"))
    code, printed = project.run("digitsum", "report", "HEAD", "--fail-on", "worse")
    assert code == 1
    assert printed.startswith("## Cannot be told")
    assert "error: --fail-on worse: " in printed


@pytest.mark.slow
def test_an_experiment_is_compared_by_its_name(project):
    project.succeed("dvc", "exp", "run", "--temp", "--name", "idle", "--set-param", "train.lr=0.000000001")
    printed = project.succeed("digitsum", "report", "HEAD", "idle")
    assert printed.startswith("## Worse\n\n`idle (")
    assert "`train.lr` 0.01 → 1e-09" in printed


# --- What a reviewer reads -----------------------------------------------------------------------------------------


def test_the_first_sentence_names_the_ruined_class_and_sums_that_follow_are_folded():
    head = run_of(predictions([*WRONG, *np.flatnonzero(DIGITS == 7)]), "head")
    comparison = compare(BASE, head)
    first, rows = (cells(part) for part in to_markdown(comparison, {}).split("| class", 1))
    assert "; worst hit: **digit 7** (recall 100.00 → 0.00 %).\n" in first
    assert [row[:20] for row in rows.splitlines()[2:5]] == [
        "| digit 7 | recall |",
        "| digit 7 | precisio",
        "| digit 8 | precisio",
    ]
    assert "| < 0.0001 | 7 to 17 |" in rows
    assert {change.follows_from for change in comparison.classes if change.answer == "sum"} == {7}
    assert "| digit, sum, joint | 99.60" in first
    assert "most improved: **digit 7** (recall 0.00 → 100.00 %)" in to_markdown(compare(head, BASE), {})


def test_a_sum_that_is_ruined_by_itself_is_not_folded():
    given = predictions([*WRONG, *np.flatnonzero(DIGITS == 7)])
    given.predicted["sum"][given.actual["sum"] == 10] = 11
    comparison = compare(BASE, run_of(given, "head"))
    sums = [change for change in comparison.classes if change.answer == "sum"]
    alone = {(change.label, change.figure) for change in sums if change.follows_from is None}
    assert alone == {(10, "recall"), (10, "precision"), (11, "precision")}
    assert {change.follows_from for change in sums} == {None, 7}
    assert "**sum 10** (recall" in to_markdown(comparison, {})


def test_scores_that_lose_other_images_are_not_one_row():
    given = predictions(WRONG)
    for answer, images in (("digit", range(1, 11)), ("sum", range(21, 31))):
        given.predicted[answer][list(images)] = (given.predicted[answer][list(images)] + 1) % 10
    digit, total, joint = compare(BASE, run_of(given, "head")).scores
    assert (digit.lost, total.lost, joint.lost) == (10, 10, 20)
    assert [score.same_as for score in (digit, total, joint)] == [None] * 3


@pytest.mark.parametrize(
    ("changes", "called"),
    [
        ({"params": {"train.seed": 1}}, True),
        ({"params": {"train.seed": 1, "train.lr": 1}}, False),
        ({"params": {"train.seed": 1}, "code": {}}, False),
    ],
)
def test_a_change_of_the_seed_alone_is_called_one(changes, called):
    params = BASE.params | {"train.seed": 0}
    base = dataclasses.replace(BASE, params=params, seeds=SLOW)
    head = spoiled(60, **changes | {"params": params | changes["params"]})
    assert ("**Only a seed changed.**" in to_markdown(compare(base, head), {})) == called


def test_intervals_count_images_and_not_pairs_when_predictions_are_missing():
    params = BASE.params | {"pair.pairs_per_image": 4}
    base, head = (
        run_of(predictions(WRONG, pairs=4), name, params=params, predictions=None) for name in ("base", "head")
    )
    assert compare(base, head).scores[0].base_interval == pytest.approx(compare(BASE, BASE).scores[0].base_interval)


def test_predictions_of_other_images_are_not_compared():
    fewer = predictions(WRONG)
    fewer.image[-1] = 0
    assert compare(BASE, run_of(fewer, "head")).verdict == UNKNOWN


HOSTILE = "a`b|c\n\n## No change\n\n<!-- <script>alert(1)</script> \x1b[2J\u202e @team " + "x" * 1_000_000


def test_text_of_another_branch_stays_text_on_its_line():
    """GitHub's Markdown has no markup, and no HTML, in a code span; none can be closed from inside."""
    hostile = {HOSTILE: HOSTILE, "train.lr": HOSTILE}
    head = spoiled(60, params=BASE.params | hostile, stale=[f"{shown(HOSTILE)} is new"])
    head = dataclasses.replace(
        head, name=HOSTILE, metrics=head.metrics | {HOSTILE: 1.0}, code={HOSTILE: ("2", [HOSTILE])}
    )
    text = to_markdown(compare(BASE, head), {})
    outside = re.sub("`[^`\n]*`", "", text)
    assert len(text) < 5_000
    assert outside.count("## ") == 1
    assert not re.search(r"<!--|<script|alert|@team|\x1b|\u202e", outside)
    assert "| digit, sum, joint |" in cells(text)


# --- Where the command is run --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_report_is_the_same_in_a_subfolder_a_worktree_and_a_monorepo(branch, tmp_path):
    expected = branch.succeed("digitsum", "report", "main", "slow").partition("\n\n- ")[2]
    assert expected.partition("\n\n- ")[2]
    assert branch.succeed("digitsum", "report", "main", folder="docs").endswith(expected)
    branch.succeed("git", "worktree", "add", "--quiet", str(tmp_path / "worktree"), "main")
    assert branch.succeed("digitsum", "report", "main", "slow", folder=tmp_path / "worktree").endswith(expected)
    (tmp_path / "mono").mkdir()
    mono = branch.copy(tmp_path / "mono/team")
    shutil.move(mono.folder / ".git", tmp_path / "mono/.git")
    for revision in ("main", "slow"):
        mono.succeed("git", "symbolic-ref", "HEAD", f"refs/heads/mono-{revision}")
        mono.succeed("git", "read-tree", "--empty", folder="..")
        mono.succeed("git", "read-tree", "--prefix=team/", revision, folder="..")
        mono.succeed("git", "commit", "--quiet", "--message", revision, folder="..")
    assert mono.succeed("digitsum", "report", "mono-main", "mono-slow", folder="docs").endswith(expected)


NO_HOME = """
import os, pwd, runpy, sys
os.environ.pop("HOME", None)
def getpwuid(uid): raise KeyError(uid)
pwd.getpwuid = getpwuid
sys.argv = ["digitsum", "report", "main"]
runpy.run_module("digitsum", run_name="__main__")
"""


@pytest.mark.slow
def test_a_place_without_git_or_a_home_ends_in_one_line(project, tmp_path):
    known = project.environment

    def line(*command, folder=project.folder, **environment):
        project.environment = known | environment
        code, printed = project.run(*command, folder=folder)
        assert (code, printed.count("\n"), printed[:7]) == (1, 1, "error: "), printed
        return printed

    python = shutil.which("python", path=project.environment["PATH"])
    report = (python, "-m", "digitsum", "report", "main")
    assert "git cannot be run; install it" in line(*report, PATH="/nowhere")
    assert "is in no project of this pipeline" in line(*report, folder=tmp_path)
    assert "set an absolute HOME" in line(python, "-c", NO_HOME)
    shutil.copytree(project.folder, tmp_path / "exported", ignore=shutil.ignore_patterns(".git"), symlinks=True)
    assert "not a git repository" in line(*report, folder=tmp_path / "exported")
    dubious = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    assert "git config --global --add safe.directory" in line(*report, **dubious)


def test_another_version_is_named_as_what_changed(finished, monkeypatch):
    monkeypatch.chdir(finished.folder)
    run = read_run("HEAD")
    bumped = dataclasses.replace(run, params=run.params | {"versions.torch": "9.9"})
    assert run.stale == []
    assert what_changed(run, bumped)["parameters"] == [f"`versions.torch` {torch.__version__.partition('+')[0]} → 9.9"]
