"""The merge driver of dvc.lock: takes every stage from the branch that changed it. `make merge-driver` switches it on.

Git calls `python merge_lock.py BASE OURS THEIRS PATH` with the three versions in files, and takes OURS as the result.
The result is a valid dvc.lock in any case: of a stage that both branches changed it has our version, and exit code 1
tells git that this is a conflict. DVC's own driver (`dvc git-hook merge-driver`) merges .dvc files only.
"""

import sys
from pathlib import Path
from typing import Any

from dvc.utils.serialize import YAMLFileCorruptedError, dump_yaml, load_yaml


def main(base: str, ours: str, theirs: str, path: str) -> None:
    """Merge into the file `ours`; exit with 1, and with what to do, if both changed a stage. path: of dvc.lock."""
    try:
        versions = [load_yaml(name) if Path(name).stat().st_size else {} for name in (base, ours, theirs)]
        stages, conflicts = merge(*(version.get("stages") or {} for version in versions))
    except (YAMLFileCorruptedError, AttributeError):
        sys.exit(f"error: {path} of one of the branches is no lock file of DVC; commit there what `dvc repro` writes")
    dump_yaml(ours, {**versions[2], **versions[1], "stages": stages})
    if conflicts:
        folder = Path(path).parent.as_posix()
        run = "make repro" if folder == "." else f"(cd {folder} && dvc repro)"
        sys.exit(
            f"error: {path}: both branches changed {', '.join(conflicts)}; "
            f"resolve params.yaml and the code, then run `{run}` and `git commit --all`"
        )


def merge(base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the merged stages, and the names of those that both changed, each in its own way: these are ours."""
    merged, conflicts = {}, []
    for name in dict.fromkeys([*ours, *theirs, *base]):
        old, our, their = (version.get(name) for version in (base, ours, theirs))
        if old != their and old != our and our != their:
            conflicts.append(name)
        if kept := their if old == our else our:
            merged[name] = kept
    return merged, conflicts


if __name__ == "__main__":
    main(*sys.argv[1:])
