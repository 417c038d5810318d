"""Scaling: time and memory of training as the work grows, by more pairs of the same images or by more images.

    make scaling    # writes scaling.csv, scaling.png and the table in benchmarks/README.md

Each size trains on as many pairs as the smallest has, in a process of its own, five times in turn with the other sizes.
The table has the lowest of its times, because other programs can only add to them, and the highest of its memory peaks,
libraries included. Peaks vary by tens of megabytes, because the C library returns freed memory sooner or later. So the
memory held at most is measured by one more run, of a few steps, in which freed memory is returned at once. The larger
sets of images are MNIST's training split repeated.
"""

import argparse
import dataclasses
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch._dynamo  # the first optimizer would import it, and its seconds would count

from digitsum.core.files import write_csv
from digitsum.core.numerics import Compute
from digitsum.data.splits import Split, load_split, save_split
from digitsum.pairing.pairs import draw_numbers, paired
from digitsum.plotting.canvas import BLUE, GREEN, ORANGE, new_axis, new_figure, save_png
from digitsum.report.tables import markdown_table
from digitsum.training.loop import train_network
from tools.recipes import read_recipe
from tools.tables import machine, marks, replace_between

TABLE, FIGURE = Path("benchmarks/scaling.csv"), Path("benchmarks/scaling.png")
README, MARKS = Path("benchmarks/README.md"), marks("scaling", "make scaling")
SIZES = [(1, 1), (1, 4), (1, 16), (4, 1)]  # how many times the images, how many pairs an image
PAIRS = 55_000  # that every size trains on: all of the smallest
FEW_PAIRS = 5_120  # enough steps to reach the peak of what is held
ROUNDS = 5
RETURN_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "1000000"}  # blocks that are larger, bytes; read by glibc
COLUMNS = (
    *("images", "pairs", "cpu_seconds", "seconds_per_million_pairs"),
    *("data_megabytes", "held_megabytes", "peak_megabytes"),
)
MEGABYTE = 1e6


def main(arguments: Sequence[str], numerics: str) -> None:
    """Measure every size and write table and figure; or, in the child process of a size, measure that one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scaling", description="Measure how training scales.")
    parser.add_argument("--split", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--pairs", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.split:
        print(json.dumps(measure(options.split, options.pairs, numerics)))
        return
    with tempfile.TemporaryDirectory() as folder:
        splits = [Path(folder, f"{images}-{pairs_per_image}") for images, pairs_per_image in SIZES]
        smallest = load_split(Path("data/paired/train.safetensors"))
        for split, size in zip(splits, SIZES, strict=True):
            save_split(split, enlarge(smallest, *size))
        held = [run_alone(split, FEW_PAIRS, numerics, RETURN_AT_ONCE)["peak_megabytes"] for split in splits]
        runs = [[run_alone(split, PAIRS, numerics) for split in splits] for _ in range(ROUNDS)]
    rows = []
    for of_size, held_megabytes in zip(zip(*runs, strict=True), held, strict=True):
        fastest = min(of_size, key=lambda run: run["cpu_seconds"])
        memory = {"held_megabytes": held_megabytes, "peak_megabytes": max(run["peak_megabytes"] for run in of_size)}
        rows.append(fastest | memory)
    write_csv(TABLE, COLUMNS, [[row[column] for column in COLUMNS] for row in rows])
    replace_between(README, MARKS, f"{table(rows)}\n\nMeasured on: {machine(torch.device('cpu'))}.")
    draw(rows)


def run_alone(split: Path, pairs: int, numerics: str, settings: dict[str, str] | None = None) -> dict[str, float]:
    """Return what `measure` returns, measured in a new process with these `settings` in its environment."""
    command = [sys.executable, "-m", "benchmarks", "--numerics", numerics, "scaling"]
    command += ["--split", str(split), "--pairs", str(pairs)]
    row: dict[str, float] = json.loads(
        subprocess.check_output(command, env={**os.environ, **(settings or {})}, text=True)
    )
    return row


def measure(split: Path, pairs: int, numerics: str) -> dict[str, float]:
    """Train on `pairs` pairs of a split as the stage train does; return its row, without the memory held."""
    training, validation = load_split(split), load_split(Path("data/paired/validation.safetensors"))
    params = read_recipe().training
    train = dataclasses.replace(params.train, epochs=pairs / len(training), clean_epochs=0)
    params = dataclasses.replace(params, train=train, compute=Compute(numerics, params.compute.threads))
    start = time.process_time()
    train_network(params, training, validation, torch.device("cpu"))
    seconds = time.process_time() - start
    return {
        "images": len(training.images),
        "pairs": len(training),
        "cpu_seconds": round(seconds, 2),
        "seconds_per_million_pairs": round(1e6 * seconds / pairs, 1),
        "data_megabytes": round(split.stat().st_size / MEGABYTE),
        "peak_megabytes": round(peak_memory() / MEGABYTE),
    }


def peak_memory() -> int:
    """Return the most bytes of memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux getrusage counts what the parent held when it started this process
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def enlarge(split: Split, images: int, pairs_per_image: int) -> Split:
    """Repeat the images `images` times, and draw `pairs_per_image` numbers for each."""
    digits = split.digits.repeat(images)
    return paired(split.images.repeat(images, 1, 1), digits, draw_numbers(len(digits), pairs_per_image, "train", 0))


def table(rows: list[dict[str, float]]) -> str:
    """Return the table of benchmarks/README.md."""
    headers = ["images", "pairs", f"CPU-s for {PAIRS:,} pairs", "CPU-s a million pairs"]
    headers += ["data, MB", "memory held at most, MB", "peak memory, MB"]
    formats = (",d", ",d", ".1f", ".1f", ",d", ",d", ",d")
    return markdown_table(headers, [[format(row[c], f) for c, f in zip(COLUMNS, formats, strict=True)] for row in rows])


def draw(rows: list[dict[str, float]]) -> None:
    """Draw time and memory against the pairs, on logarithmic axes, with a line that is proportional to the pairs."""
    figure = new_figure(7, 4.5)
    axis = new_axis(figure, left=0.9, right=0.2, bottom=0.6, top=0.5)
    pairs = [row["pairs"] for row in rows]
    epoch = [row["pairs"] * row["seconds_per_million_pairs"] / 1e6 for row in rows]
    axis.plot(pairs, [pairs_ * epoch[0] / pairs[0] for pairs_ in pairs], color="0.7", zorder=0, label="proportional")
    for values, colour, label in [
        (epoch, BLUE, "an epoch, CPU-seconds"),
        ([row["data_megabytes"] for row in rows], GREEN, "data, megabytes"),
        ([row["held_megabytes"] for row in rows], ORANGE, "memory held at most, megabytes"),
    ]:
        axis.plot(pairs[:3], values[:3], "o-", color=colour, label=label)
        axis.plot(pairs[3], values[3], "s", color=colour, markerfacecolor="none", markersize=9)
    axis.set(xscale="log", yscale="log", xlabel="pairs (squares: 4 times the images)")
    axis.set_title("Training: time and memory against the work")
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left", bbox_to_anchor=(0.02, 0.9))  # where no line is
    save_png(FIGURE, figure)
