"""Measured rows in CSV files, and tables in Markdown files between two marks."""

import csv
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from digitsum.core.files import write_bytes
from digitsum.core.numerics import processor
from digitsum.training.devices import device_name


def mean_and_deviation(shares: Sequence[float]) -> str:
    """Return mean ± standard deviation of shares 0-1, in percent; of a single one no deviation."""
    percent = [100 * share for share in shares]
    deviation = f" ± {statistics.stdev(percent):.2f}" if len(percent) > 1 else ""
    return f"{statistics.mean(percent):.2f}{deviation}"


def summary_in_percent(summary: dict[str, Any]) -> str:
    """Return mean ± standard deviation of shares 0-1, in percent, from their `mean` and `sd`; None is no deviation."""
    deviation = "" if summary["sd"] is None else f" ± {100 * summary['sd']:.2f}"
    return f"{100 * summary['mean']:.2f}{deviation}"


def median_and_range(values: Sequence[float], decimals: int) -> str:
    """Return median (least to greatest)."""
    shown = [f"{value:,.{decimals}f}" for value in (statistics.median(values), min(values), max(values))]
    return "{} ({} to {})".format(*shown)


def marks(name: str, command: str) -> tuple[str, str]:
    """Return the lines above and below the table `name`, which `command` writes."""
    return f"<!-- {name}: written by `{command}` -->", f"<!-- end of {name} -->"


def replace_between(path: Path, marks: tuple[str, str], text: str) -> None:
    """Replace what stands between the two `marks` of a file."""
    begin, end = marks
    content = path.read_text(encoding="utf-8")
    before, after = content[: content.index(begin) + len(begin)], content[content.index(end) :]
    write_bytes(path, f"{before}\n{text}\n{after}".encode())


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file of measurements; none if there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def machine(device: torch.device) -> str:
    """Return the processor or GPU, and the versions, that something was measured with."""
    name = device_name(device) if device.type == "cuda" else processor()
    return f"{name}, {os.cpu_count()} cores, torch {torch.__version__}, Python {platform.python_version()}"
