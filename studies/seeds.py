"""The spread over seeds: train every fusion with several seeds, score each network on the test split.

    make seeds    # trains what studies/seeds.csv lacks, then writes the table into the README

The data are those of the pipeline (`make repro` first); all parameters but the fusion and the seed are those of
params.yaml. Rows measured with other parameters are dropped; after a change of code delete studies/seeds.csv.
"""

import argparse
import csv
import dataclasses
import hashlib
import json
import os
import platform
import statistics
import time
from pathlib import Path

import stages  # noqa: F401  prepares the environment as for a stage, before torch is imported

# isort: split
import torch
import yaml

from digitsum.artifacts import write_bytes, write_csv
from digitsum.data.splits import load_split, normalisation
from digitsum.evaluation.metrics import headline_metrics
from digitsum.evaluation.predict import predict, score_all_numbers
from digitsum.model.fusions import FUSIONS
from digitsum.model.network import Network
from digitsum.params import load_params
from digitsum.training.devices import choose_device
from digitsum.training.loop import fit

TABLE = Path("studies/seeds.csv")
SCORES = ("digit", "sum", "joint", "all_numbers_joint")
COLUMNS = ("params", "fusion", "seed", *SCORES, "wall_seconds", "cpu_seconds", "machine")
README, BEGIN, END = Path("README.md"), "<!-- seeds: written by `make seeds` -->", "<!-- end of seeds -->"


def main() -> None:
    """Train what is missing, row by row, and write the table."""
    arguments = argparse.ArgumentParser(description="Train every fusion with several seeds; write the README's table.")
    arguments.add_argument("--seeds", type=int, default=5, help="seeds 0 to N - 1 of each fusion (default 5)")
    arguments.add_argument("--fusions", nargs="+", choices=FUSIONS, default=list(FUSIONS), help="(default all)")
    options = arguments.parse_args()
    rows = [row for row in read_rows() if row["params"] == params_digest()]
    # Seed by seed, so that a slow hour of the machine strikes every fusion alike.
    for seed in range(options.seeds):
        for fusion in options.fusions:
            if not any((row["fusion"], row["seed"]) == (fusion, str(seed)) for row in rows):
                rows.append(train_and_score(fusion, seed))
                write_csv(TABLE, COLUMNS, [[row[column] for column in COLUMNS] for row in rows])
    readme = README.read_text(encoding="utf-8")
    before, after = readme[: readme.index(BEGIN) + len(BEGIN)], readme[readme.index(END) :]
    write_bytes(README, f"{before}\n{markdown(rows)}\n{after}".encode())
    print(markdown(rows))


def train_and_score(fusion: str, seed: int) -> dict[str, str]:
    """Train one network as the stages train and evaluate do, and give its row."""
    params = dataclasses.replace(load_params("train").train, seed=seed)
    torch.set_num_threads(params.threads)
    splits = {name: load_split(Path(f"data/paired/{name}.safetensors")) for name in ("train", "validation", "test")}
    torch.manual_seed(seed)
    network = Network(fusion, *normalisation(splits["train"].images))
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in fit(network, splits["train"], splits["validation"], params, choose_device(params.device)):
        pass
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    scores = headline_metrics(predict(network, splits["test"]), score_all_numbers(network, splits["test"]), 15)
    row = [params_digest(), fusion, seed, *(scores[name]["accuracy"] for name in ("digit", "sum", "joint"))]
    row += [scores["all_numbers"]["joint_accuracy"], round(wall, 1), round(cpu, 1), machine()]
    print(dict(zip(COLUMNS, row, strict=True)), flush=True)
    return dict(zip(COLUMNS, map(str, row), strict=True))


def params_digest() -> str:
    """Give a short digest of the parameters that a row depends on, besides its fusion and its seed."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["train"].pop("seed")
    return hashlib.sha256(json.dumps([params["pair"], params["train"]]).encode()).hexdigest()[:12]


def markdown(rows: list[dict[str, str]]) -> str:
    """Give the table: mean and standard deviation of each accuracy, median and range of the seconds."""
    lines = [
        "| fusion | seeds | digit % | sum % | joint % | all numbers, joint % | training, wall s | training, CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for fusion in FUSIONS:
        of_fusion = [row for row in rows if row["fusion"] == fusion]
        if len(of_fusion) < 2:  # one run has no spread
            continue
        cells = [f"`{fusion}`", str(len(of_fusion))]
        for score in SCORES:
            values = [100 * float(row[score]) for row in of_fusion]
            cells.append(f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}")
        for seconds in ("wall_seconds", "cpu_seconds"):
            values = [float(row[seconds]) for row in of_fusion]
            cells.append(f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})")
        lines.append(f"| {' | '.join(cells)} |")
    machines = "; ".join(dict.fromkeys(row["machine"] for row in rows))
    lines += [
        "",
        f"Accuracies: mean ± standard deviation over seeds. Seconds: median (range). Measured on: {machines}.",
    ]
    return "\n".join(lines)


def machine() -> str:
    """Name the processor, or the GPU, and the versions that a row was measured with."""
    cpus = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    processor = torch.cuda.get_device_name() if torch.cuda.is_available() else (cpus or [platform.machine()])[0]
    return f"{processor}, {os.cpu_count()} cores, torch {torch.__version__}, Python {platform.python_version()}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def read_rows() -> list[dict[str, str]]:
    """Give the rows measured so far."""
    if not TABLE.exists():
        return []
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
