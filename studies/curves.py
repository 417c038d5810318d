"""Stage curves: what the log of a baseline says of each epoch, against what training it here gives.

One figure, and in numbers how close the two are. If a result has the confusion of the sum, a figure of it as well.
"""

import csv
import json
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from digitsum.core.files import write_json
from digitsum.core.runner import Stage
from digitsum.evaluation.confusion import draw_confusion
from digitsum.plotting.canvas import BLUE, ORANGE, new_axis, new_figure, save_png

Curve = list[float]  # a value for each epoch, the first first
Curves = dict[str, dict[str, Curve]]  # by score, then by split
COMPARED = {  # what a log may have of each epoch, and what it is called in the figure
    "digit_loss": "loss of the digit, nats",
    "sum_loss": "loss of the sum, nats",
    "digit_accuracy": "accuracy of the digit",
    "sum_accuracy": "accuracy of the sum",
}
FLOORS = {"digit_loss": 1.4612, "sum_loss": 2.0311}  # of a cross-entropy that is fed with probabilities
COUNTS = {1: "one seed", 2: "two seeds", 3: "three seeds"}


def main(stage: Stage, logged: str, repeated: str) -> None:
    """Read log.csv and two results; write curves.json and the figures.

    Args:
        stage: the stage, whose folder is that of the baseline.
        logged: the result whose seed 0 was trained for as many epochs as the log has.
        repeated: the result whose seeds are drawn as thin lines.
    """
    log, run = read_log(Path("log.csv")), read_seeds(logged)["0"]
    ours, others = run["curves"], [other["curves"] for other in read_seeds(repeated).values()]
    compared = [(score, split) for score, of in log.items() if score in COMPARED for split in of]
    draw(Path("plots/curves.png"), compared, log, ours, others)
    closeness: dict[str, Any] = {}
    for score, split in compared:
        closeness[score] = compare(log[score][split], ours[score][split])
        if all(len(other[score][split]) == len(ours[score][split]) for other in others):
            closeness[score]["seeds"] = [round(mean(other[score][split][-3:]), 4) for other in others]
    if "last_batch" in run:
        closeness["last_batch"] = last_batch(log, run["last_batch"])
    if "confusion_sum" in run:
        counts = np.array(run["confusion_sum"])
        closeness["sums_never_predicted"] = int((counts.sum(axis=0) == 0).sum())
        draw_confusion(Path("plots/confusion_sum.png"), "sum", counts)
    write_json(Path("curves.json"), closeness)


def read_log(path: Path) -> Curves:
    """Return the curves in a CSV file with the columns epoch, score, split, value."""
    curves: Curves = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            curves.setdefault(row["score"], {}).setdefault(row["split"], []).append(float(row["value"]))
    return curves


def read_seeds(variant: str) -> dict[str, dict[str, Any]]:
    """Return what a trial has measured, by seed."""
    seeds: dict[str, dict[str, Any]] = json.loads(Path(f"results/{variant}.json").read_text())["seeds"]
    return seeds


def compare(theirs: Curve, ours: Curve) -> dict[str, Any]:
    """Return both at some epochs and in the mean of the last three, and their largest difference after epoch 1."""
    epochs = {f"epoch {epoch}": slice(epoch - 1, epoch) for epoch in (1, 10, 20, len(theirs))}
    parts: dict[str, slice] = epochs | {"last three": slice(-3, None)}
    values = {name: {"log": mean(theirs[part]), "ours": mean(ours[part])} for name, part in parts.items()}
    rounded = {name: {key: round(value, 4) for key, value in pair.items()} for name, pair in values.items()}
    differences = [abs(one - other) for one, other in zip(theirs, ours, strict=True)]
    return {**rounded, "largest difference after epoch 1": round(max(differences[1:]), 4)}


def last_batch(log: Curves, ours: dict[str, int]) -> dict[str, Any]:
    """Return what the log counts as correct, and what is correct in the last batch with our network."""
    result: dict[str, Any] = {"images": ours["images"]}
    for answer in ("digits", "sums"):
        counted = log[f"{answer}_counted"]["validation"]
        result[f"{answer}_correct"] = {
            "log, mean of the last ten": mean(counted[-10:]),
            "ours": ours[f"{answer}_correct"],
        }
    return result


def draw(path: Path, compared: list[tuple[str, str]], log: Curves, ours: Curves, others: list[Curves]) -> None:
    """Draw each curve of the log over ours, one below the other, and the floors under the losses."""
    figure = new_figure(8, 3 * len(compared))
    for place, (score, split) in enumerate(compared):
        below = 3 * (len(compared) - 1 - place)
        axis = new_axis(figure, left=0.8, right=0.2, bottom=0.6 + below, top=0.4 + 3 * place)
        for other in others:
            curve = other[score][split]
            axis.plot(range(1, len(curve) + 1), curve, color=BLUE, linewidth=0.8, alpha=0.6)
        epochs = range(1, len(log[score][split]) + 1)
        axis.plot(epochs, ours[score][split], color=BLUE, label=f"trained here (thin: {COUNTS[len(others)]})")
        axis.plot(epochs, log[score][split], color=ORANGE, label="its log")
        if score in FLOORS:
            axis.axhline(FLOORS[score], color="grey", linestyle=":", label="floor of a cross-entropy after a softmax")
        axis.set_title(f"{COMPARED[score]}, {'test' if split == 'validation' else split}", fontsize=10)
        axis.set_xlabel("epoch")
        axis.legend(fontsize=8)
    save_png(path, figure)
