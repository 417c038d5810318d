"""The contract of dvc.yaml, checked without data and without running a stage: `make check`.

1. Each stage declares every file of this project that it imports, and no other.
2. dvc.lock records the code, the parameters and the results that are here: nothing would rerun.

Studies take hours, and keep the results of the code that they were run with: only that one is allowed to be older.
"""

import ast
import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo

from digitsum.core.errors import DigitsumError
from digitsum.core.params import declared_dependencies, read_yaml

CODE_FOLDERS = ("src", ".")  # where `import digitsum` and `import stages` are found
OLDER_CODE = r"(src/digitsum|stages|studies/\w+\.py) modified"


def main() -> None:
    """Print a line for each stage; exit with 1 if one is stale or declares other code than it imports."""
    root = Path()
    try:
        stages = read_yaml(root / "dvc.yaml").get("stages")
        if not isinstance(stages, dict):
            raise DigitsumError("dvc.yaml: there are no stages")
        faults = {stage: code_faults(stage, root) for stage in stages}
        if (root / "dvc.lock").exists():
            read_yaml(root / "dvc.lock")  # DVC's own reader breaks down without a word when it is nested deeply
        for stage, reasons in stale_stages(root).items():
            faults.setdefault(stage, []).extend(f"stale: {reason}" for reason in reasons)
    except (DigitsumError, DvcException, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except NotImplementedError:
        sys.exit("error: dvc.lock names a kind of hash that DVC does not know; run `git checkout dvc.lock`")
    for stage, lines in faults.items():
        print(f"{stage}: " + ("\n    ".join(["", *lines]) if lines else "as dvc.lock records it"))
    if any(faults.values()):
        sys.exit("error: mend dvc.yaml where it is named above, then run `make repro` and commit what changed")


def code_faults(stage: str, root: Path) -> list[str]:
    """Return a line for each file that the module stages.`stage` imports undeclared, or declares and does not import."""
    imported = imported_files(f"stages.{stage}", root)
    declared = {name for name in declared_dependencies(stage, root) if name.endswith(".py")}
    return [
        *(f'imports {name} without declaring it: add "- {name}" under deps' for name in sorted(imported - declared)),
        *(f'declares {name} and does not import it: remove "- {name}"' for name in sorted(declared - imported)),
    ]


def imported_files(module: str, root: Path) -> set[str]:
    """Return the files of this project that run when `module` is imported, as paths from `root`, found by reading.

    Imports inside functions count too, except in an __init__.py, where they serve users from outside.
    Raises DigitsumError for an import that reading cannot follow.
    """
    found: set[str] = set()
    waiting = _files_of(module, root)
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            for imported in _imported_modules(file, root):
                waiting += _files_of(imported, root)
    return found


def stale_stages(root: Path) -> dict[str, list[str]]:
    """Return for each stage that would rerun the reasons why, as DVC's lock file and the files here tell them.

    Data that DVC keeps may be missing. Its recorded digests must then agree between the stage that makes it and those
    that read it.
    """
    with contextlib.chdir(root), Repo() as repo, repo.lock:  # DVC names paths as seen from the current folder
        made = {str(out): out for stage in repo.index.stages for out in stage.outs}
        kept = {name for name, out in made.items() if out.use_cache}
        stale = {}
        for stage in repo.index.stages:
            reasons = [reason for entries in stage.status().values() for reason in _reasons(entries, kept)]
            if Path(stage.path_in_repo).parts[0] == "studies":
                reasons = [reason for reason in reasons if not re.fullmatch(OLDER_CODE, reason)]
            for dependency in stage.deps:
                name = str(dependency)
                if name in made and made[name].hash_info != dependency.hash_info:
                    reasons.append(f"{name} is recorded with two different digests")
            stale[stage.addressing] = reasons
    return {stage: reasons for stage, reasons in stale.items() if reasons}


def _reasons(entries: list[Any], kept: set[str]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, str):  # such as "changed command"
            yield entry
            continue
        for changes in entry.values():
            for name, change in changes.items():
                if isinstance(change, dict):
                    yield from (f"{name}: {key} {what}" for key, what in change.items())
                elif not (name in kept and change in ("deleted", "not in cache")):
                    yield f"{name} {change}"


def _files_of(module: str, root: Path) -> list[str]:
    """Return the files of this project that an import of `module` runs: the packages it lies in, and its own."""
    files = []
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        for folder in CODE_FOLDERS:
            path = Path(folder, *parts[:length])
            files += [
                file.as_posix() for file in (path / "__init__.py", path.with_suffix(".py")) if (root / file).is_file()
            ]
    return files


def _imported_modules(file: str, root: Path) -> Iterator[str]:
    try:
        tree = ast.parse((root / file).read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise DigitsumError(f"{file}:{error.lineno}: {error.msg}") from None
    for node in _imports(tree, in_functions=not file.endswith("__init__.py")):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif node.level:
            raise DigitsumError(
                f"{file}:{node.lineno}: name the module in full: reading cannot follow a relative import"
            )
        else:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            if _files_of(modules[0], root)[-1:] == ["src/digitsum/__init__.py"]:
                raise DigitsumError(f"{file}:{node.lineno}: import {modules[0]} from the module that defines it")
        if modules[0].partition(".")[0] in ("importlib", "runpy"):
            raise DigitsumError(f"{file}:{node.lineno}: reading cannot follow what {modules[0]} imports; use `import`")
        yield from modules


def _imports(tree: ast.AST, in_functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue  # runs in a type checker only
        elif in_functions or not isinstance(node, ast.FunctionDef):
            yield from _imports(node, in_functions)


if __name__ == "__main__":
    main()
