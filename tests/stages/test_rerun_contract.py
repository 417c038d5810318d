"""What reruns when something changes: the contract, as two tables, and real reproductions of the project's dvc.yaml.

f, p, t, e, x stand for the stages fetch, pair, train, evaluate, export.
"""

import gzip
import hashlib
import importlib
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from dvc.exceptions import ReproductionError
from harness.groups import GROUPS
from harness.project import ROOT, STAGES
from harness.tiny_mnist import DIGEST_KEYS, idx_bytes

from digitsum.core.files import leaves, read_yaml
from digitsum.core.pipeline import read_declaration
from digitsum.core.runner import Stage
from digitsum.mnist import idx
from tools.check import imported_modules, stale_stages
from tools.versions import pinned_versions

# A new value for each parameter, and the stages that run then: those that read it, and those whose inputs came out
# different. Another number of shards, for instance, gives another model; another device "cpu" here does not.
PARAMETERS = {
    "mnist.train_images_sha256": ("changed", "fptex"),  # with the file itself, as in the next three
    "mnist.train_labels_sha256": ("changed", "fptex"),
    "mnist.test_images_sha256": ("changed", "fpex"),
    "mnist.test_labels_sha256": ("changed", "fpex"),
    "fetch.timeout": (11, "f"),
    "pair.seed": (1, "ptex"),
    "pair.validation_size": (60, "ptex"),
    "pair.training_size": (340, "ptex"),
    "pair.pairs_per_image": (2, "ptex"),
    "model.fusion": ("add", "tex"),
    "model.trunk": ("small", "tex"),
    "model.deskew": (False, "tex"),
    "compute.numerics": ("native", "tex"),
    "train.device": ("cpu", "t"),
    "train.precision": ("bfloat16", "tex"),
    "train.compile": (True, "t"),  # a compiled pass may round otherwise, but the tests' server does not compile
    "train.seed": (1, "tex"),
    "train.epochs": (1.5, "tex"),
    "train.clean_epochs": (1, "tex"),
    "train.batch_size": (25, "tex"),
    "train.shards": (2, "tex"),
    "train.redraw_numbers": (True, "t"),  # with `shift` the numbers change nothing but the bits of the sum's loss
    "train.optimizer": ("adam", "tex"),
    "train.schedule": ("constant", "tex"),
    "train.lr": (0.005, "tex"),
    "train.weight_decay": (0.5, "tex"),
    "train.softmax_first": (True, "tex"),
    "train.label_smoothing": (0.2, "tex"),
    "train.sum_loss_share": (0.25, "tex"),
    "train.average_decay": (0.5, "tex"),
    "train.rotation": (5, "tex"),
    "train.scaling": (0.2, "tex"),
    "train.shear": (0.2, "tex"),
    "train.translation": (0.5, "tex"),
    "evaluate.calibration_bins": (5, "e"),
    "evaluate.mistakes_shown": (5, "e"),
}

# The stages that a folder of code belongs to: a comment in its files reruns them, and no others, because their outputs
# come out the same.
FOLDERS = {
    "src/digitsum/__init__.py": "fptex",
    "src/digitsum/__main__.py": "",
    "src/digitsum/cli.py": "",
    "src/digitsum/core": "fptex",
    "src/digitsum/data": "ptex",
    "src/digitsum/evaluation": "e",
    "src/digitsum/export": "x",
    "src/digitsum/mnist": "fp",
    "src/digitsum/model": "tex",
    "src/digitsum/pairing": "p",
    "src/digitsum/picture.py": "",
    "src/digitsum/plotting": "pe",
    "src/digitsum/prediction.py": "",
    "src/digitsum/report": "",
    "src/digitsum/sheet.py": "",
    "src/digitsum/training": "t",
    "src/digitsum/verification.py": "",
    "stages/__main__.py": "fptex",
    "stages/evaluate.py": "e",
    "stages/export.py": "x",
    "stages/fetch.py": "f",
    "stages/pair.py": "p",
    "stages/train.py": "t",
}

# The stages that declare a package: another version could change what they write. fetch writes what its digests say.
VERSIONS = {
    "torch": "ptex",
    "numpy": "pex",
    "safetensors": "ptex",
    "scikit-learn": "pe",
    "matplotlib": "pe",
    "pillow": "pe",  # writes matplotlib's PNG files
    "onnx": "x",
    "onnx-ir": "x",  # these two are what torch.onnx.export writes with
    "onnxscript": "x",
    "onnxruntime": "x",
    "wasmtime": "x",
}
INDIRECT = {"pillow", "onnx-ir", "onnxscript"}


def names(letters):
    return [stage for stage, letter in zip(STAGES, "fptex", strict=True) if letter in letters]


def test_the_tables_name_every_stage_parameter_and_folder():
    """If this fails, add what is missing to its table here, with the stages that must run when it changes."""
    assert list(read_yaml(ROOT / "dvc.yaml")["stages"]) == STAGES
    assert leaves(read_yaml(ROOT / "params.yaml")).keys() == PARAMETERS.keys()
    folders = {file.parent for file in ROOT.glob("src/digitsum/*/*.py")}
    code = [*folders, *ROOT.glob("src/digitsum/*.py"), *ROOT.glob("stages/*.py")]
    assert {path.relative_to(ROOT).as_posix() for path in code} == FOLDERS.keys()


@pytest.mark.parametrize("key", PARAMETERS)
def test_a_changed_parameter_reruns_what_it_affects(project, tmp_path, key):
    value, stages = PARAMETERS[key]
    if value == "changed":
        value = change_source(project, tmp_path, key)
    project.set_param(key, value)
    assert project.reproduce() == names(stages)


@pytest.mark.parametrize("package", VERSIONS)
def test_another_version_makes_its_stages_stale_and_they_refuse_to_run_with_this_one(project, package, capfd):
    versions = read_yaml(project.folder / "versions.yaml")
    (project.folder / "versions.yaml").write_text(yaml.safe_dump({**versions, package: ["9.8", "9.9"]}))
    assert list(stale_stages(project.folder)) == names(VERSIONS[package])
    with pytest.raises(ReproductionError):
        project.reproduce()
    message = rf"error: {package}: {version(package)} installed, 9.8 or 9.9 expected by versions.yaml"
    assert capfd.readouterr().err.splitlines()[-1].startswith(message)


def test_versions_are_those_of_the_lock_file_and_of_every_package_that_a_stage_imports(monkeypatch):
    monkeypatch.chdir(ROOT)
    pinned = pinned_versions(Path("requirements.lock").read_text())
    assert pinned == Path("versions.yaml").read_text(), "run `make lock`"
    for stage in names("ptex"):
        own = {"digitsum", "stages", "filelock", "ruamel", "tqdm"}  # and those that change no result
        imported = {module for module in imported_modules(stage) if module.split(".")[0] not in own}
        packages = {"scikit-learn" if name == "sklearn" else name for name in imported - sys.stdlib_module_names}
        declared = read_declaration(stage).versions.keys()
        assert packages == declared - INDIRECT, stage
        assert declared == {package for package, letters in VERSIONS.items() if stage in names(letters)}


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_changed_file_of_code_reruns_the_stages_of_its_folder(project, folder):
    path = project.folder / folder
    for file in [path] if path.is_file() else path.glob("*.py"):
        with file.open("a") as code:
            code.write("# a comment\n")
    assert project.reproduce() == names(FOLDERS[folder])


def test_a_parameter_flipped_and_flipped_back_comes_from_the_cache_with_the_same_bytes(project):
    before = project.outputs()
    project.set_param("train.lr", 0.005)
    assert project.reproduce() == ["train", "evaluate", "export"]
    assert project.outputs() != before
    project.set_param("train.lr", 0.01)
    assert project.reproduce() == []
    assert project.outputs() == before


@pytest.mark.parametrize("folder", ["data", "models", "metrics", "plots", "web"])
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


def test_the_gate_passes_what_was_just_run_and_needs_no_data(project):
    for folder in ("data", "models", ".dvc/cache"):
        shutil.rmtree(project.folder / folder)
    printed = project.succeed("python", "-m", "tools.check")
    assert printed == "".join(f"{stage}: as dvc.lock records it\n" for stage in STAGES)


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
    printed = project.fail("python", "-m", "tools.check")
    assert 'imports src/digitsum/extra without declaring it: add "- src/digitsum/extra" under deps' in printed
    with pytest.raises(ReproductionError):
        project.reproduce(targets=[stage])
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: dvc.yaml: stage {stage} imports src/digitsum/extra/")
    assert f'add "- src/digitsum/extra" under stages.{stage}.deps' in error


def test_a_dependency_that_is_not_used_is_found_by_reading(project):
    path = project.folder / "dvc.yaml"
    path.write_text(path.read_text().replace("    deps:\n", "    deps:\n      - src/digitsum/report\n"))
    printed = project.fail("python", "-m", "tools.check")
    unused = 'declares src/digitsum/report and imports nothing from it: remove "- src/digitsum/report"'
    assert printed.count(unused) == len(STAGES)


def test_a_group_that_no_stage_declares_is_refused_though_nothing_runs(project):
    with (project.folder / "params.yaml").open("a") as file:
        file.write("mood: {good: true}\n")
    assert "params.yaml: no stage declares mood; remove it" in project.fail("python", "-m", "tools.check")


def test_line_ends_that_git_does_not_store_are_refused_and_the_advice_helps(project):
    path = project.folder / "src/digitsum/model/trunks.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    project.reproduce()
    error = project.fail("python", "-m", "tools.check").splitlines()[-1]
    assert "that a clone would run other bytes: src/digitsum/model/trunks.py" in error
    project.succeed("sh", "-c", re.search("`(git add .*?)`", error)[1])
    project.reproduce()
    project.succeed("python", "-m", "tools.check")


def test_the_check_needs_neither_numpy_nor_pytorch(project):
    """They are not in requirements-check.lock."""
    without = "import runpy, sys; sys.modules['numpy'] = sys.modules['torch'] = None; "
    project.succeed(sys.executable, "-c", f"{without}runpy.run_module('tools.check', run_name='__main__')")


def test_line_ends_that_git_cannot_tell_are_refused(project):
    project.environment |= {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    error = project.fail("python", "-m", "tools.check").splitlines()[-1]
    assert f"git config --global --add safe.directory {project.folder}" in error


def test_a_damaged_object_in_dvcs_cache_is_refused(project):
    model = read_yaml(project.folder / "dvc.lock")["stages"]["train"]["outs"][-1]["md5"]
    (kept,) = project.folder.glob(f".dvc/cache/files/md5/*/{model[2:]}")
    kept.unlink()
    kept.write_bytes(b"")
    error = project.fail("python", "-m", "tools.check").splitlines()[-1]
    assert error.startswith("error: damaged: .dvc/cache/files/md5/")
    project.succeed("digitsum", "verify", "--repair")
    project.succeed("python", "-m", "tools.check")


# --- Inputs that change while a stage runs ---------------------------------------------------------------------------


# Stands for a person with an editor: runs when the stage is under way, for training/loop.py imports what it ends.
EDIT = """
from pathlib import Path

edited = Path("{file}")
content = edited.read_bytes()
edited.write_bytes(content.replace(b"lr: 0.01", b"lr: 0.02") + (b"\\n" if edited.suffix == ".py" else b""))
"""


@pytest.mark.parametrize("named", ["src/digitsum/training/loop.py", "stages/train.py", "params.yaml: train.lr"])
def test_what_is_edited_during_a_run_is_not_recorded_as_what_ran(project, named, capfd):
    network = project.folder / "src/digitsum/model/network.py"
    original = network.read_text()
    network.write_text(original + EDIT.format(file=named.partition(":")[0]))
    lock = (project.folder / "dvc.lock").read_text()
    with pytest.raises(ReproductionError):
        project.reproduce(targets=["train"])
    assert capfd.readouterr().err.splitlines()[-1].startswith(f"error: {named} changed while stage train ran")
    assert (project.folder / "dvc.lock").read_text() == lock
    network.write_text(original)
    project.reproduce()
    assert stale_stages(project.folder) == {}


def change_source(project, tmp_path, key):
    """Exchange the first two images, or digits, in one file at the source of MNIST; return its new digest."""
    name = {f"mnist.{leaf}": name for name, leaf in DIGEST_KEYS.items()}[key]
    mirror = tmp_path / "mirror"
    shutil.copytree(project.environment["MNIST_MIRROR"], mirror)
    project.environment["MNIST_MIRROR"] = str(mirror)
    path = mirror / f"{name}.gz"
    array = idx.parse_idx(gzip.decompress(path.read_bytes()), name).copy()
    array[[0, 1]] = array[[1, 0]]
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content))
    return hashlib.sha256(content).hexdigest()
