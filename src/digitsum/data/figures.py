"""The figure of the paired data: a sheet of samples, and how digits, numbers and sums are distributed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import SubFigure
from torch import Tensor

from digitsum.data.splits import Split
from digitsum.figures import BLUE, GREEN, ORANGE, draw_sheet, new_figure, save_png

SHEET_ROWS, SHEET_COLUMNS = 5, 8


def draw_pairs(path: Path, splits: dict[str, Split]) -> None:
    """Draw the first pairs of the training split, and the distributions of all splits, as a PNG."""
    figure = new_figure(15, 6)
    places = figure.add_gridspec(1, 2, width_ratios=[3, 2])
    _draw_samples(figure.add_subfigure(places[0]), splits["train"])
    _draw_distributions(figure.add_subfigure(places[1]), splits)
    save_png(path, figure)


def _draw_samples(part: SubFigure, split: Split) -> None:
    part.suptitle("image + number = sum: the first pairs of the training split")
    pairs = split.pairs[: SHEET_ROWS * SHEET_COLUMNS].tolist()
    images = [split.images[image].numpy() for image, _, _ in pairs]
    captions = [f"{int(split.digits[image])} + {number} = {total}" for image, number, total in pairs]
    draw_sheet(part.subplots(), images, captions, SHEET_ROWS, SHEET_COLUMNS)


def _draw_distributions(part: SubFigure, splits: dict[str, Split]) -> None:
    sizes = ", ".join(f"{name} {len(split.pairs):,}" for name, split in splits.items())
    part.suptitle(f"pairs: {sizes}")
    of_pairs: dict[str, Callable[[Split], Tensor]] = {
        "digit": lambda split: split.digits[split.image_index].long(),
        "number": lambda split: split.numbers,
        "sum": lambda split: split.sums,
    }
    axes = part.subplots(3, 1)
    for axis, (quantity, values) in zip(axes, of_pairs.items(), strict=True):
        classes = 19 if quantity == "sum" else 10
        for place, ((name, split), colour) in enumerate(zip(splits.items(), [BLUE, ORANGE, GREEN], strict=True)):
            share = torch.bincount(values(split), minlength=classes).numpy() / len(split.pairs)
            axis.bar(np.arange(classes) + (place - 1) * 0.27, 100 * share, 0.27, color=colour, label=name)
        axis.set_xticks(range(classes))
        axis.set_xlabel(quantity)
        axis.set_ylabel("share of pairs [%]")
    axes[0].set_ylim(0, axes[0].get_ylim()[1] * 1.25)
    axes[0].legend(ncols=3, loc="upper center")
