"""`make check`: does dvc.yaml declare what the code uses, and is dvc.lock that of the files here? Needs no data.

1. Each stage declares the folders and files that it imports, and no others; params.yaml has no other groups.
2. dvc.lock records the code, the parameters and the results that are here: nothing would rerun.
3. A clone gets the same bytes of the code: git stores it as it is here.
4. Data that is here, or in DVC's cache, is as dvc.lock records it.

Results in studies/ may be older: that is printed and is no error.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grimp
from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import PipelineStage

from digitsum.core.errors import DigitsumError, one_line_errors
from digitsum.core.files import leaves, read_yaml
from digitsum.core.pipeline import read_declaration, stage_blocks
from digitsum.core.runner import dependency_of
from digitsum.report.git import git
from digitsum.verification import MISSING, faults, recorded_files


def main() -> None:
    """Print a line for each stage; exit with 1, and with what to do, if one is stale or wrongly declared."""
    undeclared = {stage: found for stage in stage_blocks() if (found := code_faults(stage))}
    stale = stale_stages(Path())
    for stage in stage_blocks():
        reasons = undeclared.get(stage, []) + stale.get(stage, [])
        print(f"{stage}: " + ("\n    ".join(["", *reasons]) if reasons else "as dvc.lock records it"))
    if undeclared:
        raise DigitsumError("fix dvc.yaml where it is named above, then run `make repro` and commit what changed")
    if other := stored_otherwise():
        files = " ".join(other)
        raise DigitsumError(
            f"git stores other line ends than are here, so that a clone would run other bytes: {files}; "
            f"run `git add {files} && rm {files} && git checkout {files}`, then `make repro`"
        )
    if stale:
        raise DigitsumError("run `make repro`, and commit what changed")
    if damaged := [str(path) for path, found in faults(recorded_files()).items() if found != MISSING]:
        raise DigitsumError(f"damaged: {', '.join(damaged)}; run `digitsum verify --repair`")
    if Path("studies/.dvc").exists() and (older := stale_stages(Path("studies"))):
        print(f"studies: {', '.join(older)} are older than what is here; `make studies` tells whether results change")


def code_faults(stage: str) -> list[str]:
    """Return a line for each dependency of `stage` that is missing in ./dvc.yaml, or from which nothing is imported."""
    code = [name for name in read_declaration(stage).dependencies if name.startswith(("src", "stages"))]
    used = {"src/digitsum/__init__.py"} | {dependency_of(file, code) for file in imported_files(stage)}
    return [
        *(f'imports {name} without declaring it: add "- {name}" under deps' for name in sorted(used - set(code))),
        *(f'declares {name} and imports nothing from it: remove "- {name}"' for name in sorted(set(code) - used)),
    ]


def stored_otherwise() -> list[str]:
    """Return the files of code whose line ends git changes when it stores them."""
    listed = git("ls-files", "--eol", "--cached", "--others", "--exclude-standard", "src", "stages").splitlines()
    return [line.split("\t")[1] for line in listed if line.split()[1] in ("w/crlf", "w/mixed")]


def imported_files(stage: str) -> list[Path]:
    """Return the files of this project's modules that `stage` imports."""
    paths = [Path(*module.split(".")) for module in imported_modules(stage)]
    found = [Path(root, path).with_suffix(".py") for path in paths for root in ("src", ".")]
    return [path.resolve() for path in found if path.is_file()]


def imported_modules(stage: str) -> set[str]:
    """Return the modules that `stage` and its runner import, directly or not, and the packages of others."""
    graph = grimp.build_graph(
        "digitsum", "stages", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )
    own = {f"stages.{stage}", "stages.__main__"}
    return own.union(*(graph.find_upstream_modules(module) for module in own))


def stale_stages(root: Path) -> dict[str, list[str]]:
    """Return for each stage that would rerun the reasons why, from DVC's lock file and the files of the project `root`.

    Data that DVC keeps may be missing. Its recorded digests must then agree between the stage that makes it and those
    that read it.
    """
    try:
        with contextlib.chdir(root), Repo() as repo, repo.lock:  # DVC names paths from the current folder
            if Path("dvc.lock").exists():
                read_yaml(Path("dvc.lock"))  # DVC's own reader overflows the stack when it is nested deeply
            outputs = {str(out): out for stage in repo.index.stages for out in stage.outs}
            cached = {name for name, out in outputs.items() if out.use_cache}
            stale = {}
            for stage in repo.index.stages:
                reasons = [one for entries in stage.status().values() for one in _reasons(stage, entries, cached)]
                for dependency in stage.deps:
                    name, is_file = str(dependency), not isinstance(dependency, ParamsDependency)
                    if is_file and name in outputs and outputs[name].hash_info != dependency.hash_info:
                        reasons.append(f"{name} is recorded with two different digests")
                if reasons:
                    stale[stage.addressing] = [f"stale: {reason}" for reason in reasons]
            return stale
    except NotImplementedError:
        raise DigitsumError(
            "dvc.lock names a kind of hash that DVC does not know; run `git checkout dvc.lock`"
        ) from None
    except (DvcException, OSError) as error:
        raise DigitsumError(" ".join(str(error).split())) from None


def _reasons(stage: PipelineStage, entries: list[Any], cached: set[str]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, str):  # such as "changed command"
            yield entry
            continue
        for changes in entry.values():
            for name, change in changes.items():
                if isinstance(change, dict):  # parameters: DVC names the group only
                    yield from (f"{name}: {key} modified" for key in _changed_params(stage, name))
                elif not (name in cached and change in ("deleted", "not in cache")):
                    yield f"{name} {change}"


def _changed_params(stage: PipelineStage, file: str) -> list[str]:
    """Return the full names of the parameters in `file` that are not what dvc.lock records for `stage`."""
    (dependency,) = (one for one in stage.deps if isinstance(one, ParamsDependency) and str(one) == file)
    recorded, now = leaves(dependency.hash_info.value or {}), leaves(dependency.read_params())
    return sorted(key for key in recorded.keys() | now.keys() if recorded.get(key) != now.get(key))


if __name__ == "__main__":
    with one_line_errors():
        main()
