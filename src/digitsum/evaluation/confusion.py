"""Confusion matrices: counts, table, figure."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from digitsum.core.files import write_csv
from digitsum.evaluation.metrics import labels_and_predictions
from digitsum.evaluation.predict import Predictions
from digitsum.plotting.canvas import new_axis, new_figure, save_png


@dataclass(frozen=True)
class ConfusionTable:
    """Counts int64 [C, C] of actual (rows) against predicted (columns) classes, for `answer`: digit or sum."""

    answer: str
    counts: NDArray[np.int64]


def confusion_table(predictions: Predictions, answer: str) -> ConfusionTable:
    """Count how often each class was predicted for each class, for `answer` "digit" or "sum"."""
    actual, predicted, classes = labels_and_predictions(predictions)[answer]
    return ConfusionTable(answer, confusion_matrix(actual, predicted, labels=range(classes)))


def write_confusion(path: Path, table: ConfusionTable) -> None:
    """Write one row a cell, zeros too: 100 rows for digits, 361 for sums, however many images were scored."""
    cells = [
        (actual, predicted, int(count))
        for actual, row in enumerate(table.counts)
        for predicted, count in enumerate(row)
    ]
    write_csv(path, ["actual", "predicted", "count"], cells)


def draw_confusion(path: Path, table: ConfusionTable) -> None:
    """Draw a confusion matrix as a PNG: correct predictions blue, mistakes orange, each on its own scale.

    On one scale the mistakes, about 50 in 10,000, would all be white.
    """
    counts, classes = table.counts, len(table.counts)
    correct, total = int(np.trace(counts)), int(counts.sum())
    mistakes = counts * (1 - np.eye(classes, dtype=int))

    figure = new_figure(1.7 + 0.45 * classes, 1.1 + 0.45 * classes)
    axis = new_axis(figure, left=0.7, right=1, bottom=0.6, top=0.5)
    axis.imshow(np.ma.masked_where(mistakes == 0, mistakes), cmap="Oranges", vmin=0, vmax=2 * max(1, mistakes.max()))
    axis.imshow(np.ma.masked_where(~np.eye(classes, dtype=bool), counts), cmap="Blues", vmin=0, vmax=2 * counts.max())
    for actual, predicted in zip(*np.nonzero(counts), strict=True):
        axis.text(predicted, actual, counts[actual, predicted], ha="center", va="center", fontsize=9)

    axis.set_title(f"{table.answer}: {correct / total:.2%} of {total:,} right, {total - correct:,} wrong")
    axis.set_xlabel(f"predicted {table.answer}")
    axis.set_ylabel(f"true {table.answer}")
    axis.set_xticks(range(classes))
    axis.set_yticks(range(classes))
    axis.text(classes - 0.4, -0.9, "recall")
    for c, occurrences in enumerate(counts.sum(axis=1)):
        axis.text(classes - 0.4, c, f"{counts[c, c] / occurrences:.1%}" if occurrences else "none", va="center")
    save_png(path, figure)
