"""The figures of an evaluation: confusion matrices and the most confident mistakes."""

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from digitsum.data.splits import Split
from digitsum.evaluation.metrics import ConfusionTable
from digitsum.evaluation.predict import Predictions
from digitsum.figures import draw_sheet, new_axis, save_png

MISTAKES_A_ROW = 8


def draw_confusion(path: Path, table: ConfusionTable) -> None:
    """Draw a confusion matrix as a PNG: right answers blue, mistakes orange, each on its own scale.

    On one scale the mistakes, some 50 in 10,000, would all be white.
    """
    counts, classes = table.counts, len(table.counts)
    right, total = int(np.trace(counts)), int(counts.sum())
    mistakes = counts * (1 - np.eye(classes, dtype=int))

    figure = Figure(figsize=(1.7 + 0.45 * classes, 1.1 + 0.45 * classes))
    axis = new_axis(figure, left=0.7, right=1, bottom=0.6, top=0.5)
    axis.imshow(np.ma.masked_where(mistakes == 0, mistakes), cmap="Oranges", vmin=0, vmax=2 * max(1, mistakes.max()))
    axis.imshow(np.ma.masked_where(~np.eye(classes, dtype=bool), counts), cmap="Blues", vmin=0, vmax=2 * counts.max())
    for actual, predicted in zip(*np.nonzero(counts), strict=True):
        axis.text(predicted, actual, counts[actual, predicted], ha="center", va="center", fontsize=9)

    axis.set_title(f"{table.answer}: {right / total:.2%} of {total:,} right, {total - right:,} wrong")
    axis.set_xlabel(f"predicted {table.answer}")
    axis.set_ylabel(f"true {table.answer}")
    axis.set_xticks(range(classes))
    axis.set_yticks(range(classes))
    axis.text(classes - 0.4, -0.9, "recall")
    for c, occurrences in enumerate(counts.sum(axis=1)):
        axis.text(classes - 0.4, c, f"{counts[c, c] / occurrences:.1%}" if occurrences else "none", va="center")
    save_png(path, figure)


def draw_mistakes(path: Path, predictions: Predictions, split: Split, shown: int) -> None:
    """Draw the `shown` mistakes that the network was most sure of, one an image, as a PNG."""
    digit_sure, digit_said = predictions.digit_probabilities.max(dim=1)
    sum_sure, sum_said = predictions.sum_probabilities.max(dim=1)
    wrong_digit, wrong_sum = digit_said != predictions.digits, sum_said != predictions.sums
    sure = (digit_sure * wrong_digit).maximum(sum_sure * wrong_sum)  # of the wrong answer; 0 where none is

    worst: dict[int, int] = {}  # image -> its worst pair, the most confident first
    for pair in sure.argsort(descending=True, stable=True).tolist():
        if sure[pair] == 0 or len(worst) == shown:
            break
        worst.setdefault(int(predictions.image_index[pair]), pair)

    rows = max(1, math.ceil(len(worst) / MISTAKES_A_ROW))
    figure = Figure(figsize=(14, 0.7 + 2.05 * rows))
    wrong_images = len(predictions.image_index[wrong_digit | wrong_sum].unique())
    axis = new_axis(figure, left=0.1, right=0.1, bottom=0.1, top=0.6)
    axis.set_title(
        f"The most confident mistakes: {len(worst)} of {wrong_images} images with one\n"
        "above: image + number = sum; below: the digit and the sum answered, and how sure"
    )
    captions = []
    for pair in worst.values():
        digit, number, total = (int(part[pair]) for part in (predictions.digits, predictions.numbers, predictions.sums))
        captions.append(
            f"{digit} + {number} = {total}\nsaid {int(digit_said[pair])}, sum {int(sum_said[pair])}: "
            f"{float(sure[pair]):.0%}"
        )
    draw_sheet(axis, [split.images[image].numpy() for image in worst], captions, rows, MISTAKES_A_ROW)
    save_png(path, figure)
