"""What reruns when something changes: the contract, as two tables, and real reproductions of the project's dvc.yaml.

f, p, t, e stand for the stages fetch, pair, train, evaluate.
"""

import gzip
import hashlib
import importlib
import re
import shutil

import pytest
import yaml
from conftest import DIGEST_KEYS, ROOT, STAGES, idx_bytes
from dvc.exceptions import ReproductionError

from digitsum import contract
from digitsum.data import idx
from digitsum.errors import DigitsumError
from digitsum.params import Group, declared_values

LETTERS = {stage[0]: stage for stage in STAGES}

# A new value for each parameter, and the stages that run then: those that read it, and those whose inputs came out
# different. Another number of threads, for instance, gives another model; another device "cpu" here does not.
PARAMETERS = {
    "fetch.timeout": (11, "f"),
    "fetch.train_images_sha256": ("changed", "fpte"),  # with the file itself, as in the next three
    "fetch.train_labels_sha256": ("changed", "fpte"),
    "fetch.test_images_sha256": ("changed", "fpe"),
    "fetch.test_labels_sha256": ("changed", "fpe"),
    "pair.seed": (1, "pte"),
    "pair.validation_size": (60, "pte"),
    "pair.training_size": (340, "pte"),
    "pair.pairs_per_image": (2, "pte"),
    "model.fusion": ("add", "te"),
    "model.trunk": ("small", "te"),
    "model.deskew": (False, "te"),
    "train.device": ("cpu", "t"),
    "train.numerics": ("native", "te"),
    "train.threads": (2, "te"),
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

# The stages that import each file: a comment in it reruns them, and no other, for their outputs come out the same.
FILES = {
    "src/digitsum/__init__.py": "fpte",
    "src/digitsum/__main__.py": "",
    "src/digitsum/artifacts.py": "fpte",
    "src/digitsum/cli.py": "",
    "src/digitsum/contract.py": "",
    "src/digitsum/data/figures.py": "p",
    "src/digitsum/data/idx.py": "fp",
    "src/digitsum/data/pairs.py": "p",
    "src/digitsum/data/sources.py": "f",
    "src/digitsum/data/splits.py": "pte",
    "src/digitsum/errors.py": "fpte",
    "src/digitsum/evaluation/figures.py": "e",
    "src/digitsum/evaluation/metrics.py": "e",
    "src/digitsum/evaluation/predict.py": "e",
    "src/digitsum/figures.py": "pe",
    "src/digitsum/model/fusions.py": "te",
    "src/digitsum/model/network.py": "te",
    "src/digitsum/model/trunks.py": "te",
    "src/digitsum/model/views.py": "te",
    "src/digitsum/numerics.py": "fpte",
    "src/digitsum/params.py": "fpte",
    "src/digitsum/plots_page.py": "",
    "src/digitsum/randomness.py": "pt",
    "src/digitsum/report/compare.py": "",
    "src/digitsum/report/figures.py": "",
    "src/digitsum/report/folder.py": "",
    "src/digitsum/report/markdown.py": "",
    "src/digitsum/report/revisions.py": "",
    "src/digitsum/report/significance.py": "",
    "src/digitsum/stage.py": "fpte",
    "src/digitsum/tensors.py": "pte",
    "src/digitsum/training/augment.py": "t",
    "src/digitsum/training/checkpoint.py": "t",
    "src/digitsum/training/devices.py": "t",
    "src/digitsum/training/history.py": "t",
    "src/digitsum/training/loop.py": "t",
    "stages/__init__.py": "fpte",
    "stages/evaluate.py": "e",
    "stages/fetch.py": "f",
    "stages/pair.py": "p",
    "stages/train.py": "t",
}


def names(letters):
    return [LETTERS[letter] for letter in letters]


def test_the_tables_name_every_stage_parameter_and_file():
    """If this fails, add what is missing to its table here, with the stages that must run when it changes."""
    assert list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]) == STAGES
    groups = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert {f"{group}.{key}" for group, keys in groups.items() for key in keys} == PARAMETERS.keys()
    code = [path for folder in ("src", "stages") for path in (ROOT / folder).rglob("*.py")]
    assert {path.relative_to(ROOT).as_posix() for path in code} == FILES.keys()


@pytest.mark.parametrize("key", PARAMETERS)
def test_a_changed_parameter_reruns_what_it_affects(project, tmp_path, key):
    value, stages = PARAMETERS[key]
    if value == "changed":
        value = change_source(project, tmp_path, key)
    project.set_param(key, value)
    assert project.reproduce() == names(stages)


@pytest.mark.parametrize("letter", LETTERS)
def test_each_stage_declares_the_files_of_its_column(letter):
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][LETTERS[letter]]
    assert {name for name in stage["deps"] if name.endswith(".py")} == {
        file for file, letters in FILES.items() if letter in letters
    }


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_a_changed_file_of_code_reruns_the_stages_that_import_it(project, file):
    with (project.folder / file).open("a") as code:
        code.write("# a comment\n")
    assert project.reproduce() == names(FILES[file])


@pytest.mark.parametrize("name", idx.FILES)
def test_a_spoiled_raw_file_is_restored_and_nothing_is_made_from_it(project, name):
    before = project.outputs()
    path = project.folder / "data/raw" / name
    content = path.read_bytes()
    path.unlink()  # it may be a link into DVC's cache, which must stay whole
    path.write_bytes(content[:-1] + b"\7")
    assert project.reproduce() == []
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
    assert project.reproduce() == []
    assert project.outputs() == before


# --- Declared is used, used is declared ------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_declares_the_files_that_it_imports_and_no_other(stage):
    assert contract.code_faults(stage, ROOT) == []


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_reads_every_parameter_that_it_declares(project, stage, monkeypatch):
    """A stage that read an undeclared one would fail: see test_params.py."""
    read = set()
    look_up = Group.__getattribute__

    def record(group, key):
        read.add(f"{type(group).__name__.lower()}.{key}")
        return look_up(group, key)

    monkeypatch.setattr(Group, "__getattribute__", record)
    monkeypatch.setenv("MNIST_MIRROR", project.environment["MNIST_MIRROR"])
    monkeypatch.chdir(project.folder)
    importlib.import_module(f"stages.{stage}").main()
    unread = declared_values(stage).keys() - read
    assert not unread, f"dvc.yaml: stage {stage} never reads {unread}: remove them under stages.{stage}.params"


@pytest.mark.parametrize("stage", STAGES)
def test_an_undeclared_import_is_found_by_reading_and_stops_the_stage(project, stage, capfd):
    (project.folder / "src/digitsum/extra.py").write_text("")
    code = project.folder / f"stages/{stage}.py"
    code.write_text(
        code.read_text().replace("def main() -> None:\n", "def main() -> None:\n    import digitsum.extra\n", 1)
    )
    fault = "imports src/digitsum/extra.py without declaring it"
    assert contract.code_faults(stage, project.folder) == [fault + ': add "- src/digitsum/extra.py" under deps']
    with pytest.raises(ReproductionError):
        project.reproduce(targets=[stage])
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: dvc.yaml: stage {stage} {fault}")
    assert f'add "- src/digitsum/extra.py" under stages.{stage}.deps' in error


@pytest.mark.parametrize("stage", STAGES)
def test_a_dependency_that_is_removed_or_superfluous_is_found_by_reading(project, stage):
    path = project.folder / "dvc.yaml"
    pipeline = yaml.safe_load(path.read_text())
    declared = pipeline["stages"][stage]["deps"]
    removed = [name for name in declared if name.endswith(".py")]
    pipeline["stages"][stage]["deps"] = [name for name in declared if name not in removed] + [
        "src/digitsum/contract.py"
    ]
    path.write_text(yaml.safe_dump(pipeline))
    assert contract.code_faults(stage, project.folder) == [
        *(f'imports {name} without declaring it: add "- {name}" under deps' for name in sorted(removed)),
        'declares src/digitsum/contract.py and does not import it: remove "- src/digitsum/contract.py"',
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("from .. import params", "name the module in full"),
        ("import importlib", "reading cannot follow what importlib imports"),
        ("from digitsum import load_model", "import digitsum.load_model from the module that defines it"),
        ("import (", "stages/train.py:1"),
    ],
)
def test_an_import_that_reading_cannot_follow_is_refused(project, line, message):
    (project.folder / "stages/train.py").write_text(line + "\n")
    with pytest.raises(DigitsumError, match=re.escape(message)):
        contract.code_faults("train", project.folder)


# --- Inputs that change while a stage runs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("src/digitsum/training/loop.py", "src/digitsum/training/loop.py"),
        ("stages/train.py", "stages/train.py"),
        ("params.yaml", "params.yaml: train.lr"),
        ("data/paired/train.safetensors", "data/paired/train.safetensors"),
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
    assert contract.stale_stages(project.folder) == {}


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
    name = {f"fetch.{leaf}": name for name, leaf in DIGEST_KEYS.items()}[key]
    mirror = tmp_path / "mirror"
    shutil.copytree(project.environment["MNIST_MIRROR"], mirror)
    project.environment["MNIST_MIRROR"] = str(mirror)
    path = mirror / f"{name}.gz"
    array = idx.parse_idx(gzip.decompress(path.read_bytes()), name).copy()
    array[:2] = array[1::-1] if array.ndim == 1 else 255 - array[:2]
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content))
    return hashlib.sha256(content).hexdigest()
