"""How time and memory of training grow with the work: more pairs of the same images, more images.

    make growth    # writes its table and its figure into benchmarks/

Each size trains on as many pairs as the smallest has, in a process of its own, five times in turn with the other sizes.
Of its times the least is taken, for what else the machine does can only add to it; of its peaks of memory, libraries
included, the greatest. They swing by tens of megabytes, since the C library gives back sooner or later what is freed.
What is held at most is the peak of one more run, of a few steps, in which it gives back at once. The larger sets of
images are MNIST's training split repeated: to the network's arithmetic, images are images.
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

from digitsum.core.files import write_csv
from digitsum.pairing.pairs import draw_numbers, paired
from digitsum.data.splits import Split, load_split, save_split
from digitsum.plotting.canvas import BLUE, GREEN, ORANGE, new_axis, new_figure, save_png
from digitsum.model.network import new_network
from digitsum.core.params import load_params
from digitsum.training.loop import fit
from studies.measuring import errors_in_one_line, machine, put_between

README, BEGIN, END = Path("benchmarks/README.md"), "<!-- growth: written by `make growth` -->", "<!-- end of growth -->"
SIZES = [(1, 1), (1, 4), (1, 16), (4, 1)]  # how many times the images, how many pairs an image
PAIRS = 55_000  # that every size trains on: all of the smallest
FEW_PAIRS = 5_120  # that it takes to hold all that is ever held at once
ROUNDS = 5
GIVE_BACK_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "1000000"}  # what is larger, bytes; read by glibc
TIMES, MEMORY = ("cpu_seconds", "seconds_per_million_pairs"), ("data_megabytes", "held_megabytes", "peak_megabytes")
COLUMNS = ("images", "pairs", *TIMES, *MEMORY)
MEGABYTE = 1e6


def main() -> None:
    """Measure every size and write table and figure; or, as the child that a size runs in, measure that one."""
    arguments = argparse.ArgumentParser(description="Measure how time and memory of training grow.")
    arguments.add_argument("--split", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--pairs", type=int, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.split:
        print(json.dumps(measure(options.split, options.pairs)))
        return
    with tempfile.TemporaryDirectory() as folder:
        splits = [Path(folder, f"{images}-{pairs_per_image}") for images, pairs_per_image in SIZES]
        smallest = load_split(Path("data/paired/train.safetensors"))
        for split, size in zip(splits, SIZES, strict=True):
            save_split(split, enlarge(smallest, *size))
        held = [run_alone(split, pairs=FEW_PAIRS, settings=GIVE_BACK_AT_ONCE)[-1] for split in splits]
        runs = [[run_alone(split) for split in splits] for _ in range(ROUNDS)]
    rows = []
    for of_size, held_at_most in zip(zip(*runs, strict=True), held, strict=True):
        least = min(of_size, key=lambda row: row[COLUMNS.index("cpu_seconds")])
        rows.append([*least[:-1], held_at_most, max(row[-1] for row in of_size)])
    write_csv(Path("benchmarks/growth.csv"), COLUMNS, rows)
    put_between(README, BEGIN, END, markdown(rows))
    print(markdown(rows))
    draw(rows)


def run_alone(split: Path, pairs: int = PAIRS, settings: dict[str, str] | None = None) -> list[float]:
    """Measure in a new process, with these settings in its environment."""
    command = [sys.executable, "-m", "benchmarks.growth", "--split", str(split), "--pairs", str(pairs)]
    environment = {**os.environ, **(settings or {})}
    row: list[float] = json.loads(subprocess.check_output(command, env=environment, text=True))
    return row


def measure(split: Path, pairs: int) -> list[float]:
    """Train on so many pairs of a split as the stage train does, and give a row, but for the memory held."""
    params = load_params("train")
    training = load_split(split)
    validation = load_split(Path("data/paired/validation.safetensors"))
    train = dataclasses.replace(params.train, epochs=pairs / len(training), clean_epochs=0)
    torch.set_num_threads(train.threads)
    torch.manual_seed(0)
    network = new_network(params.model, training)
    start = time.process_time()
    for _ in fit(network, training, validation, train, torch.device("cpu")):
        pass
    seconds = time.process_time() - start
    megabytes = [round(split.stat().st_size / MEGABYTE), round(peak_memory() / MEGABYTE)]
    return [len(training.images), len(training), round(seconds, 2), round(1e6 * seconds / pairs, 1), *megabytes]


def peak_memory() -> int:
    """Return the bytes of memory that this process has held at most."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux getrusage counts what the parent held when it started this process
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def enlarge(split: Split, images: int, pairs_per_image: int) -> Split:
    """Repeat the images `images` times, and draw `pairs_per_image` numbers for each."""
    digits = split.digits.repeat(images)
    return paired(split.images.repeat(images, 1, 1), digits, draw_numbers(len(digits), pairs_per_image, "train", 0))


def markdown(rows: list[list[float]]) -> str:
    """Return the table."""
    seconds = f"CPU-s for {PAIRS:,} pairs | CPU-s a million pairs"
    lines = [f"| images | pairs | {seconds} | data, MB | memory held at most, MB | peak memory, MB |"]
    lines.append("|---|---|---|---|---|---|---|")
    lines += [f"| {a:,} | {b:,} | {c:.1f} | {d:.1f} | {e:,} | {f:,} | {g:,} |" for a, b, c, d, e, f, g in rows]
    return "\n".join([*lines, "", f"Measured on: {machine(torch.device('cpu'))}."])


def draw(rows: list[list[float]]) -> None:
    """Draw time and memory against the pairs, on logarithmic axes, with what would be proportional to the pairs."""
    figure = new_figure(7, 4.5)
    axis = new_axis(figure, left=0.9, right=0.2, bottom=0.6, top=0.5)
    pairs = [row[1] for row in rows]
    epoch = [row[1] * row[3] / 1e6 for row in rows]
    axis.plot(pairs, [pairs_ * epoch[0] / pairs[0] for pairs_ in pairs], color="0.7", zorder=0, label="proportional")
    for values, colour, label in [
        (epoch, BLUE, "an epoch, CPU-seconds"),
        ([row[4] for row in rows], GREEN, "data, megabytes"),
        ([row[5] for row in rows], ORANGE, "memory held at most, megabytes"),
    ]:
        axis.plot(pairs[:3], values[:3], "o-", color=colour, label=label)
        axis.plot(pairs[3], values[3], "s", color=colour, markerfacecolor="none", markersize=9)
    axis.set(xscale="log", yscale="log", xlabel="pairs (squares: 4 times the images)")
    axis.set_title("Training: time and memory against the work")
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left", bbox_to_anchor=(0.02, 0.9))  # where no line is
    save_png(Path("benchmarks/growth.png"), figure)


if __name__ == "__main__":
    with errors_in_one_line():
        main()
