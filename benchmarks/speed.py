"""How long to 99 %: the recipe `quick` against its peers, side by side, in CPU-seconds; on a GPU, in seconds.

    make bench    # 15 to 30 minutes; then the table stands in README.md, every run in benchmarks/speed.csv

The clock runs from data in memory to a trained network; making the data, scoring the test split and importing PyTorch
are not counted. Round after round, everyone who still has rounds runs once, in one process with the same number
of threads, so that a slow minute of the machine strikes all alike. What was interrupted goes on where it stopped, with
the rows of benchmarks/speed.csv that were measured with the present recipe on the present machine; after a change of
code delete that file.
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # the first optimizer would import it, at the cost of whoever comes first

from benchmarks.peers import PEERS, Answers
from digitsum.core.files import write_csv, write_json
from digitsum.mnist import idx
from digitsum.data.splits import Split, load_split
from digitsum.model.network import new_network
from digitsum.core.params import Params, load_params
from digitsum.training.devices import choose_device
from digitsum.training.loop import fit
from studies.measuring import errors_in_one_line, machine, params_digest, put_between, read_recipe, read_rows

RUNS, RESULTS, README = Path("benchmarks/speed.csv"), Path("benchmarks/results.json"), Path("README.md")
BEGIN, END = "<!-- speed: written by `make bench` -->", "<!-- end of speed -->"
SPLITS = ("train", "validation", "test")
COLUMNS = ("recipe", "measured_on", "name", "seed", "cpu_seconds", "wall_seconds", "epochs", "digit", "sum")
GOAL = 0.99
ROUNDS = {"quick": 10, "tuomaso": 10, "pytorch_examples": 1, "seed_concat": 1, "seed_add": 1}  # the last three: long
SHOWN = {
    "quick": "`quick`, ours",
    "tuomaso": "tuomaso/train_mnist_fast, 1 epoch",
    "pytorch_examples": "pytorch/examples, to its first epoch over 99 %",
    "seed_concat": "the older solution `concat`, at most 10 epochs",
    "seed_add": "the older solution `add`, at most 10 epochs",
}


def main() -> None:
    """Measure round by round; write every run, the results and the table."""
    arguments = argparse.ArgumentParser(description="Time the recipe quick and its peers to 99 %.")
    arguments.add_argument("--threads", type=int, default=1, help="CPU threads of everyone (default 1)")
    arguments.add_argument("--device", default="auto", help="cpu, cuda or mps (default: the best there is)")
    arguments.add_argument("--follow", choices=PEERS, help="only train this peer, up to the last epoch it has")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    fetch = load_params("fetch").fetch
    mnist = idx.read_raw(Path("data/raw"), idx.expected_digests(fetch))
    training, validation, test = (load_split(Path("data/paired", f"{name}.safetensors")) for name in SPLITS)
    test = test.to(device)
    if options.follow:
        for epoch, answers in enumerate(PEERS[options.follow](mnist, 0, device), 1):
            print(f"{options.follow}, epoch {epoch}: {score(answers, test)[0]:.2%} of the test digits", flush=True)
        return
    recipe = read_recipe(Path("recipes/quick"))

    contestants: dict[str, Callable[[int], Iterator[Answers]]] = {
        "quick": lambda seed: ours(training, validation, recipe, seed, device),
        **{name: lambda seed, train=train: train(mnist, seed, device) for name, train in PEERS.items()},  # type: ignore[misc]
    }
    present = {"recipe": params_digest(recipe), "measured_on": f"{machine(device)}, threads: {options.threads}"}
    runs = [run for run in read_rows(RUNS) if run["recipe"] == present["recipe"]]
    for seed in range(max(ROUNDS.values())):
        for name, rounds in ROUNDS.items():
            run = {**present, "name": name, "seed": str(seed)}
            if seed >= rounds or any(run.items() <= known.items() for known in runs):
                continue
            found = ["" if value is None else str(value) for value in time_to_goal(contestants[name](seed), test)]
            runs.append(run | dict(zip(COLUMNS[len(run) :], found, strict=True)))
            print(runs[-1], flush=True)
            write_csv(RUNS, COLUMNS, [list(run.values()) for run in runs])
    here = [run for run in runs if present.items() <= run.items()]
    clock = "cpu_seconds" if device.type == "cpu" else "wall_seconds"
    write_json(RESULTS, results(here, present["measured_on"], clock))
    put_between(README, BEGIN, END, markdown(json.loads(RESULTS.read_text())))


def ours(training: Split, validation: Split, params: Params, seed: int, device: torch.device) -> Iterator[Answers]:
    """Train as the stage train does, giving the network at the end."""
    torch.manual_seed(seed)
    train = dataclasses.replace(params.train, seed=seed)
    network = new_network(params.model, training)
    for _ in fit(network, training, validation, train, device):
        pass
    yield network


def time_to_goal(states: Iterator[Answers], test: Split) -> tuple[float, float, int, float, Any]:
    """Return CPU-seconds, wall seconds and epochs to the first state of 99 % on digits, and its accuracies."""
    cpu = wall = 0.0
    digit, total, epochs = 0.0, None, 0
    while True:
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        answers = next(states, None)
        if test.images.is_cuda:
            torch.cuda.synchronize()
        cpu, wall = cpu + time.process_time() - cpu_start, wall + time.perf_counter() - wall_start
        if answers is None:  # it has run out of epochs
            return round(cpu, 3), round(wall, 3), epochs, digit, total
        digit, total = score(answers, test)
        epochs += 1
        if digit >= GOAL:
            return round(cpu, 3), round(wall, 3), epochs, digit, total


@torch.no_grad()
def score(answers: Answers, test: Split) -> tuple[float, float | None]:
    """Return the accuracy on the test pairs of digit and, if there is one, sum."""
    digits_right, sums_right = 0, None
    for start in range(0, len(test), 500):
        images, digits, numbers = test[start : start + 500]
        digit, total = answers(images, numbers)
        digits_right += int((digit.argmax(1) == digits).sum())
        if total is not None:
            sums_right = (sums_right or 0) + int((total.argmax(1) == digits + numbers).sum())
    return digits_right / len(test), None if sums_right is None else sums_right / len(test)


def results(runs: list[dict[str, str]], measured_on: str, clock: str) -> dict[str, Any]:
    """Return what benchmarks/results.json holds, from the runs; ratios are of the seconds of `clock`."""
    digits = {name: [float(run["digit"]) for run in runs if run["name"] == name] for name in ROUNDS}
    sums = {name: [float(run["sum"]) for run in runs if run["name"] == name and run["sum"]] for name in ROUNDS}
    seconds = {
        kind: {name: seconds_of(name, kind, runs) for name in ROUNDS} for kind in ("cpu_seconds", "wall_seconds")
    }
    medians = {name: seconds[clock][name]["median"] for name in ROUNDS}
    return {
        "measured_on": measured_on,
        "clock": clock,
        "recipe": Path("recipes/quick").read_text().split(),
        **seconds,
        "accuracy": {name: spread(values) for name, values in digits.items()},
        "sum_accuracy": {name: spread(values) for name, values in sums.items() if values},
        "reached": {name: sum(value >= GOAL for value in values) for name, values in digits.items()},
        "ratio": {
            f"quick_over_{name}": round(medians["quick"] / medians[name], 5) for name in ROUNDS if name != "quick"
        },
    }


def seconds_of(name: str, kind: str, runs: list[dict[str, str]]) -> dict[str, float]:
    """Return median and range of the seconds that the runs of `name` took."""
    values = [float(run[kind]) for run in runs if run["name"] == name]
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def spread(values: list[float]) -> dict[str, float | None]:
    """Return mean, standard deviation over seeds (none of one), and how many seeds."""
    deviation = round(statistics.stdev(values), 6) if len(values) > 1 else None
    return {"mean": round(statistics.mean(values), 6), "sd": deviation, "n": len(values)}


def markdown(found: dict[str, Any]) -> str:
    """Return the table of the README."""
    unit = {"cpu_seconds": "CPU-seconds", "wall_seconds": "seconds"}[found["clock"]]
    lines = [
        f"| to 99 % of test digits | runs | {unit}, median (range) | `quick` takes | digit % | sum % | reached |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, title in SHOWN.items():
        seconds, runs = found[found["clock"]][name], found["accuracy"][name]["n"]
        ratio = found["ratio"].get(f"quick_over_{name}")
        accuracies = [found[kind].get(name) for kind in ("accuracy", "sum_accuracy")]
        cells = [
            title,
            str(runs),
            f"{seconds['median']:.1f} ({seconds['min']:.1f} to {seconds['max']:.1f})",
            ("" if found["reached"][name] else "under ") + f"1/{1 / ratio:.1f}" if ratio else "",
            *(shown_spread(part) if part else "" for part in accuracies),
            f"{found['reached'][name]} of {runs}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Mean ± standard deviation over seeds. Measured on: {found['measured_on']}."])


def shown_spread(part: dict[str, Any]) -> str:
    """Return an accuracy in percent, with its deviation if there is one."""
    return f"{100 * part['mean']:.2f}" + ("" if part["sd"] is None else f" ± {100 * part['sd']:.2f}")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
