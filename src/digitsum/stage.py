"""Run a stage: alone, on what it declares, its inputs staying as they were; a foreseen failure ends in one line.

DVC hashes the dependencies of a stage only when its command has ended (treeverse/dvc#11058). What was edited in
between would stand in dvc.lock as what made the outputs. So a stage remembers its inputs before it imports or reads
the first of them, and compares at its end.
"""

import contextlib
import gc
import hashlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from digitsum.errors import DigitsumError
from digitsum.params import declared_dependencies, declared_values

ROOT = Path(__file__).resolve().parents[2]  # of this copy of the project
LOCK = Path("checkpoints/stage.lock")
PYTORCH_LACKS_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory")  # in a RuntimeError
_at_start: dict[str, Any] = {}


def current_stage() -> str:
    """Name the stage that DVC runs, "" if none: of studies/fusions/dvc.yaml:trial@shift-0 it is "trial"."""
    return os.environ.get("DVC_STAGE", "").rpartition(":")[2].partition("@")[0]


def remember_inputs(stage: str) -> None:
    """Remember what `stage` declares in ./dvc.yaml as it is now: to be called before its code is imported."""
    with contextlib.suppress(DigitsumError):  # a bad dvc.yaml or params.yaml: run_stage will say so
        _at_start.update(_inputs(stage))


def run_stage(stage: str, main: Callable[[], None]) -> None:
    """Run a stage's main; a foreseen failure prints one line and exits with 1, a bug keeps its traceback."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: temporary files are removed
    # What was imported stays: to look for garbage in PyTorch's modules, now and again and at the end, takes a second.
    gc.freeze()
    try:
        with _alone(stage):
            _refuse_undeclared_imports(stage)
            main()
            _refuse_undeclared_imports(stage)  # some imports wait inside functions
            _refuse_changed_inputs(stage)
            gc.freeze()
    except DigitsumError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        reason = error.strerror or error
        sys.exit(f"error: {reason}{where}. Nothing half-written was kept: mend this and run `dvc repro` again.")
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not PYTORCH_LACKS_MEMORY.search(str(error)):
            raise
        sys.exit("error: out of memory. Close other programs, or lower the batch size, and run again.")
    except KeyboardInterrupt:
        sys.exit("error: interrupted. `dvc repro` runs this stage again; training goes on from its last checkpoint.")


def inputs_digest(stage: str, *more: str) -> str:
    """Give a SHA-256 over `more` and the contents of all that `stage` declares, its code as it was at the start."""
    inputs = (_at_start or _inputs(stage)).items()
    contents = {name: _sha256(Path(name)) if isinstance(value, tuple) else value for name, value in inputs}
    return hashlib.sha256(repr((sorted(contents.items()), more)).encode()).hexdigest()


@contextlib.contextmanager
def _alone(stage: str) -> Iterator[None]:
    """Keep other stages out of this folder, such as one whose `dvc repro` was killed while it went on itself.

    The system releases the lock when the process ends, however it ends.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    holder = LOCK.with_suffix(".holder")
    try:
        with FileLock(LOCK, timeout=0):
            holder.write_text(f"stage {stage}, process {os.getpid()}")
            yield
    except Timeout:
        raise DigitsumError(
            f"{holder.read_text()}, is at work in this folder, left by a `dvc repro` that was killed or started by "
            "hand. Wait until it has ended, or end it, and run `dvc repro` again"
        ) from None


def _refuse_undeclared_imports(stage: str) -> None:
    declared = {Path(name) for name in declared_dependencies(stage)}
    for module in list(sys.modules.values()):
        file = str(getattr(module, "__file__", None))
        if file.startswith(f"{ROOT}{os.sep}") and not file.startswith(sys.prefix):
            path = Path(os.path.relpath(file))
            if declared.isdisjoint([path, *path.parents]):
                name = path.as_posix()
                raise DigitsumError(
                    f"dvc.yaml: stage {stage} imports {name} without declaring it, so DVC would not rerun it when "
                    f'that file changes; add "- {name}" under stages.{stage}.deps'
                )


def _refuse_changed_inputs(stage: str) -> None:
    now = _inputs(stage)
    for name, then in _at_start.items():
        if now.get(name) != then:
            raise DigitsumError(
                f"{name} changed while stage {stage} ran, and DVC would record the new state as what made the "
                "outputs; run `dvc repro` again (`dvc exp run --temp` runs in a copy: there you may edit meanwhile)"
            )


def _inputs(stage: str) -> dict[str, Any]:
    """Give a fingerprint of each dependency that `stage` declares, and the values of its parameters."""
    files = {name: _fingerprint(Path(name)) for name in declared_dependencies(stage)}
    return files | {f"params.yaml: {key}": value for key, value in declared_values(stage).items()}


def _fingerprint(path: Path) -> Any:
    if path.is_dir():
        return {file.name: _fingerprint(file) for file in path.iterdir() if file.name != "__pycache__"}
    if not path.exists():
        return "missing"
    if path.suffix == ".py":
        return _sha256(path)
    return path.stat().st_size, path.stat().st_mtime_ns  # data is large: not read twice more


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
