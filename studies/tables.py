"""The studies' results as tables in the README: `make tables`, after `dvc repro` of a study."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

from digitsum.model.fusions import FUSIONS
from studies.compare import SCORES, Trials, read_trials, values
from studies.measuring import put_between, read_rows

README = Path("README.md")


def main() -> None:
    """Write each table between its own marks."""
    for name, table in TABLES.items():
        put_between(README, begin(name), f"<!-- end of {name} -->", table())


def begin(name: str) -> str:
    """Return the line that a table stands below."""
    return f"<!-- {name}: written by `make tables` -->"


def changes(study: str) -> str:
    """Return what changing one thing at a time does to an older solution."""
    trials = read_trials(Path("studies", study, "trials"))
    first = {"as_it_was": trials.pop("as_it_was")}
    return scores({name.replace("_", " "): runs for name, runs in (first | trials).items()}, {})


def fusions() -> str:
    """Return the fusions, in the order in which they beat one another."""
    results = json.loads(Path("studies/fusions/metrics/fusions.json").read_text())
    trials = read_trials(Path("studies/fusions/trials"))
    times = read_rows(Path("studies/fusions/epoch_time.csv"))
    seconds = {row["fusion"]: f"{float(row['of_shift']):.2f}" for row in times}
    beats = {
        name: f"{mean(result['beats'].values()):.2f}" if "beats" in result else "" for name, result in results.items()
    }
    named = {f"`{name}`" if name in FUSIONS else name.replace("_", " "): name for name in results}
    return scores(
        {shown: trials[name] for shown, name in named.items()},
        {
            "beats the others": {shown: beats[name] for shown, name in named.items()},
            "seconds an epoch": {shown: seconds.get(name, "") for shown, name in named.items()},
        },
    )


def scores(trials: Trials, more: dict[str, dict[str, str]]) -> str:
    """Return a line for each name: weights, mean ± standard deviation over seeds of the accuracies, `more` columns."""
    heads = ["", "weights", "seeds", *(f"{score.replace('all_numbers_', 'all numbers, ')} %" for score in SCORES)]
    heads += more
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for name, runs in trials.items():
        line = [name, f"{next(iter(runs.values()))['weights']:,}", str(len(runs))]
        for score in SCORES:
            percent = [100 * value for value in values(runs, score)]
            line.append(f"{mean(percent):.2f} ± {stdev(percent):.2f}" if len(percent) > 1 else f"{percent[0]:.2f}")
        line += [cells[name] for cells in more.values()]
        lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "changes to seed_concat": functools.partial(changes, "seed_concat"),
    "changes to seed_add": functools.partial(changes, "seed_add"),
    "fusions": fusions,
}

if __name__ == "__main__":
    main()
