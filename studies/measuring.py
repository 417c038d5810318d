"""What studies and benchmarks share: recipes, training by the clock, measured rows, tables in Markdown files."""

import contextlib
import csv
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from digitsum.core.files import write_bytes
from digitsum.data.splits import Split
from digitsum.core.errors import DigitsumError
from digitsum.model.network import Network, new_network
from digitsum.core.numerics import compute_with, wanted
from digitsum.core.params import Params, leaves, load_params, settings_digest
from digitsum.training.devices import choose_device
from digitsum.training.loop import fit


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End the program, if a failure is foreseen, with one line that says what to do."""
    try:
        yield
    except DigitsumError as error:
        sys.exit(f"error: {error}")


def read_params(changes: Sequence[str] = ()) -> Params:
    """Return the parameters of the stages pair and train, with `changes` as `dvc exp run -S` would set them."""
    return replace(load_params("train", changes=changes), pair=load_params("pair", changes=changes).pair)


def read_recipe(path: Path) -> Params:
    """Return the parameters that the lines of a recipe set."""
    return read_params(path.read_text().split())


def params_digest(params: Params) -> str:
    """Return the digest by which measured rows are known: of all parameters of data and training."""
    groups = {"pair": asdict(params.pair), "model": asdict(params.model), "train": asdict(params.train)}
    return settings_digest(leaves(groups))


def train_network(params: Params, training: Split, validation: Split) -> tuple[Network, float, float]:
    """Train a network as the stage train does; give it, on the CPU, and the wall and CPU seconds that it took.

    Raises DigitsumError if other numerics are asked for than those that PyTorch was imported with.
    """
    train = params.train
    if train.numerics != wanted():
        raise DigitsumError(f"train.numerics counts before PyTorch is imported: set {train.numerics} in params.yaml")
    compute_with(train.numerics, train.threads)
    device = choose_device(train.device)
    torch.manual_seed(train.seed)  # for the initial weights
    network = new_network(params.model, training)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in fit(network, training, validation, train, device):
        pass
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return network.cpu(), wall, cpu


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file of measurements; none if there is no file yet."""
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
