"""How time and memory of training grow with the work: more pairs of the same images, more images.

    make growth    # writes its table and its figure into benchmarks/

Each size trains on as many pairs as the smallest has, in a process of its own, which tells its peak memory, libraries
included; five times in turn with the other sizes, and the least of the times is taken, for what else the machine does
can only add to it. The larger sets of images are MNIST's training split repeated: to the network's arithmetic, images
are images.
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
from pathlib import Path

import torch
import torch._dynamo  # the first optimizer would import it, and its seconds would count
from matplotlib.figure import Figure

from digitsum.artifacts import write_csv
from digitsum.data.pairs import draw_numbers
from digitsum.data.splits import Split, load_split, save_split
from digitsum.figures import BLUE, GREEN, ORANGE, new_axis, save_png
from digitsum.model.network import new_network
from digitsum.numerics import PORTABLE
from digitsum.params import load_params
from digitsum.training.loop import fit
from studies.measuring import errors_in_one_line, machine, put_between

README, BEGIN, END = Path("benchmarks/README.md"), "<!-- growth: written by `make growth` -->", "<!-- end of growth -->"
SIZES = [(1, 1), (1, 4), (1, 16), (4, 1)]  # how many times the images, how many pairs an image
PAIRS = 55_000  # that every size trains on: all of the smallest
ROUNDS = 5
COLUMNS = ("images", "pairs", "cpu_seconds", "seconds_per_million_pairs", "data_megabytes", "peak_megabytes")
MEGABYTE = 1e6


def main() -> None:
    """Measure every size and write table and figure; or, as the child that a size runs in, measure that one."""
    arguments = argparse.ArgumentParser(description="Measure how time and memory of training grow.")
    arguments.add_argument("--split", type=Path, help=argparse.SUPPRESS)
    split = arguments.parse_args().split
    if split:
        print(json.dumps(measure(split)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for images, pairs_per_image in SIZES:
            larger = enlarge(load_split(Path("data/paired/train.safetensors")), images, pairs_per_image)
            save_split(Path(folder, f"{images}-{pairs_per_image}"), larger)
        runs = [[run_alone(Path(folder, f"{a}-{b}")) for a, b in SIZES] for _ in range(ROUNDS)]
    rows = [min(of_size, key=lambda row: row[COLUMNS.index("cpu_seconds")]) for of_size in zip(*runs, strict=True)]
    write_csv(Path("benchmarks/growth.csv"), COLUMNS, rows)
    put_between(README, BEGIN, END, markdown(rows))
    print(markdown(rows))
    draw(rows)


def run_alone(split: Path, numerics: str = "native") -> list[float]:
    """Measure in a new process."""
    command = [sys.executable, "-m", "benchmarks.growth", "--split", str(split)]
    environment = {**os.environ, **(PORTABLE if numerics == "portable" else {})}
    row: list[float] = json.loads(subprocess.check_output(command, env=environment, text=True))
    return row


def measure(split: Path) -> list[float]:
    """Train on PAIRS pairs of a split as the stage train does, and give a row."""
    params = load_params("train")
    training = load_split(split)
    validation = load_split(Path("data/paired/validation.safetensors"))
    pairs = len(training.pairs)
    train = dataclasses.replace(params.train, epochs=PAIRS / pairs, clean_epochs=0)
    torch.set_num_threads(train.threads)
    torch.manual_seed(0)
    network = new_network(params.model, training)
    start = time.process_time()
    for _ in fit(network, training, validation, train, torch.device("cpu")):
        pass
    seconds = time.process_time() - start
    data = sum(tensor.nbytes for tensor in (training.images, training.digits, training.pairs))
    megabytes = [round(data / MEGABYTE), round(peak_memory() / MEGABYTE)]
    return [len(training.images), pairs, round(seconds, 2), round(1e6 * seconds / PAIRS, 1), *megabytes]


def peak_memory() -> int:
    """Give the bytes of memory that this process has held at most."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux getrusage counts what the parent held when it started this process
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def enlarge(split: Split, images: int, pairs_per_image: int) -> Split:
    """Repeat the images `images` times, and draw `pairs_per_image` numbers for each."""
    digits = split.digits.repeat(images)
    numbers = draw_numbers(len(digits), pairs_per_image, "train", 0).flatten()
    image_index = torch.arange(len(digits)).repeat(pairs_per_image)
    pairs = torch.stack([image_index, numbers, digits[image_index] + numbers], dim=1)
    return Split(split.images.repeat(images, 1, 1), digits, pairs)


def markdown(rows: list[list[float]]) -> str:
    """Give the table."""
    lines = [f"| images | pairs | CPU-s for {PAIRS:,} pairs | CPU-s a million pairs | data, MB | peak memory, MB |"]
    lines.append("|---|---|---|---|---|---|")
    lines += [f"| {a:,} | {b:,} | {c:.1f} | {d:.1f} | {e:,} | {f:,} |" for a, b, c, d, e, f in rows]
    return "\n".join([*lines, "", f"Measured on: {machine(torch.device('cpu'))}."])


def draw(rows: list[list[float]]) -> None:
    """Draw time and memory against the pairs, on logarithmic axes, with what would be proportional to the pairs."""
    figure = Figure(figsize=(7, 4.5))
    axis = new_axis(figure, left=0.9, right=0.2, bottom=0.6, top=0.5)
    pairs = [row[1] for row in rows]
    epoch = [row[1] * row[3] / 1e6 for row in rows]
    axis.plot(pairs, [pairs_ * epoch[0] / pairs[0] for pairs_ in pairs], color="0.7", zorder=0, label="proportional")
    for values, colour, label in [
        (epoch, BLUE, "an epoch, CPU-seconds"),
        ([row[4] for row in rows], GREEN, "data, megabytes"),
        ([row[5] for row in rows], ORANGE, "peak memory, megabytes"),
    ]:
        axis.plot(pairs[:3], values[:3], "o-", color=colour, label=label)
        axis.plot(pairs[3], values[3], "s", color=colour, markerfacecolor="none", markersize=9)
    axis.set(xscale="log", yscale="log", xlabel="pairs (squares: 4 times the images)")
    axis.set_title("Training: time and memory against the work")
    axis.grid(alpha=0.3)
    axis.legend()
    save_png(Path("benchmarks/growth.png"), figure)


if __name__ == "__main__":
    with errors_in_one_line():
        main()
