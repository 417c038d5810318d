"""Time to 99 % and to 99.5 %: recipes against peers, side by side, in CPU-seconds; on a GPU, in seconds.

    make bench    # one to two hours; writes the tables in benchmarks/README.md, results.json, every run in speed.csv

The clock runs from data in memory to a trained network. Not timed: making the data, scoring the test split, importing
PyTorch. All run in one process with the same number of threads. Our recipes run once in each of ten rounds, and so do
peers that take seconds; the other peers run once, each in a round of its own. So the ten runs are spread over the whole
time, and a slow minute of the machine affects all contestants. An interrupted benchmark continues with the rows of
speed.csv that were measured with the present recipes on the present machine. After a change of code delete that file.
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch._dynamo  # the first optimizer would import it, and the first contestant would pay for it

from benchmarks.peers import PEERS, Classifier
from digitsum.core.files import write_csv, write_json
from digitsum.core.numerics import Compute, configure_torch
from digitsum.data.splits import Split, load_split
from digitsum.report.tables import markdown_table
from digitsum.training.devices import choose_device
from digitsum.training.loop import train_network
from digitsum.training.params import TrainingParams
from tools.recipes import Recipe, read_mnist, read_recipes
from tools.tables import machine, marks, read_rows, replace_between, summary_in_percent

RUNS, RESULTS, README = Path("benchmarks/speed.csv"), Path("benchmarks/results.json"), Path("benchmarks/README.md")
MARKS = marks("speed", "make bench")
COLUMNS = ("recipe", "measured_on", "goal", "name", "seed", "cpu_seconds", "wall_seconds", "epochs", "digit", "sum")


class Goal(NamedTuple):
    """A share of the test digits, the recipe that is to reach it, and the rounds of each contestant, ours first."""

    share: float
    recipe: str
    rounds: dict[str, Sequence[int]]


ROUNDS = range(10)
GOALS = {  # the contestants with one round take most of the time
    "99 %": Goal(
        share=0.99,
        recipe="quick",
        rounds={
            "quick": ROUNDS,
            "tuomaso": ROUNDS,
            "pytorch_examples": [2],
            "baseline_concat": [4],
            "baseline_add": [6],
        },
    ),
    "99.5 %": Goal(share=0.995, recipe="brisk", rounds={"brisk": ROUNDS, "pytorch_examples": [3], "cdeotte": [5]}),
}
TITLES = {
    "quick": "`quick`, ours",
    "brisk": "`brisk`, ours",
    "tuomaso": "tuomaso/train_mnist_fast, 1 epoch",
    "pytorch_examples": "pytorch/examples, at most 14 epochs",
    "cdeotte": "cdeotte/MNIST-CNN-99.75, at most 30 epochs",
    "baseline_concat": "baseline `concat`, at most 10 epochs",
    "baseline_add": "baseline `add`, at most 10 epochs",
}


def main(arguments: Sequence[str], numerics: str) -> None:
    """Measure round by round; write every run, the results and the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks speed", description="Time quick and brisk against peers, to 99 %% and 99.5 %%."
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda or mps (default: the best there is)")
    parser.add_argument("--follow", choices=PEERS, help="only train this peer, to its last epoch")
    options = parser.parse_args(arguments)
    compute = Compute(numerics)
    configure_torch(compute)
    device = choose_device(options.device)
    mnist = read_mnist()
    training, validation, test = (
        load_split(Path(f"data/paired/{name}.safetensors")) for name in ("train", "validation", "test")
    )
    test = test.to(device)
    if options.follow:
        for epoch, classifier in enumerate(PEERS[options.follow](mnist, 0, device), 1):
            print(f"{options.follow}, epoch {epoch}: {score(classifier, test)[0]:.2%} of the test digits", flush=True)
        return
    recipes = read_recipes()

    def ours(recipe: Recipe) -> Callable[[int], Iterator[Classifier]]:
        params = dataclasses.replace(recipe.training, compute=compute)
        return lambda seed: train_recipe(params, seed, training, validation, device)

    contestants: dict[str, Callable[[int], Iterator[Classifier]]] = {
        **{goal.recipe: ours(recipes[goal.recipe]) for goal in GOALS.values()},
        **{name: lambda seed, train=train: train(mnist, seed, device) for name, train in PEERS.items()},  # type: ignore[misc]
    }
    measured_on = f"{machine(device)}, threads: 1" + (", portable" if numerics == "portable" else "")
    runs = present_runs(read_rows(RUNS), recipes)
    for round_ in ROUNDS:
        for title, goal in GOALS.items():
            for name, rounds in goal.rounds.items():
                if round_ not in rounds:
                    continue
                seed = rounds.index(round_)
                values = (recipes[goal.recipe].digest, measured_on, title, name, str(seed))
                run = dict(zip(COLUMNS, values, strict=False))
                if any(run.items() <= known.items() for known in runs):
                    continue
                measured = time_to_goal(contestants[name](seed), test, goal.share)
                shown = ["" if value is None else str(value) for value in measured]
                runs.append(run | dict(zip(COLUMNS[len(run) :], shown, strict=True)))
                print(runs[-1], flush=True)
                write_csv(RUNS, COLUMNS, [list(run.values()) for run in runs])
    here = [run for run in runs if run["measured_on"] == measured_on]
    write_json(RESULTS, results(here, measured_on, "cpu_seconds" if device.type == "cpu" else "wall_seconds"))
    replace_between(README, MARKS, tables(json.loads(RESULTS.read_text())))


def present_runs(runs: list[dict[str, str]], recipes: dict[str, Recipe]) -> list[dict[str, str]]:
    """Return the runs to a goal whose recipe has still the parameters with which they were measured."""
    digests = {title: recipes[goal.recipe].digest for title, goal in GOALS.items()}
    return [run for run in runs if digests.get(run["goal"]) == run["recipe"]]


def train_recipe(
    params: TrainingParams, seed: int, training: Split, validation: Split, device: torch.device
) -> Iterator[Classifier]:
    """Train as the stage train does; yield the network at the end."""
    params = dataclasses.replace(params, train=dataclasses.replace(params.train, seed=seed))
    network, _ = train_network(params, training, validation, device)
    yield network.to(device)


def time_to_goal(states: Iterator[Classifier], test: Split, share: float) -> tuple[float, float, int, float, Any]:
    """Return CPU-seconds, wall seconds and epochs to the first state with this `share` of digits, and its accuracies.

    Those of the last state if none reaches it.
    """
    torch.set_deterministic_debug_mode("default")  # of the contestants only ours set it
    cpu = wall = 0.0
    digit, total, epochs = 0.0, None, 0
    while True:
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        classifier = next(states, None)
        if test.images.is_cuda:
            torch.cuda.synchronize()
        cpu, wall = cpu + time.process_time() - cpu_start, wall + time.perf_counter() - wall_start
        if classifier is None:  # no epochs are left
            break
        digit, total = score(classifier, test)
        epochs += 1
        if digit >= share:
            break
    return round(cpu, 3), round(wall, 3), epochs, digit, total


@torch.no_grad()
def score(classifier: Classifier, test: Split) -> tuple[float, float | None]:
    """Return the accuracy on the test pairs of digit and, if there is one, sum."""
    correct_digits, correct_sums = 0, None
    for start in range(0, len(test), 500):
        images, digits, numbers = test[start : start + 500]
        digit_logits, sum_logits = classifier(images, numbers)
        correct_digits += int((digit_logits.argmax(1) == digits).sum())
        if sum_logits is not None:
            correct_sums = (correct_sums or 0) + int((sum_logits.argmax(1) == digits + numbers).sum())
    return correct_digits / len(test), None if correct_sums is None else correct_sums / len(test)


def results(runs: list[dict[str, str]], measured_on: str, clock: str) -> dict[str, Any]:
    """Return the content of benchmarks/results.json for these runs; ratios are of the seconds of `clock`."""
    goals = {title: goal_results([run for run in runs if run["goal"] == title], title, clock) for title in GOALS}
    goals = {title: of for title, of in goals.items() if of}
    quick = goals["99 %"][clock]["quick"]["median"]
    for title, of in goals.items():
        of["times_quick"] = round(of[clock][GOALS[title].recipe]["median"] / quick, 2)
    minutes = round(sum(float(run["wall_seconds"]) for run in runs) / 60)
    return {"measured_on": measured_on, "clock": clock, "minutes": minutes, "goals": goals}


def goal_results(runs: list[dict[str, str]], title: str, clock: str) -> dict[str, Any]:
    """Return what was measured for a goal, by contestant; nothing if there are no runs to it."""
    if not runs:
        return {}
    goal = GOALS[title]
    values = {
        column: {
            name: [float(run[column]) for run in runs if run["name"] == name and run[column]] for name in goal.rounds
        }
        for column in ("cpu_seconds", "wall_seconds", "digit", "sum")
    }
    seconds = {
        column: {
            name: {"median": statistics.median(of), "min": min(of), "max": max(of)}
            for name, of in values[column].items()
        }
        for column in ("cpu_seconds", "wall_seconds")
    }
    medians = {name: of["median"] for name, of in seconds[clock].items()}
    return {
        "recipe": Path("recipes", goal.recipe).read_text().split(),
        **seconds,
        "accuracy": {name: spread(shares) for name, shares in values["digit"].items()},
        "sum_accuracy": {name: spread(shares) for name, shares in values["sum"].items() if shares},
        "reached": {name: sum(share >= goal.share for share in shares) for name, shares in values["digit"].items()},
        # Of our seconds to those of each peer.
        "ratio": {name: round(medians[goal.recipe] / of, 5) for name, of in medians.items() if name != goal.recipe},
    }


def spread(values: list[float]) -> dict[str, float | None]:
    """Return mean, standard deviation over seeds (none of one), and the number of seeds."""
    deviation = round(statistics.stdev(values), 6) if len(values) > 1 else None
    return {"mean": round(statistics.mean(values), 6), "sd": deviation, "n": len(values)}


def tables(measured: dict[str, Any]) -> str:
    """Return the tables of benchmarks/README.md, one a goal, for the content of benchmarks/results.json."""
    shown = [table(title, of, measured["clock"]) for title, of in measured["goals"].items()]
    note = f"Mean ± standard deviation over seeds. Measured on: {measured['measured_on']}."
    return "\n\n".join([*shown, note])


def table(title: str, measured: dict[str, Any], clock: str) -> str:
    """Return the table of a goal."""
    unit, recipe = {"cpu_seconds": "CPU-seconds", "wall_seconds": "seconds"}[clock], GOALS[title].recipe
    headers = [f"to {title} of test digits", "runs", f"{unit}, median (range)", f"`{recipe}` takes"]
    rows = []
    for name, seconds in measured[clock].items():
        runs, ratio, reached = measured["accuracy"][name]["n"], measured["ratio"].get(name), measured["reached"][name]
        times_quick = f"{measured['times_quick']:.1f} times `quick`" if recipe != "quick" else ""
        rows.append(
            [
                TITLES[name],
                runs,
                f"{seconds['median']:.1f} ({seconds['min']:.1f} to {seconds['max']:.1f})",
                ("" if reached else "under ") + f"1/{1 / ratio:.1f}" if ratio else times_quick,
                *(
                    summary_in_percent(measured[kind][name]) if name in measured[kind] else ""
                    for kind in ("accuracy", "sum_accuracy")
                ),
                f"{reached} of {runs}" if reached else "not reached",
            ]
        )
    return markdown_table([*headers, "digit %", "sum %", "reached"], rows)
