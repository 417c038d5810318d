"""The figures of a report: how the confusion matrices changed, and which images did."""

from pathlib import Path

import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from numpy.typing import NDArray

from digitsum.plotting.canvas import draw_sheet, label_classes, new_axis, new_figure, save_png
from digitsum.report.compare import Comparison, correct, same_pairs
from digitsum.report.revisions import RecordedPredictions

IMAGES_A_ROW, ROWS = 8, 3  # of each kind on the sheet
# The same colours mean the same in every report: steps in percent of the pairs of the true class.
STEPS = [-100, -10, -2, -0.5, 0.5, 2, 10, 100]
COLOURS = ["#B35900", "#EE9B3E", "#FBD9B0", "#FFFFFF", "#C9E1F2", "#6AAED6", "#1F6CB0"]  # orange: worse, blue: better


def draw_confusion_change(path: Path, comparison: Comparison, answer: str) -> None:
    """Draw, as a PNG, which cells of a confusion matrix hold more pairs in head than in base, and which fewer.

    Orange is worse: fewer on the diagonal, more elsewhere.
    """
    base, head = comparison.base.confusion[answer], comparison.head.confusion[answer]
    classes, change = len(head), head - base
    share = 100 * change / np.maximum(1, head.sum(axis=1, keepdims=True))
    better = np.where(np.eye(classes, dtype=bool), share, -share)
    figure = new_figure(2.4 + 0.5 * classes, 1.5 + 0.5 * classes)
    axis = new_axis(figure, left=0.7, right=1.7, bottom=0.6, top=0.9)
    image = axis.imshow(better.clip(-99.9, 99.9), cmap=ListedColormap(COLOURS), norm=BoundaryNorm(STEPS, len(COLOURS)))
    for actual, predicted in zip(*np.nonzero(change), strict=True):
        dark = abs(better[actual, predicted]) > STEPS[-2]
        text = f"{change[actual, predicted]:+}"
        axis.text(predicted, actual, text, ha="center", va="center", fontsize=10, color="white" if dark else "black")
    title = f"{answer}: pairs in head minus pairs in base\nwhite: less than {STEPS[4]} % of the true class"
    axis.set_title(title, fontsize=11)
    label_classes(axis, answer, classes)
    axis.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="#DDDDDD", linewidth=0.6)
    axis.tick_params(which="minor", length=0)
    width, height = figure.get_size_inches()
    legend = figure.add_axes((1 - 1.5 / width, 0.6 / height, 0.2 / width, 1 - 1.5 / height))
    bar = figure.colorbar(image, cax=legend, spacing="uniform", ticks=STEPS)
    bar.set_ticklabels([f"{step:g} %".lstrip("-") for step in STEPS])
    bar.set_label("of the true class: worse ↓   better ↑")
    save_png(path, figure)


def draw_changed_images(path: Path, comparison: Comparison, images: NDArray[np.uint8]) -> None:
    """Draw the test images, uint8 [M, 28, 28], that only one model has correct, with both predictions."""
    base, head = comparison.base.predictions, comparison.head.predictions
    if base is None or head is None:
        raise ValueError("both runs need their predictions")
    kinds = {"lost: correct with base, wrong with head": comparison.lost}
    kinds["won: wrong with base, correct with head"] = comparison.won
    rows = [min(ROWS, -(-len(places) // IMAGES_A_ROW)) or 1 for places in kinds.values()]
    heights = [0.7 + 2.1 * count for count in rows]
    figure = new_figure(14, sum(heights))
    for below, above, count, (title, places) in zip((heights[1], 0), (0, heights[0]), rows, kinds.items(), strict=True):
        axis = new_axis(figure, left=0.1, right=0.1, bottom=below + 0.1, top=above + 0.5)
        shown = places[: count * IMAGES_A_ROW]
        of = f", {len(shown)} of them shown" if len(shown) < len(places) else ""
        axis.set_title(f"{len(places)} images {title}{of}", fontsize=13)
        captions = [_caption(base, head, place) for place in shown]
        draw_sheet(axis, [images[place] for place in shown], captions, count, IMAGES_A_ROW)
    save_png(path, figure)


def _caption(base: RecordedPredictions, head: RecordedPredictions, image: int) -> str:
    """Return what an image and its number are, and what both models predict: for a pair that only one has correct."""
    pairs = [_first_wrong(run, image) for run in (base, head)]
    if same_pairs(base, head):
        pairs = [pairs[0] if correct(base, "joint")[pairs[0]] < correct(head, "joint")[pairs[0]] else pairs[1]] * 2
    lines: list[str] = []
    for name, run, pair in zip(("base", "head"), (base, head), pairs, strict=True):
        digit, number = run.actual["digit"][pair], run.number[pair]
        if not lines or pairs[0] != pairs[1]:
            lines.append(f"{digit} + {number} = {digit + number}")
        lines.append(f"{name}: {run.predicted['digit'][pair]}, sum {run.predicted['sum'][pair]}")
    return "\n".join(lines)


def _first_wrong(predictions: RecordedPredictions, image: int) -> int:
    """Return the first wrong pair of an image, or its first pair if none is wrong."""
    pairs = np.flatnonzero(predictions.image == image)
    return int(pairs[correct(predictions, "joint")[pairs].argmin()])
