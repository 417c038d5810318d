"""What reruns when something changes: the contract, as two tables, and real reproductions of the project's dvc.yaml.

f, p, t, e stand for the stages fetch, pair, train, evaluate.
"""

import gzip
import hashlib
import importlib
import shutil
import sys

import pytest
import yaml
from dvc.exceptions import ReproductionError
from harness.groups import GROUPS
from harness.project import ROOT, STAGES
from harness.tiny_mnist import DIGEST_KEYS, idx_bytes

from digitsum.core.runner import Stage
from digitsum.mnist import idx
from tools.check import stale_stages

LETTERS = {stage[0]: stage for stage in STAGES}

# A new value for each parameter, and the stages that run then: those that read it, and those whose inputs came out
# different. Another number of threads, for instance, gives another model; another device "cpu" here does not.
PARAMETERS = {
    "mnist.train_images_sha256": ("changed", "fpte"),  # with the file itself, as in the next three
    "mnist.train_labels_sha256": ("changed", "fpte"),
    "mnist.test_images_sha256": ("changed", "fpe"),
    "mnist.test_labels_sha256": ("changed", "fpe"),
    "fetch.timeout": (11, "f"),
    "pair.seed": (1, "pte"),
    "pair.validation_size": (60, "pte"),
    "pair.training_size": (340, "pte"),
    "pair.pairs_per_image": (2, "pte"),
    "model.fusion": ("add", "te"),
    "model.trunk": ("small", "te"),
    "model.deskew": (False, "te"),
    "compute.numerics": ("native", "te"),
    "compute.threads": (2, "te"),
    "train.device": ("cpu", "t"),
    "train.precision": ("bfloat16", "te"),
    "train.compile": (True, "t"),  # a compiled pass may round otherwise, but the tests' server does not compile
    "train.seed": (1, "te"),
    "train.epochs": (1.5, "te"),
    "train.clean_epochs": (1, "te"),
    "train.batch_size": (25, "te"),
    "train.redraw_numbers": (True, "t"),  # with `shift` the numbers change nothing but the bits of the sum's loss
    "train.optimizer": ("adam", "te"),
    "train.schedule": ("constant", "te"),
    "train.lr": (0.005, "te"),
    "train.weight_decay": (0.5, "te"),
    "train.softmax_first": (True, "te"),
    "train.label_smoothing": (0.2, "te"),
    "train.sum_loss_share": (0.25, "te"),
    "train.average_decay": (0.5, "te"),
    "train.rotation": (5, "te"),
    "train.scaling": (0.2, "te"),
    "train.shear": (0.2, "te"),
    "train.translation": (0.5, "te"),
    "evaluate.calibration_bins": (5, "e"),
    "evaluate.mistakes_shown": (5, "e"),
}

# The stages that a folder of code belongs to: a comment in its files reruns them, and no others, because their outputs
# come out the same.
FOLDERS = {
    "src/digitsum/__init__.py": "fpte",
    "src/digitsum/__main__.py": "",
    "src/digitsum/cli.py": "",
    "src/digitsum/core": "fpte",
    "src/digitsum/data": "pte",
    "src/digitsum/evaluation": "e",
    "src/digitsum/mnist": "fp",
    "src/digitsum/model": "te",
    "src/digitsum/pairing": "p",
    "src/digitsum/plotting": "pe",
    "src/digitsum/report": "",
    "src/digitsum/training": "t",
    "stages/__main__.py": "fpte",
    "stages/evaluate.py": "e",
    "stages/fetch.py": "f",
    "stages/pair.py": "p",
    "stages/train.py": "t",
}


def names(letters):
    return [LETTERS[letter] for letter in letters]


def test_the_tables_name_every_stage_parameter_and_folder():
    """If this fails, add what is missing to its table here, with the stages that must run when it changes."""
    assert list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]) == STAGES
    groups = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert {f"{group}.{key}" for group, keys in groups.items() for key in keys} == PARAMETERS.keys()
    code = [path for folder in ("src/digitsum", "stages") for path in (ROOT / folder).iterdir()]
    assert {path.relative_to(ROOT).as_posix() for path in code if any(path.rglob("*.py")) or path.suffix == ".py"} == (
        FOLDERS.keys()
    )


@pytest.mark.parametrize("key", PARAMETERS)
def test_a_changed_parameter_reruns_what_it_affects(project, tmp_path, key):
    value, stages = PARAMETERS[key]
    if value == "changed":
        value = change_source(project, tmp_path, key)
    project.set_param(key, value)
    assert project.reproduce() == names(stages)


@pytest.mark.parametrize("letter", LETTERS)
def test_each_stage_declares_the_folders_of_its_column(letter):
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][LETTERS[letter]]
    assert {name for name in stage["deps"] if name.startswith(("src", "stages"))} == {
        name for name, letters in FOLDERS.items() if letter in letters
    }


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_changed_file_of_code_reruns_the_stages_of_its_folder(project, folder):
    path = project.folder / folder
    for file in [path] if path.is_file() else path.glob("*.py"):
        with file.open("a") as code:
            code.write("# a comment\n")
    assert project.reproduce() == names(FOLDERS[folder])


@pytest.mark.parametrize("name", idx.FILES)
def test_a_spoiled_raw_file_is_restored_and_nothing_is_made_from_it(project, name):
    before = project.outputs()
    path = project.folder / "data/raw" / name
    content = path.read_bytes()
    path.unlink()  # it may be a link into DVC's cache, which must stay whole
    path.write_bytes(content[:-1] + b"\7")
    assert project.reproduce() == ["fetch"]
    assert project.outputs() == before


def test_with_nothing_changed_nothing_runs(project):
    assert project.reproduce() == []


def test_a_parameter_flipped_and_flipped_back_comes_from_the_cache_with_the_same_bytes(project):
    before = project.outputs()
    project.set_param("train.lr", 0.005)
    assert project.reproduce() == ["train", "evaluate"]
    assert project.outputs() != before
    project.set_param("train.lr", 0.01)
    assert project.reproduce() == []
    assert project.outputs() == before


@pytest.mark.parametrize("folder", ["data", "models", "metrics", "plots"])
def test_deleted_outputs_are_restored_without_a_run(project, folder):
    before = project.outputs()
    shutil.rmtree(project.folder / folder)
    assert project.reproduce() == (["fetch"] if folder == "data" else [])  # which keeps what it has, see below
    assert project.outputs() == before


def test_fetch_keeps_the_files_that_are_right_and_needs_no_source_for_them(project):
    project.environment["MNIST_MIRROR"] = "/nowhere"
    before = project.outputs()
    project.set_param("fetch.timeout", 11)
    assert project.reproduce() == ["fetch"]
    assert project.outputs() == before


# --- Declared is used, used is declared ------------------------------------------------------------------------------


def check(project):
    """Run `make check` in the project; return its exit code and what it printed."""
    return project.run(sys.executable, "-m", "tools.check")


def test_each_stage_declares_what_it_imports_and_dvc_lock_is_up_to_date(project):
    exit_code, printed = check(project)
    assert printed == "".join(f"{stage}: as dvc.lock records it\n" for stage in STAGES)
    assert exit_code == 0


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_reads_every_parameter_that_it_declares(project, stage, monkeypatch):
    """A stage that read a group that it does not declare would fail: see test_params.py."""
    read = set()

    def record(group, key):
        read.add(f"{type(group).__name__.lower()}.{key}")
        return object.__getattribute__(group, key)

    for group in GROUPS.values():
        monkeypatch.setattr(group, "__getattribute__", record, raising=False)
    monkeypatch.setenv("MNIST_MIRROR", project.environment["MNIST_MIRROR"])
    monkeypatch.chdir(project.folder)
    stage = Stage(stage)
    importlib.import_module(f"stages.{stage.name}").main(stage)
    declared = {f"{group}.{key}" for group in stage.declared.groups for key in stage.declared.values[group]}
    unread = declared - read
    assert not unread, f"dvc.yaml: stage {stage.name} declares groups whose keys {unread} it never reads"


@pytest.mark.parametrize("stage", STAGES)
def test_an_undeclared_import_is_found_by_reading_and_stops_the_stage(project, stage, capfd):
    (project.folder / "src/digitsum/extra").mkdir()
    for name in ("__init__", "one"):
        (project.folder / f"src/digitsum/extra/{name}.py").write_text("")
    code = project.folder / f"stages/{stage}.py"
    start = "def main(stage: Stage) -> None:\n"
    code.write_text(code.read_text().replace(start, f"{start}    import digitsum.extra.one\n", 1))
    exit_code, printed = check(project)
    assert exit_code == 1
    assert 'imports src/digitsum/extra without declaring it: add "- src/digitsum/extra" under deps' in printed
    with pytest.raises(ReproductionError):
        project.reproduce(targets=[stage])
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: dvc.yaml: stage {stage} imports src/digitsum/extra/")
    assert f'add "- src/digitsum/extra" under stages.{stage}.deps' in error


def test_a_dependency_that_is_missing_or_unused_is_found_by_reading(project):
    path = project.folder / "dvc.yaml"
    pipeline = yaml.safe_load(path.read_text())
    declared = {stage: pipeline["stages"][stage]["deps"] for stage in STAGES}
    for stage in STAGES:
        pipeline["stages"][stage]["deps"] = [name for name in declared[stage] if not name.startswith(("src", "stages"))]
        pipeline["stages"][stage]["deps"].append("src/digitsum/report")
    path.write_text(yaml.safe_dump(pipeline))
    exit_code, printed = check(project)
    assert exit_code == 1
    for deps in declared.values():
        for name in deps:
            if name.startswith(("src", "stages")):
                assert f'imports {name} without declaring it: add "- {name}" under deps' in printed
    assert (
        printed.count('declares src/digitsum/report and imports nothing from it: remove "- src/digitsum/report"') == 4
    )
    assert "Traceback" not in printed


# --- Inputs that change while a stage runs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("src/digitsum/training/loop.py", "src/digitsum/training/loop.py"),
        ("stages/train.py", "stages/train.py"),
        ("params.yaml", "params.yaml: train.lr"),
    ],
)
def test_what_is_edited_during_a_run_is_not_recorded_as_what_ran(project, file, named, capfd):
    network, edited = project.folder / "src/digitsum/model/network.py", project.folder / file
    original = network.read_text()
    network.write_text(original + EDIT.format(edited=str(edited)))
    lock = (project.folder / "dvc.lock").read_text()
    with pytest.raises(ReproductionError):
        project.reproduce(targets=["train"])
    assert capfd.readouterr().err.splitlines()[-1].startswith(f"error: {named} changed while stage train ran")
    assert (project.folder / "dvc.lock").read_text() == lock
    network.write_text(original)
    project.reproduce()
    assert stale_stages(project.folder) == {}


# Stands for a person with an editor: runs when the stage is under way, for training/loop.py imports this file.
EDIT = """
from pathlib import Path

edited = Path({edited!r})
content = edited.read_bytes()
edited.unlink()
edited.write_bytes(content.replace(b"lr: 0.01", b"lr: 0.02") + (b"\\n" if edited.suffix == ".py" else b""))
"""


def change_source(project, tmp_path, key):
    """Change one file at the source of MNIST: other images, or two digits exchanged; give its new digest."""
    name = {f"mnist.{leaf}": name for name, leaf in DIGEST_KEYS.items()}[key]
    mirror = tmp_path / "mirror"
    shutil.copytree(project.environment["MNIST_MIRROR"], mirror)
    project.environment["MNIST_MIRROR"] = str(mirror)
    path = mirror / f"{name}.gz"
    array = idx.parse_idx(gzip.decompress(path.read_bytes()), name).copy()
    array[:2] = array[1::-1] if array.ndim == 1 else 255 - array[:2]
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content))
    return hashlib.sha256(content).hexdigest()
