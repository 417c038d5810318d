"""A confusion matrix as a table and as a figure."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digitsum.core.files import write_csv
from digitsum.plotting.canvas import label_classes, new_axis, new_figure, save_png


def write_confusion(path: Path, counts: NDArray[np.int64]) -> None:
    """Write one row a cell, zeros too: 100 rows for digits, 361 for sums, however many images were scored."""
    write_csv(path, ["actual", "predicted", "count"], [(*cell, count) for cell, count in np.ndenumerate(counts)])


def draw_confusion(path: Path, answer: str, counts: NDArray[np.int64]) -> None:
    """Draw a confusion matrix as a PNG: correct predictions blue, mistakes orange, each on its own scale.

    On one scale the mistakes, about 50 in 10,000, would all be white.
    """
    classes, correct, total = len(counts), int(np.trace(counts)), int(counts.sum())
    mistakes = counts * (1 - np.eye(classes, dtype=int))

    figure = new_figure(1.7 + 0.45 * classes, 1.1 + 0.45 * classes)
    axis = new_axis(figure, left=0.7, right=1, bottom=0.6, top=0.5)
    axis.imshow(np.ma.masked_where(mistakes == 0, mistakes), cmap="Oranges", vmin=0, vmax=2 * max(1, mistakes.max()))
    axis.imshow(np.ma.masked_where(~np.eye(classes, dtype=bool), counts), cmap="Blues", vmin=0, vmax=2 * counts.max())
    for actual, predicted in zip(*np.nonzero(counts), strict=True):
        axis.text(predicted, actual, counts[actual, predicted], ha="center", va="center", fontsize=9)

    axis.set_title(f"{answer}: {correct / total:.2%} of {total:,} right, {total - correct:,} wrong")
    label_classes(axis, answer, classes)
    axis.text(classes - 0.4, -0.9, "recall")
    for c, occurrences in enumerate(counts.sum(axis=1)):
        axis.text(classes - 0.4, c, f"{counts[c, c] / occurrences:.1%}" if occurrences else "none", va="center")
    save_png(path, figure)
