"""The results of the studies as tables in studies/README.md: `make tables`, after `dvc repro` of a study."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean

from digitsum.model.fusions import FUSIONS
from digitsum.report.tables import markdown_table
from studies.fusions.compare import SCORES, Trials, read_results, values
from studies.mnist_add.compare import best_published
from tools.tables import marks, mean_and_deviation, read_rows, replace_between, summary_in_percent

STUDIES = Path("studies")
ADDERS = {"large": "`large`", "lenet": "LeNet", "lenet_digits": "LeNet, labels of digits"}
VERDICTS = ("no ink", "no digit", "unsure", "sure")
README, COMMAND = STUDIES / "README.md", "make tables"


def main() -> None:
    """Write each table between its own marks."""
    for name, table in TABLES.items():
        replace_between(README, marks(name, COMMAND), table())


def changes(baseline: str, *left_out: str) -> str:
    """Return what changing one thing at a time does to a baseline, which comes first."""
    trials = {name: runs for name, runs in read_results(STUDIES / baseline / "results").items() if name not in left_out}
    first = {"as_it_was": trials.pop("as_it_was")}
    return scores({name.replace("_", " "): runs for name, runs in (first | trials).items()}, {})


def fusions() -> str:
    """Return the fusions, in the order in which they beat one another."""
    compared = json.loads((STUDIES / "fusions/comparison.json").read_text())["fusions"]
    trials = read_results(STUDIES / "fusions/results")
    times = {row["fusion"]: float(row["of_shift"]) for row in read_rows(Path("benchmarks/epoch_time.csv"))}
    shown, beats, epoch_time = {}, [], []
    for name, result in compared.items():
        shown[f"`{name}`" if name in FUSIONS else name.replace("_", " ")] = trials[name]
        beats.append(f"{mean(result['beats'].values()):.2f}" if "beats" in result else "")
        epoch_time.append(f"{times[name]:.2f}" if name in times else "")
    return scores(shown, {"beats the others": beats, "epoch time": epoch_time})


def scores(trials: Trials, more: dict[str, list[str]]) -> str:
    """Return a row for each name: weights, seeds, mean ± standard deviation of the accuracies, and `more` columns."""
    headers = ["", "weights", "seeds", *(f"{score.replace('all_numbers_', 'all numbers, ')} %" for score in SCORES)]
    rows = []
    for name, runs in trials.items():
        weights = next(iter(runs.values()))["weights"]
        accuracies = [mean_and_deviation(values(runs, score)) for score in SCORES]
        rows.append([name, f"{weights:,}", str(len(runs)), *accuracies])
    for column in more.values():
        for row, cell in zip(rows, column, strict=True):
            row.append(cell)
    return markdown_table([*headers, *more], rows)


def mnist_add() -> str:
    """Return what each network of the study mnist_add has correct, for each number of digits."""
    compared = json.loads((STUDIES / "mnist_add/comparison.json").read_text())
    published = read_rows(STUDIES / "mnist_add/published.csv")
    seconds = {row["variant"]: float(row["cpu_seconds"]) for row in read_rows(Path("benchmarks/mnist_add.csv"))}
    body = []
    for name, of in sorted(compared.items(), key=lambda item: (item[1]["num_digits"], item[0])):
        best = best_published(published, of["num_digits"])
        shown = [summary_in_percent(of[score]) for score in ("digits", "sums")]
        best_shown = f"{best['sums']} {best['method']}" if best else "–"
        network = ADDERS[name.replace(f"_{of['num_digits']}", "")]
        cells = (*shown, f"{100 * of['independent']:.2f}", best_shown, f"{seconds[name]:.0f}")
        body.append([str(of["num_digits"]), network, *cells])
    headers = ["N", "network", "digits %", "sums %", "if independent %", "best published, sums %", "CPU-seconds"]
    return markdown_table(headers, body)


def other_hands(part: str) -> str:
    """Return a table of the study other_hands: of the digits that are correct, or of the verdicts on other pictures."""
    results = json.loads((STUDIES / "other_hands/results.json").read_text())
    if part == "digits":
        rows = {**results["conditions"], "mean": results["mean"]}
        body = [[name, *(f"{100 * found['correct']:.1f}" for found in row.values())] for name, row in rows.items()]
        return markdown_table(["condition", *(f"{source}, %" for source in results["mean"])], body)
    shares = {**results["no digit"], "MNIST's test images": results["MNIST's test images"]}
    body = [[name, *(f"{100 * found.get(verdict, 0):.1f}" for verdict in VERDICTS)] for name, found in shares.items()]
    return markdown_table(["pictures", *(f"{verdict}, %" for verdict in VERDICTS)], body)


TABLES: dict[str, Callable[[], str]] = {
    "changes to baseline_concat": functools.partial(changes, "baseline_concat"),
    "changes to baseline_add": functools.partial(changes, "baseline_add", "as_it_was_40_epochs"),
    "fusions": fusions,
    "mnist_add": mnist_add,
    "other_hands, digits": functools.partial(other_hands, "digits"),
    "other_hands, verdicts": functools.partial(other_hands, "verdicts"),
}

if __name__ == "__main__":
    main()
