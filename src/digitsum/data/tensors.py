"""Named tensors in safetensors files: no code runs on load, equal tensors give equal bytes, and damage is noticed."""

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from digitsum.core.errors import DigitsumError, printable
from digitsum.core.files import write_bytes

# One metadata key only: safetensors writes several in a random order, and the bytes must not differ between runs.
METADATA = "digitsum"


def save_tensors(path: Path, tensors: dict[str, Tensor], config: dict[str, Any] | None = None) -> None:
    """Write `tensors`, `config` and the identity of both to `path`, atomically; config must fit into JSON."""
    config = config or {}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    about = {"config": config, "identity": identity(contiguous, config)}
    write_bytes(path, safetensors.torch.save(contiguous, {METADATA: json.dumps(about, sort_keys=True)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors in `path`, on the CPU, and the config written with them.

    Raises DigitsumError if the file is missing, or is not, whole and unchanged, what save_tensors wrote.
    """
    if path.exists() and not path.is_file():
        raise DigitsumError(f"{path} is not a file")
    if not path.is_file():
        raise DigitsumError(f"{path} is missing; `dvc repro` makes it, `dvc pull` fetches it from a remote")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about, names = json.loads((file.metadata() or {}).get(METADATA, "null")), file.keys()
        tensors = {name: _mapped(path, name) for name in names}
        if not (isinstance(about, dict) and isinstance(about.get("config"), dict)):
            raise ValueError("digitsum did not write it")
        if about.get("identity") != identity(tensors, about["config"]):
            raise ValueError("its content is not what was written")
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DigitsumError(
            f"{path} is not a whole safetensors file of digitsum ({printable(str(error), 200)}); if a stage made it, "
            "`digitsum verify --repair` brings it back"
        ) from None
    return tensors, about["config"]


def _mapped(path: Path, name: str) -> Tensor:
    """Return a tensor that maps the file's own bytes, apart from the others: freed, it leaves no memory behind."""
    with safetensors.safe_open(path, framework="pt") as file:
        return cast(Tensor, file.get_tensor(name))


def identity(tensors: dict[str, Tensor], config: dict[str, Any]) -> str:
    """Return a SHA-256 over the config and over name, dtype, shape and bytes of every tensor, in order of names."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
