"""Stage compare: rank the fusions over paired seeds, and draw what they get wrong."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from digitsum.core.files import write_json
from digitsum.core.runner import Stage
from digitsum.plotting.canvas import BLUE, GREEN, ORANGE, new_axis, new_figure, save_png
from digitsum.report.significance import probability_of_beating

Trials = dict[str, dict[int, dict[str, Any]]]
"""What the trials measured, by variant and by seed."""
SCORES = {
    "digit": ("digit", "accuracy"),
    "sum": ("sum", "accuracy"),
    "joint": ("joint", "accuracy"),
    "all_numbers_joint": ("all_numbers", "joint_accuracy"),
}
ALL_IMAGES = 55_000
JUDGED = "all_numbers_joint"  # of 100,000 pairs, so that the drawn numbers do not matter


def main(stage: Stage) -> None:
    """Read results/; write comparison.json and the figures."""
    trials = read_results(Path("results"))
    sums_alone = trials.pop("sums_alone")
    fusions, fewer = split_by_images(trials)
    order = ranking(fusions)
    compared: dict[str, Any] = {name: summary(fusions[name]) for name in order} | {"sums_alone": summary(sums_alone)}
    for name in order:
        others = {other: probability(fusions[name], fusions[other]) for other in order if other != name}
        compared[name]["beats"] = {other: round(value, 2) for other, value in others.items()}
    fewer_labels = {
        name: {str(images): summary(runs) for images, runs in sizes.items()} for name, sizes in fewer.items()
    }
    write_json(Path("comparison.json"), {"fusions": compared, "fewer_labels": fewer_labels})
    draw_accuracies(Path("plots/accuracies.png"), {name: fusions[name] for name in order})
    draw_sums(Path("plots/sums.png"), {name: fusions[name] for name in order})
    draw_fewer(Path("plots/fewer_labels.png"), fewer)


def read_results(folder: Path) -> Trials:
    """Return the results in a study's folder `results`, each run with the number of its weights."""
    trials: Trials = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        trials[path.stem] = {int(seed): run | {"weights": result["weights"]} for seed, run in result["seeds"].items()}
    return trials


def split_by_images(trials: Trials) -> tuple[Trials, dict[str, dict[int, dict[int, dict[str, Any]]]]]:
    """Divide trials into those on all images, by fusion, and those such as shift_100, by fusion and images.

    The latter end with those on all images.
    """
    fusions: Trials = {}
    fewer: dict[str, dict[int, dict[int, dict[str, Any]]]] = {}
    for name, runs in trials.items():
        fusion, _, images = name.rpartition("_")
        if images.isdigit():
            fewer.setdefault(fusion, {})[int(images)] = runs
        else:
            fusions[name] = runs
    return fusions, {name: dict(sorted(of.items())) | {ALL_IMAGES: fusions[name]} for name, of in fewer.items()}


def values(runs: Mapping[int, dict[str, Any]], score: str) -> list[float]:
    """Return a score of all runs, seed by seed."""
    group, key = SCORES[score]
    return [runs[seed][group][key] for seed in sorted(runs)]


def summary(runs: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """Return mean and standard deviation over seeds of each score, and the number of weights."""
    scores = {score: values(runs, score) for score in SCORES}
    spread = {score: {"mean": round(mean(of), 5), "sd": round(stdev(of), 5)} for score, of in scores.items()}
    return {**spread, "seeds": len(runs), "weights": next(iter(runs.values()))["weights"]}


def probability(one: Mapping[int, dict[str, Any]], other: Mapping[int, dict[str, Any]]) -> float:
    """Return the part of the seeds with which `one` is judged better than `other`, see probability_of_beating."""
    scores = [dict(zip(sorted(runs), values(runs, JUDGED), strict=True)) for runs in (one, other)]
    return probability_of_beating(*scores)


def ranking(trials: Trials) -> list[str]:
    """Return the names, the one first that beats the others most often; on a tie, the higher mean."""

    def place(name: str) -> tuple[float, float]:
        beaten = mean(probability(trials[name], trials[other]) for other in trials if other != name)
        return beaten, mean(values(trials[name], JUDGED))

    return sorted(trials, key=place, reverse=True)


def draw_accuracies(path: Path, trials: Trials) -> None:
    """Draw each run's accuracies of digit, sum and both, as a dot each, and their means."""
    figure = new_figure(8, 1.2 + 0.5 * len(trials))
    axis = new_axis(figure, left=1.3, right=0.2, bottom=0.6, top=0.5)
    for shift, score, colour in ((-0.22, "digit", BLUE), (0, "sum", ORANGE), (0.22, JUDGED, GREEN)):
        label = {JUDGED: "both, all numbers"}.get(score, score)
        for place, runs in enumerate(trials.values()):
            percent = [100 * value for value in values(runs, score)]
            axis.plot(percent, [place + shift] * len(percent), "o", color=colour, alpha=0.5, label=label)
            axis.plot([mean(percent)], [place + shift], "|", color=colour, markersize=12, markeredgewidth=2)
            label = "_"
    axis.set_yticks(range(len(trials)), list(trials))
    axis.invert_yaxis()
    axis.set_xlabel("accuracy on the test split, %")
    axis.set_title(
        "A dot a seed, a stroke for the mean; the fusion that beats the others most often on top", fontsize=10
    )
    axis.grid(axis="x", alpha=0.3)
    axis.legend(loc="upper left")
    save_png(path, figure)


def draw_sums(path: Path, trials: Trials) -> None:
    """Draw, for each fusion, what part of the sums is wrong for each digit with each number, over all seeds."""
    columns = 3
    rows = -(-len(trials) // columns)
    wrong = {
        name: 100 * (1 - np.mean([run["sums_correct"] for run in runs.values()], axis=0))
        for name, runs in trials.items()
    }
    most = max(table.max() for table in wrong.values())
    figure = new_figure(3.6 * columns + 0.9, 3.7 * rows)
    for place, (name, table) in enumerate(wrong.items()):
        row, column = divmod(place, columns)
        axis = new_axis(
            figure,
            left=0.6 + 3.6 * column,
            right=0.9 + 3.6 * (columns - 1 - column) + 0.1,
            bottom=0.6 + 3.7 * (rows - 1 - row),
            top=0.4 + 3.7 * row,
        )
        picture = axis.imshow(table, cmap="Oranges", vmin=0, vmax=most)
        axis.set_title(f"{name}: {table.mean():.2f} %", fontsize=10)
        axis.set_xticks(range(10))
        axis.set_yticks(range(10))
        axis.set_xlabel("number")
        axis.set_ylabel("digit")
    bar = new_axis(figure, left=3.6 * columns + 0.1, right=0.6, bottom=0.6, top=0.4)
    figure.colorbar(picture, cax=bar, label="wrong sums, %")
    save_png(path, figure)


def draw_fewer(path: Path, fewer: dict[str, dict[int, dict[int, dict[str, Any]]]]) -> None:
    """Draw what part of the answers is wrong against the number of training images, a dot a run and lines of means."""
    figure = new_figure(8, 4.5)
    axis = new_axis(figure, left=0.8, right=0.2, bottom=0.6, top=0.4)
    for colour, (fusion, sizes) in zip((BLUE, ORANGE), fewer.items(), strict=True):
        for score, style, shown in (("digit", ":", "digit"), (JUDGED, "-", "digit and sum, all numbers")):
            wrong = {images: [100 * (1 - value) for value in values(runs, score)] for images, runs in sizes.items()}
            axis.plot(list(wrong), [mean(of) for of in wrong.values()], style, color=colour, label=f"{fusion}: {shown}")
            for images, of in wrong.items():
                axis.plot([images] * len(of), of, "o", color=colour, alpha=0.4, markersize=4)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(list(sizes), [f"{images:,}" for images in sizes])
    axis.set_yticks([0.5, 1, 2, 5, 10, 20, 50, 100], ["0.5", "1", "2", "5", "10", "20", "50", "100"])
    axis.minorticks_off()
    axis.set_xlabel("training images, each with one number")
    axis.set_ylabel("wrong on the test split, %")
    axis.set_title("Fewer labels, the same number of steps", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    save_png(path, figure)
