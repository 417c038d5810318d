"""Theirs against ours: what the log of an older solution says of each epoch, and what training it here gives.

Stage `curves` of studies/seed_concat and studies/seed_add: one figure, and in numbers how close the two are.
"""

from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any


from digitsum.core.files import write_json
from digitsum.plotting.canvas import BLUE, ORANGE, new_axis, new_figure, save_png
from digitsum.core.runner import run_stage
from digitsum.data.tensors import load_tensors
from studies.measuring import read_rows

Curve = list[float]  # a value for each epoch, the first first
COMPARED = {  # what a log may have of each epoch, and what it is called in the figure
    "digit_loss": "loss of the digit, nats",
    "sum_loss": "loss of the sum, nats",
    "digit_accuracy": "accuracy of the digit",
    "sum_accuracy": "accuracy of the sum",
}
FLOORS = {"digit_loss": 1.4612, "sum_loss": 2.0311}  # of a cross-entropy that is fed with probabilities
COUNTS = {1: "one seed", 2: "two seeds", 3: "three seeds"}
LAST_BATCH = 10_000 % 128  # images of the test split in the last of the batches of 128


def main() -> None:
    """Read log.csv and our curves; write plots/curves.png and metrics/curves.json."""
    theirs = read_curves(Path("log.csv"))
    ours = read_curves(Path("plots/training.csv"))
    others = [read_curves(path) for path in sorted(Path("trials").glob("as_it_was-*.csv"))]
    compared = [key for key in theirs if key[0] in COMPARED]
    draw(Path("plots/curves.png"), compared, theirs, ours, others)
    closeness = {score: compare(theirs[score, split], ours[score, split]) for score, split in compared}
    for score, split in compared:
        if all(len(other[score, split]) == len(ours[score, split]) for other in others):
            closeness[score]["seeds"] = [round(mean(other[score, split][-3:]), 4) for other in others]
    if ("digits_counted", "validation") in theirs:
        closeness["last_batch"] = last_batch(theirs)
    write_json(Path("metrics/curves.json"), closeness)


def read_curves(path: Path) -> dict[tuple[str, str], Curve]:
    """Return the curves in a CSV file, by score and split."""
    curves: dict[tuple[str, str], Curve] = defaultdict(list)
    for row in read_rows(path):
        curves[row["score"], row["split"]].append(float(row["value"]))
    return dict(curves)


def compare(theirs: Curve, ours: Curve) -> dict[str, Any]:
    """Return both at some epochs and the mean of the last three, and how far apart they are at most but for the first."""
    epochs = {f"epoch {epoch}": slice(epoch - 1, epoch) for epoch in (1, 10, 20, len(theirs))}
    parts: dict[str, slice] = epochs | {"last three": slice(-3, None)}
    values = {name: {"log": mean(theirs[part]), "ours": mean(ours[part])} for name, part in parts.items()}
    rounded = {name: {key: round(value, 4) for key, value in pair.items()} for name, pair in values.items()}
    differences = [abs(one - other) for one, other in zip(theirs, ours, strict=True)]
    return {**rounded, "largest difference but for epoch 1": round(max(differences[1:]), 4)}


def last_batch(theirs: dict[tuple[str, str], Curve]) -> dict[str, Any]:
    """Return what the log counts as right, and what is right among the images of the last batch with our network."""
    predictions, _ = load_tensors(Path("data/predictions/test.safetensors"))
    result: dict[str, Any] = {"images": LAST_BATCH}
    for answer in ("digit", "sum"):
        right = predictions[f"predicted_{answer}"] == predictions[answer]
        counted = theirs[f"{answer}s_counted", "validation"]
        result[f"{answer}s right"] = {
            "log, mean of the last ten": mean(counted[-10:]),
            "ours": int(right[-LAST_BATCH:].sum()),
        }
    return result


def draw(
    path: Path,
    compared: list[tuple[str, str]],
    theirs: dict[tuple[str, str], Curve],
    ours: dict[tuple[str, str], Curve],
    others: list[dict[tuple[str, str], Curve]],
) -> None:
    """Draw each curve of the log over ours, one below the other, and the floors under the losses."""
    figure = new_figure(8, 3 * len(compared))
    for place, (score, split) in enumerate(compared):
        below = 3 * (len(compared) - 1 - place)
        axis = new_axis(figure, left=0.8, right=0.2, bottom=0.6 + below, top=0.4 + 3 * place)
        for other in others:
            axis.plot(range(1, len(other[score, split]) + 1), other[score, split], color=BLUE, linewidth=0.8, alpha=0.6)
        epochs = range(1, len(theirs[score, split]) + 1)
        axis.plot(epochs, ours[score, split], color=BLUE, label=f"trained here (thin: {COUNTS[len(others)]})")
        axis.plot(epochs, theirs[score, split], color=ORANGE, label="its log")
        if score in FLOORS:
            axis.axhline(FLOORS[score], color="grey", linestyle=":", label="floor of a cross-entropy after a softmax")
        axis.set_title(f"{COMPARED[score]}, {'test' if split == 'validation' else split}", fontsize=10)
        axis.set_xlabel("epoch")
        axis.legend(fontsize=8)
    save_png(path, figure)


if __name__ == "__main__":
    run_stage("curves", main)
