"""Scaling: time and memory as the data grow, by more pairs of the same images or by more images, to 100 times MNIST.

    make scaling    # writes scaling.csv, scaling.png and the table in benchmarks/README.md; needs 10 GB of disk

Each size is paired and trained on as the stages do, in processes of its own. All train on as many pairs, three times in
turn with the other sizes, with the images in their file and copied into memory. The table has the lowest of the times,
because other programs can only add to them, and the highest of the peaks of private memory. Pages of files are not
private: the system takes them back when memory is short. The larger sets of images are MNIST's training images and
warped copies of them.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import re
import resource
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # the first optimizer would import it, and its seconds would count
from numpy.typing import NDArray

from digitsum.core.files import read_yaml, write_csv
from digitsum.core.numerics import Compute
from digitsum.core.params import to_group
from digitsum.data.generators import generator
from digitsum.data.splits import load_split
from digitsum.mnist.idx import expected_digests, parse_idx, read_raw
from digitsum.mnist.params import Mnist
from digitsum.model.preprocess import resample
from digitsum.pairing.pairs import select_images
from digitsum.plotting.canvas import BLUE, GREEN, ORANGE, new_axis, new_figure, save_png
from digitsum.report.tables import markdown_table
from digitsum.training.batches import affine_maps, draw_warps
from digitsum.training.loop import train_network
from tools.recipes import read_recipe
from tools.tables import machine, marks, replace_between

TABLE, FIGURE = Path("benchmarks/scaling.csv"), Path("benchmarks/scaling.png")
README, MARKS = Path("benchmarks/README.md"), marks("scaling", "make scaling")
SIZES = [(1, 1), (1, 16), (10, 1), (100, 1)]  # how many times the images, how many pairs an image
PAIRS = 55_000  # that every size trains on: all of the smallest
ROUNDS = 3
AT_ONCE = 10_000  # images that are warped
COLUMNS = (
    *("images", "pairs", "data_megabytes", "pair_cpu_seconds", "pair_private_megabytes"),
    *("cpu_seconds", "in_memory_cpu_seconds", "private_megabytes"),
)
MEGABYTE = 1e6


def main(arguments: Sequence[str], numerics: str) -> None:
    """Measure every size and write table and figure; or, in a child process, do one part of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scaling", description="Measure how training scales.")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.part:
        name, *values = json.loads(options.part)
        print(json.dumps(measure_pair(*values) if name == "pair" else measure_training(numerics, *values)))
        return
    rows = measure_all(numerics)
    write_csv(TABLE, COLUMNS, [[row[column] for column in COLUMNS] for row in rows])
    replace_between(README, MARKS, f"{table(rows)}\n\nMeasured on: {machine(torch.device('cpu'))}.")
    draw(rows)


def measure_all(numerics: str) -> list[dict[str, float]]:
    """Return a row for each size."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, f"{images}-{pairs_per_image}")) for images, pairs_per_image in SIZES]
        rows = [run_alone(numerics, "pair", path, *size) for path, size in zip(paths, SIZES, strict=True)]
        for row in rows:
            row |= {"cpu_seconds": math.inf, "in_memory_cpu_seconds": math.inf, "private_megabytes": 0}
        for _ in range(ROUNDS):
            for row, path in zip(rows, paths, strict=True):
                mapped, in_memory = (run_alone(numerics, "train", path, PAIRS, copied) for copied in (False, True))
                row["cpu_seconds"] = min(row["cpu_seconds"], mapped["cpu_seconds"])
                row["in_memory_cpu_seconds"] = min(row["in_memory_cpu_seconds"], in_memory["cpu_seconds"])
                row["private_megabytes"] = max(row["private_megabytes"], mapped["private_megabytes"])
    return rows


def run_alone(numerics: str, *part: object) -> dict[str, float]:
    """Return what a function here measures in a new process."""
    command = [sys.executable, "-m", "benchmarks", "--numerics", numerics, "scaling", "--part", json.dumps(part)]
    measured: dict[str, float] = json.loads(subprocess.check_output(command, text=True))
    print(*part, measured, flush=True)
    return measured


def measure_pair(path: str, images: int, pairs_per_image: int) -> dict[str, float]:
    """Pair `images` times MNIST's training images as the stage pair does, and write its training split to `path`."""
    raw = read_raw(Path("data/raw"), expected_digests(to_group(Mnist, read_yaml(Path("params.yaml")))))
    larger = Path(f"{path}-idx")
    write_warped(larger, raw.train_images, images)
    enlarged = dataclasses.replace(
        raw,
        train_images=parse_idx(np.memmap(larger, np.uint8, "c"), larger.name),
        train_labels=np.tile(raw.train_labels, images),
    )
    params = dataclasses.replace(read_recipe().pair, pairs_per_image=pairs_per_image)
    start = time.process_time()
    with private_memory() as peak:
        training = select_images(enlarged, params)["train"]
        training.save(Path(path))
    seconds = time.process_time() - start
    larger.unlink()
    return {
        "images": len(training.rows),
        "pairs": training.numbers.numel(),
        "data_megabytes": round(Path(path).stat().st_size / MEGABYTE),
        "pair_cpu_seconds": round(seconds, 1),
        "pair_private_megabytes": round(max(peak) / MEGABYTE),
    }


def write_warped(path: Path, images: NDArray[np.uint8], times: int) -> None:
    """Write `images` and `times` - 1 warped copies of them, as an IDX file; see mnist/idx.py."""
    params = read_recipe().training.train
    with path.open("wb") as file:
        file.write(struct.pack(">BBBB3I", 0, 0, 8, 3, times * len(images), *images.shape[1:]))
        file.write(images.tobytes())
        for copy in range(1, times):
            draws = generator("scaling", copy)
            for part in torch.from_numpy(images).split(AT_ONCE):
                warped = resample(part.float(), affine_maps(draw_warps(len(part), draws), params))
                file.write(warped.round().byte().numpy().data)


def measure_training(numerics: str, path: str, pairs: int, in_memory: bool) -> dict[str, float]:
    """Train on `pairs` pairs of a split as the stage train does."""
    training, validation = load_split(Path(path)), load_split(Path("data/paired/validation.safetensors"))
    if in_memory:
        training = dataclasses.replace(training, images=training.images.clone(), source=None)
    params = read_recipe().training
    train = dataclasses.replace(params.train, epochs=pairs / len(training), clean_epochs=0)
    params = dataclasses.replace(params, train=train, compute=Compute(numerics))
    start = time.process_time()
    with private_memory() as peak:
        train_network(params, training, validation, torch.device("cpu"))
    return {"cpu_seconds": round(time.process_time() - start, 2), "private_megabytes": round(max(peak) / MEGABYTE)}


@contextlib.contextmanager
def private_memory() -> Iterator[list[int]]:
    """Fill a list with the bytes of private memory that this process holds, a hundred times a second."""
    held, ended = [private_now()], threading.Event()

    def sample() -> None:
        while not ended.wait(0.01):
            held.append(private_now())

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield held
    finally:
        ended.set()
        sampler.join()


def private_now() -> int:
    """Return the bytes of memory that are this process's own, not pages of files; where Linux does not say, all."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", status.read_text())[1])  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def table(rows: list[dict[str, float]]) -> str:
    """Return the table of benchmarks/README.md."""
    headers = ["images", "pairs", "data, MB", "`pair`: CPU-s", "private memory, MB"]
    headers += [f"`train`, {PAIRS:,} pairs: CPU-s", "the same from memory", "private memory, MB"]
    formats = (",d", ",d", ",d", ".1f", ",d", ".1f", ".1f", ",d")
    return markdown_table(headers, [[format(row[c], f) for c, f in zip(COLUMNS, formats, strict=True)] for row in rows])


def draw(rows: list[dict[str, float]]) -> None:
    """Draw time and memory against the images, on logarithmic axes, with a line that is proportional to them."""
    figure = new_figure(7, 4.5)
    axis = new_axis(figure, left=0.9, right=0.2, bottom=0.6, top=0.5)
    of_images = [row for row in rows if row["images"] == row["pairs"]]
    images = [row["images"] for row in of_images]
    epoch = [row["images"] * row["cpu_seconds"] / PAIRS for row in of_images]
    axis.plot(images, [count * epoch[0] / images[0] for count in images], color="0.7", zorder=0, label="proportional")
    for values, colour, label in [
        (epoch, BLUE, "an epoch, CPU-seconds"),
        ([row["data_megabytes"] for row in of_images], GREEN, "data, megabytes"),
        ([row["private_megabytes"] for row in of_images], ORANGE, "private memory of training, megabytes"),
    ]:
        axis.plot(images, values, "o-", color=colour, label=label)
    axis.set(xscale="log", yscale="log", xlabel="images, each with one number")
    axis.set_title("Training: time and memory against the data")
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left")
    save_png(FIGURE, figure)
