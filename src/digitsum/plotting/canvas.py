"""What all figures share: colours, and PNG files whose bytes depend on their content only."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from digitsum.core.files import write_bytes

# Okabe & Ito's palette, told apart with every common form of colour blindness.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of so many inches, in matplotlib's default style whatever a matplotlibrc says."""
    matplotlib.rcdefaults()
    return Figure(figsize=(width, height))


def new_axis(figure: Figure, left: float, right: float, bottom: float, top: float) -> Axes:
    """Add an axis to `figure` with margins of so many inches. matplotlib would take seconds to find them."""
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))


def label_classes(axis: Axes, answer: str, classes: int) -> None:
    """Label the axes of a confusion matrix of `answer`, digit or sum."""
    axis.set_xlabel(f"predicted {answer}")
    axis.set_ylabel(f"true {answer}")
    axis.set_xticks(range(classes))
    axis.set_yticks(range(classes))


def draw_sheet(axis: Axes, images: Sequence[NDArray[Any]], captions: Sequence[str], rows: int, columns: int) -> None:
    """Draw uint8 images [28, 28] in rows on one axis, each under its caption, which may have several lines."""
    width, height = 36, 32 + 5 * max((caption.count("\n") + 1 for caption in captions), default=1)
    sheet = np.zeros((rows * height, columns * width), dtype=np.uint8)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(place, columns)
        bottom, left = (row + 1) * height, column * width + 4
        sheet[bottom - 28 : bottom, left : left + 28] = image
        axis.text(left + 13.5, bottom - 29, caption, ha="center", va="bottom", fontsize=11)
    axis.imshow(sheet, cmap="gray_r", vmin=0, vmax=255)
    axis.axis("off")


def save_png(path: Path, figure: Figure) -> None:
    """Write `figure` to `path` at 100 dots an inch, atomically, without matplotlib's version in the file."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=100, metadata={"Software": None})
    write_bytes(path, image.getvalue())
