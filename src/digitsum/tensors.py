"""Named tensors in safetensors files: no code runs on load, and equal tensors give equal bytes."""

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from digitsum.artifacts import write_bytes
from digitsum.errors import DigitsumError

# One metadata key only: safetensors writes several in a random order, and the bytes must not differ between runs.
CONFIG = "config"


def save_tensors(path: Path, tensors: dict[str, Tensor], config: dict[str, Any] | None = None) -> None:
    """Write `tensors`, and `config` as JSON beside them, to `path`, atomically."""
    metadata = None if config is None else {CONFIG: json.dumps(config, sort_keys=True)}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, safetensors.torch.save(contiguous, metadata))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Give the tensors in `path`, on the CPU, and the config written with them ({} if none).

    Raises DigitsumError if the file is missing or is not a whole safetensors file.
    """
    if not path.is_file():
        raise DigitsumError(f"{path} is missing; `dvc repro` makes it, `dvc pull` fetches it from a remote")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {}).get(CONFIG, "{}"))
            if not isinstance(config, dict):
                raise ValueError("its config is not a table")
            return {name: file.get_tensor(name) for name in file.keys()}, config  # noqa: SIM118
    except (safetensors.SafetensorError, ValueError) as error:
        raise DigitsumError(
            f"{path} is not a whole safetensors file ({error}); delete it and run `dvc repro` or `dvc checkout`"
        ) from None
