"""The figure of the paired data: a sheet of samples, and how digits, numbers and sums are distributed."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from digitsum.data.splits import Split
from digitsum.plotting.canvas import BLUE, GREEN, ORANGE, draw_sheet, new_axis, new_figure, save_png

SHEET_ROWS, SHEET_COLUMNS = 5, 8


def draw_pairs(path: Path, splits: dict[str, Split]) -> None:
    """Draw the first pairs of the training split, and the distributions of all splits, as a PNG."""
    figure = new_figure(15, 6.4)
    _draw_samples(new_axis(figure, left=0.1, right=6, bottom=0.1, top=0.4), splits["train"])
    _draw_distributions(figure, splits)
    save_png(path, figure)


def _draw_samples(axis: Axes, split: Split) -> None:
    axis.set_title("image + number = sum: the first pairs of the training split")
    images, digits, numbers = split[: SHEET_ROWS * SHEET_COLUMNS]
    captions = [f"{digit} + {number} = {digit + number}" for digit, number in zip(digits, numbers, strict=True)]
    draw_sheet(axis, list(images.numpy()), captions, SHEET_ROWS, SHEET_COLUMNS)


def _draw_distributions(figure: Figure, splits: dict[str, Split]) -> None:
    for row, (quantity, classes) in enumerate({"digit": 10, "number": 10, "sum": 19}.items()):
        axis = new_axis(figure, left=9.8, right=0.1, bottom=0.5 + 2 * (2 - row), top=0.4 + 2 * row)
        for place, ((name, split), colour) in enumerate(zip(splits.items(), [BLUE, ORANGE, GREEN], strict=True)):
            values = {"digit": split.digits[split.image_index], "number": split.numbers, "sum": split.sums}[quantity]
            share = torch.bincount(values, minlength=classes).numpy() / len(split)
            label = f"{name} {len(split):,}"
            positions = np.arange(classes) + (place - 1) * 0.27
            # Lines as broad as bars, in points: one object, where bar() would make one for each class.
            axis.vlines(positions, 0, 100 * share, colour, linewidth=95 / classes, label=label)
        axis.set_ylim(0)
        axis.set_xticks(range(classes))
        axis.set_xlabel(quantity)
        axis.set_ylabel("share of pairs [%]")
        if row == 0:
            axis.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
