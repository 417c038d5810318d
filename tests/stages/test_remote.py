"""A remote: what one clone has computed, another gets without running anything."""

import re

import pytest
from harness.project import Project, install

from tools.check import stale_stages
from tools.merge_lock import merge

pytestmark = pytest.mark.slow


@pytest.fixture
def shared(project, tmp_path):
    """Return a project that has pushed everything to a remote, a folder here."""
    project.succeed("dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    project.succeed("git", "commit", "--all", "--quiet", "--message", "Add a remote")
    project.succeed("dvc", "push", "--run-cache")
    return project


@pytest.fixture
def clone(shared, tmp_path, tiny_mnist):
    """Return a fresh clone: no data, no model, no cache."""
    shared.succeed("git", "clone", "--quiet", "--bare", str(shared.folder), str(tmp_path / "hub"))
    shared.succeed("git", "remote", "add", "origin", str(tmp_path / "hub"))
    shared.succeed("git", "clone", "--quiet", str(tmp_path / "hub"), str(tmp_path / "clone"))
    return Project(tmp_path / "clone", tiny_mnist.folder)


def test_a_second_clone_gets_data_model_and_metrics_without_running_a_stage(shared, clone):
    clone.succeed("dvc", "pull", "--run-cache")
    assert clone.outputs() == shared.outputs()
    assert clone.reproduce() == []


def test_a_second_clone_gets_an_experiment_that_was_pushed(shared, clone):
    """The run cache alone does not bring it: DVC 3.67 pushes no metrics and plots that git keeps."""
    name = re.search("experiment '(.*)'", shared.succeed("dvc", "exp", "run", "-S", "train.lr=0.005"))[1]
    shared.succeed("dvc", "exp", "push", "origin", name)
    clone.succeed("dvc", "pull")
    clone.succeed("dvc", "exp", "pull", "origin", name)
    clone.succeed("dvc", "exp", "apply", name)
    assert clone.outputs() == shared.outputs()
    assert clone.reproduce() == []


# --- The gate: is dvc.lock that of the code and the parameters? No data is needed to say so. --------------------------


@pytest.mark.parametrize(
    ("file", "old", "new", "stage", "reason"),
    [
        ("params.yaml", "lr: 0.01", "lr: 0.02", "train", "params.yaml: train.lr modified"),
        ("stages/pair.py", "import", "import  ", "pair", "stages/pair.py modified"),
        ("metrics/evaluate.json", "accuracy", "accuracies", "evaluate", "metrics/evaluate.json modified"),
        ("dvc.yaml", "cmd: python -m stages pair", "cmd: python -O -m stages pair", "pair", "changed command"),
    ],
)
def test_the_gate_names_the_stage_that_is_stale_and_why(clone, file, old, new, stage, reason):
    path = clone.folder / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert stale_stages(clone.folder) == {stage: [f"stale: {reason}"]}
    printed = clone.fail("python", "-m", "tools.check")
    assert f"{stage}: \n    stale: {reason}" in printed
    assert "run `make repro`, and commit what changed" in printed


@pytest.mark.parametrize("file", ["dvc.yaml", "dvc.lock", "params.yaml"])
def test_the_gate_says_in_one_line_that_a_file_has_an_open_conflict(project, file):
    path = project.folder / file
    path.write_text(f"<<<<<<< HEAD\n{path.read_text()}=======\n>>>>>>> other\n")
    (line,) = project.fail("python", "-m", "tools.check").splitlines()
    assert file in line


def test_the_gate_finds_a_lock_file_that_was_merged_by_hand(clone):
    """Each stage agrees with the code, but train read other data than pair wrote."""
    lock = clone.folder / "dvc.lock"
    before, train, after = lock.read_text().partition("  train:")
    digest = after.split("data/paired/train.safetensors")[1].split("md5: ")[1][:32]
    lock.write_text(before + train + after.replace(digest, digest[::-1]))
    assert stale_stages(clone.folder) == {
        "train": ["stale: data/paired/train.safetensors is recorded with two different digests"]
    }


def test_a_conflict_in_the_lock_file_is_settled_as_contributing_says(project):
    for branch, rate in [("one", 0.005), ("two", 0.02)]:
        project.succeed("git", "checkout", "--quiet", "-b", branch, "main")
        project.succeed("dvc", "checkout", "--quiet")
        project.set_param("train.lr", rate)
        project.reproduce()
        project.succeed("git", "commit", "--all", "--quiet", "--message", branch)
    assert "CONFLICT (content): Merge conflict in dvc.lock" in project.fail("git", "merge", "one")
    install(project)
    for command in ("git checkout --theirs params.yaml", "make merge-driver", "git checkout --merge dvc.lock"):
        project.succeed(*command.split())
    assert project.reproduce() == []  # the run cache has what branch one computed
    project.succeed("git", "commit", "--all", "--quiet", "--message", "merged")
    assert stale_stages(project.folder) == {}
    assert project.succeed("git", "diff", "one", "--", "params.yaml", "dvc.lock", "metrics", "plots") == ""


# --- The merge driver ------------------------------------------------------------------------------------------------


def commit_run(project, branch, **values):
    """Run the pipeline with other parameters on a new branch that starts from main, and commit all."""
    project.succeed("git", "checkout", "--quiet", "-B", branch, "main")
    project.succeed("dvc", "checkout", "--quiet")
    for key, value in values.items():
        project.set_param(key.replace("_", ".", 1), value)
    project.reproduce()
    project.succeed("git", "commit", "--all", "--quiet", "--message", branch)


@pytest.fixture
def merging(project):
    """Return a project that uses the merge driver, with a branch `one` of another train and evaluate."""
    install(project).succeed("make", "merge-driver")
    commit_run(project, "one", train_lr=0.005)
    return project


@pytest.mark.nightly  # failed once in some twenty runs, on a busy machine: fetch was stale after the merge
def test_branches_that_changed_different_stages_merge_without_a_conflict(merging):
    commit_run(merging, "two", fetch_timeout=11)
    merging.succeed("git", "merge", "--quiet", "--no-edit", "one")
    merging.succeed("dvc", "checkout", "--quiet")
    assert stale_stages(merging.folder) == {}
    assert merging.reproduce() == []


def test_a_conflict_names_the_stages_that_both_branches_changed_and_the_commands_that_settle_it(merging):
    commit_run(merging, "two", evaluate_mistakes_shown=3)
    code, printed = merging.run("git", "merge", "one")
    assert code == 1
    assert "CONFLICT (content): Merge conflict in dvc.lock" in printed
    assert "error: dvc.lock: both branches changed evaluate; resolve params.yaml and the code, then run" in printed
    assert merging.reproduce() == ["evaluate"]  # train is that of branch one, from the cache
    merging.succeed("git", "commit", "--all", "--quiet", "--message", "merged")
    assert stale_stages(merging.folder) == {}


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged"),
    [
        ({"a": 1}, {"a": 2}, {"a": 1}, ({"a": 2}, [])),
        ({"a": 1}, {"a": 2}, {"a": 2}, ({"a": 2}, [])),
        ({"a": 1}, {"a": 2}, {"a": 3}, ({"a": 2}, ["a"])),
        ({"a": 1, "b": 1}, {"a": 1}, {"a": 1, "b": 1, "c": 1}, ({"a": 1, "c": 1}, [])),  # one removed, one added
        ({"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 1}, ({"a": 1, "b": 2}, ["b"])),
        ({}, {"a": 1}, {"a": 2}, ({"a": 1}, ["a"])),
    ],
)
def test_a_stage_is_taken_from_the_branch_that_changed_it(base, ours, theirs, merged):
    assert merge(base, ours, theirs) == merged
