"""What all figures share: colours, and PNG files whose bytes depend on their content only."""

import io
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from digitsum.artifacts import write_bytes

# Okabe & Ito's palette, told apart with every common form of colour blindness.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"

# A matplotlibrc in the user's home shall not change the figures that are kept in git.
matplotlib.rcdefaults()


def new_figure(width: float, height: float) -> Figure:
    """Give an empty figure of `width` x `height` inches that makes room for its labels."""
    return Figure(figsize=(width, height), layout="constrained")


def save_png(path: Path, figure: Figure) -> None:
    """Write `figure` to `path` at 100 dots an inch, atomically, without matplotlib's version in the file."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=100, metadata={"Software": None})
    write_bytes(path, image.getvalue())
