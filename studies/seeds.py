"""The spread over seeds: train the default and the recipes with several seeds, score each on the test split.

    make seeds    # trains what studies/seeds.csv lacks, then writes the table into the README

MNIST is the pipeline's (`make repro` first). A recipe is trained with the parameters of params.yaml but for its own,
those of the data among them. Rows measured with other parameters are dropped, but for train.numerics, which has lines
of its own; after a change of code delete studies/seeds.csv. Fusions are compared in studies/fusions.
"""

import argparse
import dataclasses
import itertools
import statistics
from pathlib import Path

import stages  # noqa: F401  prepares the environment as for a stage, before torch is imported

# isort: split
from digitsum.core.files import write_csv
from digitsum.mnist.idx import expected_digests, read_raw
from digitsum.pairing.pairs import make_splits
from digitsum.evaluation.metrics import headline_metrics
from digitsum.evaluation.predict import predict, score_all_numbers, see_images
from digitsum.core.params import Params, load_params
from digitsum.training.devices import choose_device
from studies.measuring import (
    errors_in_one_line,
    machine,
    params_digest,
    put_between,
    read_params,
    read_recipe,
    read_rows,
    train_network,
)

TABLE = Path("studies/seeds.csv")
SCORES = ("digit", "sum", "joint", "all_numbers_joint")
COLUMNS = ("params", "name", "numerics", "seed", "weights", *SCORES, "wall_seconds", "cpu_seconds", "machine")
FEWEST_SEEDS = 3  # for a line in the table
README, BEGIN, END = Path("README.md"), "<!-- seeds: written by `make seeds` -->", "<!-- end of seeds -->"


def main() -> None:
    """Train what is missing, row by row, and write the table."""
    settings = variants()
    arguments = argparse.ArgumentParser(description="Train with several seeds; write the README's table.")
    arguments.add_argument("--seeds", type=int, default=5, help="seeds 0 to N - 1 of each (default 5)")
    arguments.add_argument("--names", nargs="+", choices=settings, default=list(settings), help="(default all)")
    options = arguments.parse_args()
    digests = {name: params_digest(params) for name, params in settings.items()}
    rows = [row for row in read_rows(TABLE) if row["params"] == digests.get(row["name"])]
    # Seed by seed, so that a slow hour of the machine strikes all alike.
    for seed in range(options.seeds):
        for name in options.names:
            wanted = (name, settings[name].train.numerics, str(seed))
            if not any((row["name"], row["numerics"], row["seed"]) == wanted for row in rows):
                rows.append(train_and_score(name, settings[name], seed))
                write_csv(TABLE, COLUMNS, [[row[column] for column in COLUMNS] for row in rows])
    put_between(README, BEGIN, END, markdown(rows))
    print(markdown(rows))


def variants() -> dict[str, Params]:
    """Return the parameters of all that is trained, by name: the default, then the recipes."""
    return {"default": read_params()} | {path.name: read_recipe(path) for path in sorted(Path("recipes").iterdir())}


def train_and_score(name: str, params: Params, seed: int) -> dict[str, str]:
    """Train one network as the stages train and evaluate do, and give its row."""
    of_seed = dataclasses.replace(params, train=dataclasses.replace(params.train, seed=seed))
    pair, raw = params.pair, read_raw(Path("data/raw"), expected_digests(load_params("fetch").fetch))
    splits = make_splits(raw, pair.validation_size, pair.pairs_per_image, pair.seed, pair.training_size)
    network, wall, cpu = train_network(of_seed, splits["train"], splits["validation"])
    test = splits["test"]
    evidence = see_images(network, test.images)
    scores = headline_metrics(predict(network, test, evidence), score_all_numbers(network, test, evidence), 15)
    weights = sum(parameter.numel() for parameter in network.parameters())
    row = [params_digest(params), name, params.train.numerics, seed, weights]
    row += [scores[answer]["accuracy"] for answer in ("digit", "sum", "joint")]
    row += [scores["all_numbers"]["joint_accuracy"], round(wall, 1), round(cpu, 1)]
    row += [machine(choose_device(params.train.device))]
    print(dict(zip(COLUMNS, row, strict=True)), flush=True)
    return dict(zip(COLUMNS, map(str, row), strict=True))


def markdown(rows: list[dict[str, str]]) -> str:
    """Return the table: mean and standard deviation of each accuracy, median and range of the seconds."""
    lines = [
        "| | numerics | weights | seeds | digit % | sum % | joint % | all numbers, joint % | wall s | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, numerics in itertools.product(variants(), ("portable", "native")):
        runs = [row for row in rows if (row["name"], row["numerics"]) == (name, numerics)]
        if len(runs) < FEWEST_SEEDS:
            continue
        cells = [f"`{name}`", numerics, f"{int(runs[0]['weights']):,}", str(len(runs))]
        for score in SCORES:
            values = [100 * float(row[score]) for row in runs]
            cells.append(f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}")
        for seconds in ("wall_seconds", "cpu_seconds"):
            values = [float(row[seconds]) for row in runs]
            cells.append(f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})")
        lines.append(f"| {' | '.join(cells)} |")
    machines = "; ".join(dict.fromkeys(row["machine"] for row in rows))
    lines += [
        "",
        "Accuracies: mean ± standard deviation over seeds. Seconds of training: median (range). "
        f"Measured on: {machines}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    with errors_in_one_line():
        main()
