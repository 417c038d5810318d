"""Named tensors in safetensors files: no code runs on load, equal tensors give equal bytes, and damage is noticed.

Files are read and written in parts, because they may be larger than memory. Written by hand, because the library's
writer takes whole tensors only; it would give the same bytes.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import safetensors
import torch
from torch import Tensor

from digitsum.core.errors import DigitsumError, printable
from digitsum.core.files import write_bytes

# One metadata key only: safetensors writes several in a random order, and the bytes must not differ between runs.
METADATA = "digitsum"
# In the order in which the library writes them, last first: https://github.com/huggingface/safetensors, "Format"
TYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.complex64: "C64",
    torch.float64: "F64",
    torch.int64: "I64",
}


class Source(NamedTuple):
    """A file that save_tensors has written, and the identity of its content."""

    path: Path
    identity: str


class Rows:
    """Rows of a tensor, `source[index]`, read in parts."""

    AT_ONCE = 10_000

    def __init__(self, source: Tensor, index: Tensor) -> None:
        """Take a tensor [M, ...] and which of its rows, int64 [N]."""
        self.source, self.index = source, index
        self.dtype, self.shape = source.dtype, torch.Size([len(index), *source.shape[1:]])

    def parts(self) -> Iterator[Tensor]:
        """Yield the rows in order, AT_ONCE at a time."""
        for part in self.index.split(self.AT_ONCE):
            yield self.source[part]


def save_tensors(path: Path, tensors: Mapping[str, Tensor | Rows], config: dict[str, Any] | None = None) -> None:
    """Write `tensors`, `config` and the identity of both to `path`, atomically; config must fit into JSON."""
    config = config or {}
    about = {"config": config, "identity": identity(tensors, config)}
    header: dict[str, Any] = {"__metadata__": {METADATA: json.dumps(about, sort_keys=True)}}
    names, end = sorted(tensors, key=lambda name: (-[*TYPES].index(tensors[name].dtype), name)), 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.shape.numel() * tensor.dtype.itemsize
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write_bytes(path, len(text).to_bytes(8, "little"), text, (part for name in names for part in _bytes(tensors[name])))


def _bytes(tensor: Tensor | Rows) -> Iterator[Any]:
    for part in tensor.parts() if isinstance(tensor, Rows) else [tensor]:
        yield part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors in `path`, on the CPU, and the config written with them; see load_from."""
    tensors, config, _ = load_from(path)
    return tensors, config


def load_from(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], Source]:
    """Return the tensors in `path`, on the CPU, the config written with them, and what they come from.

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
    return tensors, about["config"], Source(path.resolve(), about["identity"])


def read_rows(source: Source, name: str, rows: Tensor) -> Tensor:
    """Return rows of the tensor `name` in a file, `rows` int64 [N] in ascending order; neighbours are read together.

    For random reads of a mapped file Linux reads megabytes ahead: slow, if the file is larger than memory.
    Raises DigitsumError if the file is another one than it was.
    """
    with source.path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        if json.loads(header["__metadata__"][METADATA])["identity"] != source.identity:
            raise DigitsumError(f"{source.path} was replaced while it was read; run `dvc repro` again")
        dtype = next(dtype for dtype, of_file in TYPES.items() if of_file == header[name]["dtype"])
        read = torch.empty(len(rows), *header[name]["shape"][1:], dtype=dtype)
        memory = read.view(len(rows), -1).view(torch.uint8).numpy()
        start = 8 + length + header[name]["data_offsets"][0]
        breaks = (rows.diff() > 1).nonzero().flatten() + 1
        for place in torch.arange(len(rows)).tensor_split(breaks):
            file.seek(start + int(rows[place[0]]) * memory.shape[1])
            part = memory[place[0] : place[-1] + 1]
            if file.readinto(part.data) != part.nbytes:
                raise DigitsumError(f"{source.path} has become shorter while it was read; run `dvc repro` again")
    return read


def stored_identity(path: Path) -> str | None:
    """Return the identity that save_tensors wrote into a file, unchecked; None if there is none."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return str(json.loads(file.metadata()[METADATA])["identity"])
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError):
        return None


def _mapped(path: Path, name: str) -> Tensor:
    """Return a tensor that maps the file's own bytes, apart from the others: freed, it leaves no memory behind."""
    with safetensors.safe_open(path, framework="pt") as file:
        return cast(Tensor, file.get_tensor(name))


def identity(tensors: Mapping[str, Tensor | Rows], config: dict[str, Any]) -> str:
    """Return a SHA-256 over the config and over name, dtype, shape and bytes of every tensor, in order of names."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())
        for part in _bytes(tensor):
            digest.update(part)
    return digest.hexdigest()
