"""What a dvc.yaml declares for a stage: its dependencies and its parameters."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digitsum.core.errors import DigitsumError
from digitsum.core.files import read_yaml, shorten


@dataclass(frozen=True)
class Declaration:
    """One block of `folder`/dvc.yaml.

    dependencies: files and folders under `deps`. params: names under `params` that stand in params.yaml, such as
    "train" or "variants.${key}". values: params.yaml, whole. code: what may be imported: the dependencies, and what
    `meta: {code: ...}` lists, or the stage that it names depends on. DVC does not see these: the stage must depend on
    something that changes when they compute something else.
    """

    stage: str
    folder: Path
    dependencies: list[str]
    params: list[str]
    code: list[str]
    values: dict[str, Any]

    @property
    def groups(self) -> set[str]:
        """The groups of params.yaml that the stage declares, whole or in part."""
        return {name.partition(".")[0] for name in self.params}


def read_declaration(stage: str, folder: Path = Path()) -> Declaration:
    """Read the block of `stage` in `folder`/dvc.yaml, and `folder`/params.yaml.

    Raises DigitsumError if there is no such stage, or if params.yaml has a group that no stage declares.
    """
    blocks = stage_blocks(folder)
    if stage not in blocks:
        raise DigitsumError(f"dvc.yaml: there is no stage {stage}, only {', '.join(blocks)}")
    values = read_yaml(folder / "params.yaml")
    known = {name.partition(".")[0] for one, block in blocks.items() for name in _names(one, block)}
    if unknown := [group for group in values if group not in known]:
        raise DigitsumError(f"params.yaml: no stage declares {unknown[0]}; remove it, or fix its spelling")
    block = blocks[stage]
    dependencies = _entries(stage, block, "deps", str)
    meta = block.get("meta")
    covered = meta.get("code", []) if isinstance(meta, dict) else []
    if isinstance(covered, str) and covered in blocks:
        covered = _entries(covered, blocks[covered], "deps", str)
    code = dependencies + _entries(stage, {"meta.code": covered}, "meta.code", str)
    return Declaration(stage, folder, dependencies, _names(stage, block), code, values)


def stage_blocks(folder: Path = Path()) -> dict[str, dict[str, Any]]:
    """Return the block of each stage in `folder`/dvc.yaml; of a stage with `foreach`, what stands under `do`."""
    blocks = read_yaml(folder / "dvc.yaml").get("stages")
    if not isinstance(blocks, dict):
        raise DigitsumError("dvc.yaml: there are no stages")
    bodies = {str(name): block.get("do", block) if isinstance(block, dict) else block for name, block in blocks.items()}
    for name, body in bodies.items():
        if not isinstance(body, dict):
            raise DigitsumError(f"dvc.yaml: stage {name} is {shorten(body)}, expected keys with values")
    return bodies


def _names(stage: str, block: dict[str, Any]) -> list[str]:
    """Return the names under `params` that stand in params.yaml; those of other files stand under the file's name."""
    return [name for name in _entries(stage, block, "params", str | dict) if isinstance(name, str)]


def _entries(stage: str, block: dict[str, Any], key: str, kind: Any) -> list[Any]:
    entries = block.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, kind) for entry in entries):
        raise DigitsumError(f"dvc.yaml: {key} of stage {stage} is {shorten(entries)}, expected a list of names")
    return entries
