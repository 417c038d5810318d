"""The figures of a report: how the confusion matrices changed, and which images did."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digitsum.plotting.canvas import draw_sheet, label_classes, new_axis, new_figure, save_png
from digitsum.report.compare import Comparison, correct
from digitsum.report.revisions import RecordedPredictions

IMAGES_A_ROW, ROWS = 10, 3  # of each kind on the sheet


def draw_confusion_change(path: Path, comparison: Comparison, answer: str) -> None:
    """Draw, as a PNG, which cells of a confusion matrix hold more pairs in head than in base, and which fewer."""
    change = comparison.head.confusion[answer] - comparison.base.confusion[answer]
    classes, most = len(change), max(1, np.abs(change).max())
    figure = new_figure(1.2 + 0.45 * classes, 1.3 + 0.45 * classes)
    axis = new_axis(figure, left=0.7, right=0.2, bottom=0.6, top=0.6)
    axis.imshow(change, cmap="PuOr_r", vmin=-1.5 * most, vmax=1.5 * most)
    for actual, predicted in zip(*np.nonzero(change), strict=True):
        axis.text(predicted, actual, f"{change[actual, predicted]:+}", ha="center", va="center", fontsize=8)
    axis.set_title(f"{answer}: predictions of head minus predictions of base", fontsize=11)
    label_classes(axis, answer, classes)
    save_png(path, figure)


def draw_changed_images(path: Path, comparison: Comparison, images: NDArray[np.uint8]) -> None:
    """Draw the test images, uint8 [M, 28, 28], that only one model has correct, with both predictions."""
    base, head = comparison.base.predictions, comparison.head.predictions
    if base is None or head is None:
        raise ValueError("both runs need their predictions")
    kinds = {
        "correct with base, wrong with head": comparison.lost,
        "wrong with base, correct with head": comparison.won,
    }
    rows = [min(ROWS, -(-len(places) // IMAGES_A_ROW)) or 1 for places in kinds.values()]
    heights = [0.9 + 1.65 * count for count in rows]
    figure = new_figure(14, sum(heights))
    for below, above, count, (title, places) in zip((heights[1], 0), (0, heights[0]), rows, kinds.items(), strict=True):
        axis = new_axis(figure, left=0.1, right=0.1, bottom=below + 0.1, top=above + 0.8)
        shown = places[: count * IMAGES_A_ROW]
        of = f", {len(shown)} of them" if len(shown) < len(places) else ""
        axis.set_title(
            f"{len(places)} images {title}{of}\nfirst line: digit + number, and what base predicted: digit, sum; "
            "second line: what head predicted",
            fontsize=12,
        )
        captions = [f"{_caption(base, place)}\n{_caption(head, place)}" for place in shown]
        draw_sheet(axis, [images[place] for place in shown], captions, count, IMAGES_A_ROW)
    save_png(path, figure)


def _caption(predictions: RecordedPredictions, image: int) -> str:
    """Return digit, number and predictions of an image: of its first wrong pair, or of the first if none is wrong."""
    pairs = np.flatnonzero(predictions.image == image)
    pair = pairs[correct(predictions, "joint")[pairs].argmin()]
    digit, number = predictions.actual["digit"][pair], predictions.number[pair]
    return f"{digit} + {number}: {predictions.predicted['digit'][pair]}, {predictions.predicted['sum'][pair]}"
