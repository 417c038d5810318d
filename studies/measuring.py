"""What studies and benchmarks share: recipes, measured rows, the machine's name, tables in Markdown files."""

import csv
import os
import platform
from dataclasses import asdict
from pathlib import Path

import torch

from digitsum.artifacts import write_bytes
from digitsum.params import Params, leaves, load_params, settings_digest


def read_recipe(path: Path) -> Params:
    """Give the parameters of the stage train as `dvc exp run` with the lines of a recipe would set them."""
    return load_params("train", changes=path.read_text().split())


def params_digest(params: Params) -> str:
    """Give the digest by which measured rows are known: of all parameters of data and training."""
    pair = load_params("pair").pair
    return settings_digest(leaves({"pair": asdict(pair), "model": asdict(params.model), "train": asdict(params.train)}))


def read_rows(path: Path) -> list[dict[str, str]]:
    """Give the rows of a CSV file of measurements; none if there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def machine(device: torch.device) -> str:
    """Name the processor, or the GPU, and the versions that something was measured with."""
    cpus = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else (cpus or [platform.machine()])[0]
    return f"{processor}, {os.cpu_count()} cores, torch {torch.__version__}, Python {platform.python_version()}"


def put_between(path: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between the lines `begin` and `end` of a file."""
    content = path.read_text(encoding="utf-8")
    before, after = content[: content.index(begin) + len(begin)], content[content.index(end) :]
    write_bytes(path, f"{before}\n{text}\n{after}".encode())


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
