"""Stage compare: which part of the sums is correct, over seeds, next to what others state."""

import csv
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.axes import Axes

from digitsum.core.files import write_json
from digitsum.core.runner import Stage
from digitsum.plotting.canvas import BLUE, ORANGE, new_axis, new_figure, save_png

PUBLISHED = Path("published.csv")
NETWORKS = {"large": ("large, deskewed and warped images", BLUE), "lenet": ("LeNet of the papers", ORANGE)}
Summary = dict[str, Any]


def main(stage: Stage) -> None:
    """Read results/ and published.csv; write comparison.json and the figure."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted(Path("results").glob("*.json"))}
    summaries = {name: summary(result) for name, result in results.items()}
    write_json(Path("comparison.json"), summaries)
    draw_sums(Path("plots/sums.png"), summaries, read_published(PUBLISHED))


def summary(result: dict[str, Any]) -> Summary:
    """Return mean and deviation over seeds of what is correct, 0-1.

    fewest_digits: with the worst seed. independent: the sums, if an error in one image said nothing of the others.
    """
    runs, num_digits = list(result["seeds"].values()), result["num_digits"]
    summed: Summary = {"num_digits": num_digits, "weights": result["weights"], "seeds": len(runs)}
    for score in ("digits", "sums"):
        values = [run[score] for run in runs]
        summed[score] = {"mean": round(mean(values), 5), "sd": round(stdev(values), 5)}
    summed["fewest_digits"] = min(run["digits"] for run in runs)
    summed["independent"] = round(mean(run["digits"] ** (2 * num_digits) for run in runs), 5)
    return summed


def read_published(path: Path) -> list[dict[str, str]]:
    """Return what others state, a row for each method and number of digits."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def best_published(rows: list[dict[str, str]], num_digits: int) -> dict[str, str] | None:
    """Return the row with the most correct sums of numbers of so many digits; None if nobody states any."""
    of_size = (row for row in rows if row["num_digits"] == str(num_digits))
    return max(of_size, key=lambda row: float(row["sums"]), default=None)


def draw_sums(path: Path, summaries: dict[str, Summary], published: list[dict[str, str]]) -> None:
    """Draw which part of the sums is wrong against the number of digits: lines of means, bars of deviation."""
    figure = new_figure(8, 5)
    axis = new_axis(figure, left=0.8, right=0.2, bottom=0.6, top=0.4)
    axis.set_xscale("log")
    axis.set_yscale("log")
    for network, (label, colour) in NETWORKS.items():
        draw_network(axis, [of for name, of in summaries.items() if name.rpartition("_")[0] == network], label, colour)
    places = [float(row["num_digits"]) for row in published]
    axis.plot(places, [100 - float(row["sums"]) for row in published], "x", color="grey", label="published")
    axis.plot([], [], ":", color="black", label="if errors of its digits were independent")
    ticks = sorted({of["num_digits"] for of in summaries.values()})
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set_yticks([0.5, 1, 2, 5, 10, 20, 30], ["0.5", "1", "2", "5", "10", "20", "30"])
    axis.minorticks_off()
    axis.set_xlim(0.8, 22)
    axis.set_xlabel("digits of each of the two numbers")
    axis.set_ylabel("wrong sums, test split, %")
    axis.set_title("Sums of two numbers whose digits are images, learned from sums alone", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left", fontsize=9)
    save_png(path, figure)


def draw_network(axis: Axes, summaries: list[Summary], label: str, colour: str) -> None:
    """Draw the wrong sums of one network, and those that its digits alone would give."""
    ordered = sorted(summaries, key=lambda of: of["num_digits"])
    places = [of["num_digits"] for of in ordered]
    wrong = [100 * (1 - of["sums"]["mean"]) for of in ordered]
    deviations = [100 * of["sums"]["sd"] for of in ordered]
    axis.errorbar(places, wrong, deviations, fmt="o-", color=colour, capsize=3, markersize=5, label=label)
    independent = [100 * (1 - of["independent"]) for of in ordered]
    axis.plot(places, independent, ":", color=colour)
    for place, value in zip(places, wrong, strict=True):
        axis.annotate(
            f"{value:.1f}", (place, value), xytext=(6, -10), textcoords="offset points", fontsize=8, color=colour
        )
