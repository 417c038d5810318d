"""What dvc.yaml in the current folder declares for a stage: its dependencies and its parameters."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digitsum.core.errors import DigitsumError
from digitsum.core.files import read_yaml, shorten

VERSIONS = "versions.yaml"  # packages by name, each with its version or a list of versions


@dataclass(frozen=True)
class Declaration:
    """The block of one stage.

    dependencies: files and folders under `deps`. params: names under `params` that stand in params.yaml, such as
    "train". values: params.yaml, whole. versions: those of the packages under `versions.yaml`, one or several each.
    code: what the stage may import. groups: what it may read of params.yaml.

    The last two are what the stage declares, and in a study what `meta: {covered_by: ...}` names: folders, or a stage,
    for all that it declares. DVC does not rerun the stage when these change. So it must depend on a result that changes
    when they compute something else.
    """

    dependencies: list[str]
    params: list[str]
    values: dict[str, Any]
    versions: dict[str, list[str]]
    code: list[str]
    groups: set[str]


def read_declaration(stage: str) -> Declaration:
    """Read the block of `stage` in dvc.yaml, and params.yaml.

    Raises DigitsumError if there is no such stage, or if params.yaml has a group that no stage declares.
    """
    blocks = stage_blocks()
    if stage not in blocks:
        raise DigitsumError(f"dvc.yaml: there is no stage {stage}, only {', '.join(blocks)}")
    values = read_yaml(Path("params.yaml"))
    declared = {name: _params(name, block) for name, block in blocks.items()}
    if unknown := values.keys() - {name.partition(".")[0] for names in declared.values() for name in names}:
        raise DigitsumError(f"params.yaml: no stage declares {min(unknown)}; remove it, or fix its spelling")
    dependencies = _entries(stage, blocks[stage], "deps", str)
    covered, params = blocks[stage].get("meta", {}).get("covered_by", []), declared[stage]
    versions = _versions(stage, blocks[stage])
    if isinstance(covered, str):
        params = params + declared.get(covered, [])
        versions |= _versions(covered, blocks.get(covered, {}))
        covered = _entries(covered, blocks.get(covered, {}), "deps", str)
    groups = {name.partition(".")[0] for name in params}
    return Declaration(dependencies, declared[stage], values, versions, dependencies + covered, groups)


def stage_blocks() -> dict[str, dict[str, Any]]:
    """Return the block of each stage in dvc.yaml; of a stage with `foreach`, what stands under `do`."""
    blocks = read_yaml(Path("dvc.yaml")).get("stages")
    if not isinstance(blocks, dict):
        raise DigitsumError("dvc.yaml: there are no stages")
    bodies = {str(name): block.get("do", block) if isinstance(block, dict) else block for name, block in blocks.items()}
    for name, body in bodies.items():
        if not isinstance(body, dict) or not isinstance(body.get("meta", {}), dict):
            raise DigitsumError(f"dvc.yaml: stage {name} is {shorten(body)}, expected keys with values")
    return bodies


def _params(stage: str, block: dict[str, Any]) -> list[str]:
    """Return the names under `params` that stand in params.yaml; those of other files stand under the file's name."""
    return [name for name in _entries(stage, block, "params", str | dict) if isinstance(name, str)]


def _versions(stage: str, block: dict[str, Any]) -> dict[str, list[str]]:
    """Return the versions that each package under versions.yaml may have; none if the stage names no packages."""
    listed = [entry for entry in _entries(stage, block, "params", str | dict) if isinstance(entry, dict)]
    found = {}
    for file, packages in (item for entry in listed for item in entry.items() if Path(item[0]).name == VERSIONS):
        known = read_yaml(Path(file))
        for package in packages:
            if package not in known:
                raise DigitsumError(f"{VERSIONS}: {package} is missing; run `make lock`")
            found[package] = [
                str(one) for one in (known[package] if isinstance(known[package], list) else [known[package]])
            ]
    return found


def _entries(stage: str, block: dict[str, Any], key: str, kind: Any) -> list[Any]:
    entries = block.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, kind) for entry in entries):
        raise DigitsumError(f"dvc.yaml: {key} of stage {stage} is {shorten(entries)}, expected a list of names")
    return entries
