"""The spread over seeds: train the default and the recipes with several seeds, score each on the test split.

    make seeds    # trains what seeds.csv lacks, then writes the tables in README.md and benchmarks/README.md

MNIST is the pipeline's (`make repro` first). Rows that were measured with other parameters are dropped. Rows of the
other numerics are kept: they have lines of their own in the table. After a change of code delete seeds.csv. Fusions are
compared in studies/fusions.
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

from digitsum.core.files import write_csv
from digitsum.evaluation.metrics import headline_metrics
from digitsum.evaluation.predict import encode_images, predict, score_all_numbers
from digitsum.pairing.pairs import make_splits
from digitsum.report.tables import markdown_table
from digitsum.training.devices import choose_device
from digitsum.training.loop import train_network
from digitsum.training.workers import start_workers
from tools.recipes import Recipe, read_mnist, read_recipes
from tools.tables import (
    machine,
    marks,
    mean_and_deviation,
    median_and_range,
    read_rows,
    replace_between,
)

Row = dict[str, str]

TABLE = Path("studies/seeds/seeds.csv")
SCORES = ("digit", "sum", "joint", "all_numbers_joint")
CALIBRATION = ("digit_calibration_error", "sum_calibration_error")
COLUMNS = (
    *("params", "name", "numerics", "seed", "weights", *SCORES, *CALIBRATION),
    *("wall_seconds", "cpu_seconds", "machine"),
)
FEWEST_SEEDS = 3  # for a line in a table
MARKS = marks("seeds", "make seeds")


def main() -> None:
    """Train what is missing, row by row, and write the tables."""
    recipes = read_recipes()
    parser = argparse.ArgumentParser(prog="python -m studies.seeds", description="Train with several seeds.")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to N - 1 of each (default 5)")
    parser.add_argument("--names", nargs="+", choices=recipes, default=list(recipes), help="(default all)")
    options = parser.parse_args()
    rows = [row for row in read_rows(TABLE) if row["name"] in recipes and row["params"] == recipes[row["name"]].digest]
    # Seed by seed, so that a slow hour of the machine affects all of them.
    for seed in range(options.seeds):
        for name in options.names:
            wanted = (name, recipes[name].training.compute.numerics, str(seed))
            if not any((row["name"], row["numerics"], row["seed"]) == wanted for row in rows):
                rows.append(train_and_score(name, recipes[name], seed))
                write_csv(TABLE, COLUMNS, [[row[column] for column in COLUMNS] for row in rows])
    replace_between(Path("README.md"), MARKS, summary(rows))
    replace_between(Path("benchmarks/README.md"), MARKS, full_table(rows))


def train_and_score(name: str, recipe: Recipe, seed: int) -> Row:
    """Train one network as the stages train and evaluate do; return its row."""
    params = dataclasses.replace(recipe.training, train=dataclasses.replace(recipe.training.train, seed=seed))
    splits = make_splits(read_mnist(), recipe.pair)
    test, device = splits["test"], choose_device(params.train.device)
    wall, cpu = time.perf_counter(), cpu_seconds()
    with start_workers(params.train.shards, device) as workers:
        network, _ = train_network(params, splits["train"], splits["validation"], device, workers)
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    features = encode_images(network, test.images)
    scores = headline_metrics(predict(network, test, features), score_all_numbers(network, test, features), 15)
    weights = sum(parameter.numel() for parameter in network.parameters())
    row = [recipe.digest, name, params.compute.numerics, seed, weights]
    row += [scores[target]["accuracy"] for target in ("digit", "sum", "joint")]
    row += [scores["all_numbers"]["joint_accuracy"]]
    row += [scores[target]["calibration_error"] for target in ("digit", "sum")]
    row += [round(wall, 1), round(cpu, 1), machine(device)]
    print(dict(zip(COLUMNS, row, strict=True)), flush=True)
    return dict(zip(COLUMNS, map(str, row), strict=True))


def cpu_seconds() -> float:
    """Return the CPU-seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def summary(rows: list[Row]) -> str:
    """Return the table of README.md, a line a recipe: the portable runs, or the native ones if those are too few."""
    lines = {}
    for name, numerics, runs in groups(rows):
        if name not in lines:
            minutes = [float(row["wall_seconds"]) / 60 for row in runs]
            lines[name] = [
                f"`{name}`",
                f"{mean_and_deviation([float(row['joint']) for row in runs])} ({len(runs)} seeds)",
                f"{int(runs[0]['weights']):,}",
                median_and_range(minutes, decimals=1 if min(minutes) > 1 else 2),
                ("`make repro`" if name == "default" else f"`make {name}`")
                + ("" if numerics == "portable" else f"; these numbers with `compute.numerics={numerics}`"),
            ]
    headers = ["recipe", "joint accuracy, %", "weights", "training, minutes", "how to run"]
    return f"{markdown_table(headers, lines.values())}\n\n{_note(rows)}"


def full_table(rows: list[Row]) -> str:
    """Return the table of benchmarks/README.md, a line a recipe and numerics, with all accuracies."""
    headers = ["recipe", "numerics", "weights", "seeds", "digit %", "sum %", "joint %", "all numbers, joint %"]
    headers += ["calibration error, digit, %", "of the sum, %", "wall s", "CPU s"]
    lines = [
        [
            f"`{name}`",
            numerics,
            f"{int(runs[0]['weights']):,}",
            len(runs),
            *(mean_and_deviation([float(row[score]) for row in runs]) for score in (*SCORES, *CALIBRATION)),
            *(median_and_range([float(row[clock]) for row in runs], 0) for clock in ("wall_seconds", "cpu_seconds")),
        ]
        for name, numerics, runs in groups(rows)
    ]
    return f"{markdown_table(headers, lines)}\n\n{_note(rows)}"


def groups(rows: list[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Yield name, numerics and rows of each recipe, portable before native, if there are enough seeds."""
    for name in read_recipes():
        for numerics in ("portable", "native"):
            runs = [row for row in rows if (row["name"], row["numerics"]) == (name, numerics)]
            if len(runs) >= FEWEST_SEEDS:
                yield name, numerics, runs


def _note(rows: list[Row]) -> str:
    machines = "; ".join(dict.fromkeys(row["machine"] for row in rows))
    return (
        "Accuracies on the test split: mean ± standard deviation over seeds. Time of training: median (range). "
        f"Measured on: {machines}."
    )
