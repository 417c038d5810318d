"""What `stages/__main__.py` runs a stage with: its inputs as they were at the start, one stage at a time, checks.

DVC hashes the dependencies of a stage only after its command has ended (treeverse/dvc#11058). It would record a file
that was edited in between as the one that made the outputs. So a stage takes a snapshot of its inputs before it imports
or reads the first of them, and compares at its end.
"""

import contextlib
import hashlib
import importlib
import importlib.metadata
import os
import shutil
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from digitsum.core.errors import DigitsumError
from digitsum.core.files import file_digest, leaves
from digitsum.core.params import to_group
from digitsum.core.pipeline import VERSIONS, read_declaration

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[3]  # of this copy of the project
CHECKPOINTS = "DIGITSUM_CHECKPOINTS"  # the variable with the folder of checkpoints
MONTH = 30 * 24 * 60 * 60  # seconds that an interrupted run can be continued
# Libraries may lie in this folder, as in .venv; and this folder may lie below sys.prefix, as in a container.
INSTALLED = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))

program = sys.modules["__main__"]
if program.__spec__ is None and Path(getattr(program, "__file__", "")).resolve().parent == ROOT / "stages":
    sys.exit("error: the file of a stage does nothing by itself: run `dvc repro`, or `python -m stages NAME`")


class Stage:
    """A stage as dvc.yaml in the current folder declares it, with its inputs as they were when this was made."""

    def __init__(self, name: str) -> None:
        """Take a snapshot of the inputs: read the parameters, hash the code. Raises DigitsumError if one is invalid."""
        self.name = name
        self.declared = read_declaration(name)
        self.initial_inputs = self.snapshot_inputs()
        self._checkpoints: list[Path] = []

    def params(self, group: type[T]) -> T:
        """Return a group of parameters. Raises DigitsumError if the stage does not declare it or a value is wrong."""
        key = group.__name__.lower()
        if key not in self.declared.groups:
            raise DigitsumError(
                f"dvc.yaml: stage {self.name} reads {key} without declaring it, so DVC would not rerun it when a value "
                f'changes; add "- {key}" under stages.{self.name}.params'
            )
        return to_group(group, self.declared.values)

    def digest(self, *more: str) -> str:
        """Return a SHA-256 of `more` and the contents of all inputs, the code as it was at the start."""
        return hashlib.sha256(repr((sorted(self.initial_inputs.items()), more)).encode()).hexdigest()

    def checkpoints(self, key: str) -> Path:
        """Return the folder of what a later run with the same `key` continues from, see remove_checkpoints.

        It is in DIGITSUM_CHECKPOINTS, a folder that other machines may reach, or in .dvc/tmp of the project. There it
        outlives the copies that `dvc exp run --temp` makes, which lie in .dvc/tmp/exps. Folders in which nothing was
        saved for a month are removed.
        """
        own = _dvc_tmp()
        copies = [folder for folder in own.parents if folder.match(".dvc/tmp/exps")]
        shared = Path(os.environ.get(CHECKPOINTS) or (copies[-1].parent if copies else own) / "checkpoints")
        for folder in shared.glob("[0-9a-f]" * 64):  # keys, and nothing else that the folder holds
            with contextlib.suppress(FileNotFoundError):  # another run has removed its own
                if time.time() - folder.stat().st_mtime > MONTH:
                    shutil.rmtree(folder, ignore_errors=True)
        self._checkpoints.append(shared / key)
        return shared / key

    def remove_checkpoints(self) -> None:
        """Remove the folders that this stage has asked for: it has succeeded, and its inputs are those of the start."""
        for folder in self._checkpoints:
            shutil.rmtree(folder, ignore_errors=True)

    def import_module(self) -> ModuleType:
        """Import the stage's own code: the declared file that has the stage's name."""
        files = [Path(name) for name in self.declared.code if Path(name).name == f"{self.name}.py"]
        if not files or not files[0].is_file():
            raise DigitsumError(
                f"dvc.yaml: stage {self.name} declares no file {self.name}.py; "
                f'add "- stages/{self.name}.py" under stages.{self.name}.deps'
            )
        path = Path(os.path.normpath(Path.cwd() / files[0])).relative_to(ROOT)
        return importlib.import_module(".".join(path.with_suffix("").parts))

    def refuse_other_versions(self) -> None:
        """Raise DigitsumError if a package that the stage names has another version than versions.yaml says."""
        for package, expected in self.declared.versions.items():
            try:
                installed = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                installed = "not"
            if installed.partition("+")[0] not in expected:  # +cu130: the build, for CUDA
                raise DigitsumError(
                    f"{package}: {installed} installed, {' or '.join(expected)} expected by versions.yaml, and another "
                    "version may give another result; run `pip install -r requirements.lock`, or change versions.yaml"
                )

    def refuse_undeclared_imports(self) -> None:
        """Raise DigitsumError if a module of this project is imported that no dependency covers."""
        declared = {Path(name).resolve() for name in self.declared.code}
        for module in list(sys.modules.values()):
            file = str(getattr(module, "__file__", None))
            if file.startswith(f"{ROOT}{os.sep}") and file.endswith(".py") and not file.startswith(INSTALLED):
                path = Path(file).resolve()
                if declared.isdisjoint([path, *path.parents]):
                    name = dependency_of(path, self.declared.code)
                    raise DigitsumError(
                        f"dvc.yaml: stage {self.name} imports {os.path.relpath(path)} without declaring it, so DVC "
                        f'would not rerun it when that file changes; add "- {name}" under stages.{self.name}.deps'
                    )

    def refuse_changed_inputs(self) -> None:
        """Raise DigitsumError if an input is not what it was at the start."""
        now = self.snapshot_inputs()
        for name in self.initial_inputs | now:
            if now.get(name) != self.initial_inputs.get(name):
                raise DigitsumError(
                    f"{name} changed while stage {self.name} ran, and DVC would record the new state as what made the "
                    "outputs; run `dvc repro` again (`dvc exp run --temp` runs in a copy: there you may edit meanwhile)"
                )

    def snapshot_inputs(self) -> dict[str, Any]:
        """Return a SHA-256 of each dependency, of files in folders too, and the values of the parameters."""
        declared = read_declaration(self.name)
        files: dict[str, Any] = {}
        for name in declared.dependencies:
            files |= _digests(Path(name))
        groups = {name.partition(".")[0] for name in declared.params}
        values = leaves({group: declared.values.get(group) for group in sorted(groups)})
        versions = {f"{VERSIONS}: {package}": versions for package, versions in declared.versions.items()}
        return files | {f"params.yaml: {key}": value for key, value in values.items()} | versions


def dependency_of(path: Path, declared: list[str]) -> str:
    """Return what to declare for the file `path`: its folder in src/digitsum, or the file itself.

    Written as the stage's other dependencies are: a study sees src through a link, see studies/README.md.
    """
    source = ROOT / "src"
    if path.parent.is_relative_to(source / "digitsum") and path.parent != source / "digitsum":
        path = path.parent
    if path.is_relative_to(source):
        prefix = next((name.partition("src/digitsum")[0] for name in declared if "src/digitsum" in name), "")
        return f"{prefix}{path.relative_to(ROOT).as_posix()}"
    return Path(os.path.relpath(path)).as_posix()


@contextlib.contextmanager
def only_one_stage(name: str) -> Iterator[None]:
    """Keep other stages out of this folder, such as one whose `dvc repro` was killed while the stage went on.

    The system releases the lock when the process ends, however it ends.
    """
    lock = lock_file()
    lock.parent.mkdir(parents=True, exist_ok=True)
    holder = lock.with_suffix(".holder")
    try:
        with FileLock(lock, timeout=0):
            holder.write_text(f"stage {name}, process {os.getpid()}")
            yield
    except Timeout:
        raise DigitsumError(
            f"{holder.read_text()}, is running in this folder, left by a `dvc repro` that was killed or started by "
            "hand. Wait until it has ended, or end it, and run `dvc repro` again"
        ) from None


def lock_file() -> Path:
    """Return the file that a stage in the current folder locks: stages of two studies, or of two copies, may run."""
    tmp = _dvc_tmp()
    return tmp / "running" / Path.cwd().relative_to(tmp.parents[1]) / "stage.lock"


def _dvc_tmp() -> Path:
    """Return .dvc/tmp of the DVC project that the current folder is in."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here) / ".dvc/tmp"


def _digests(path: Path) -> dict[str, str]:
    """Return the SHA-256 of a file, or "missing", by its path; for a folder, of each file in it."""
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
        return {file.as_posix(): file_digest(file, "sha256") for file in files}
    return {path.as_posix(): file_digest(path, "sha256") if path.exists() else "missing"}
