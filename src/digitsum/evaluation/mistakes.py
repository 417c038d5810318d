"""The figure of the most confident mistakes."""

import math
from pathlib import Path

from digitsum.data.splits import Split
from digitsum.evaluation.predict import Predictions
from digitsum.plotting.canvas import draw_sheet, new_axis, new_figure, save_png

MISTAKES_A_ROW = 8


def draw_mistakes(path: Path, predictions: Predictions, split: Split, shown: int) -> None:
    """Draw the `shown` most confident mistakes, one an image, as a PNG."""
    digit_confidence, digit_predicted = predictions.digit_probabilities.max(dim=1)
    sum_confidence, sum_predicted = predictions.sum_probabilities.max(dim=1)
    wrong_digit, wrong_sum = digit_predicted != predictions.digits, sum_predicted != predictions.sums
    # In the wrong answer; 0 where both are correct.
    confidence = (digit_confidence * wrong_digit).maximum(sum_confidence * wrong_sum)

    worst: dict[int, int] = {}  # image -> its worst pair, the most confident first
    for pair in confidence.argsort(descending=True, stable=True).tolist():
        if confidence[pair] == 0 or len(worst) == shown:
            break
        worst.setdefault(int(predictions.image_index[pair]), pair)

    rows = max(1, math.ceil(len(worst) / MISTAKES_A_ROW))
    figure = new_figure(14, 0.7 + 2.05 * rows)
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
            f"{digit} + {number} = {total}\nsaid {int(digit_predicted[pair])}, sum {int(sum_predicted[pair])}: "
            f"{float(confidence[pair]):.0%}"
        )
    draw_sheet(axis, [split.images[image].numpy() for image in worst], captions, rows, MISTAKES_A_ROW)
    save_png(path, figure)
