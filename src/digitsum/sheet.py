"""A sheet of pictures, each beside what the network saw of it."""

import contextlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from digitsum.core.errors import DigitsumError, printable
from digitsum.core.files import write_bytes
from digitsum.picture import read_picture, work_pixels

WIDTH, HEIGHT, SIDE = 232, 160, 112  # of a cell, and of a picture in it, in pixels
COLUMNS = 6
MOST = 600  # cells: more would be a picture that few programs open
MADE_BY = "digitsum"  # in the PNG's metadata
CAPTION = 42  # characters that a line of a cell has room for


class Cell(NamedTuple):
    """What is shown of a picture: its thumbnail, the image that the network saw, uint8 [28, 28], and two lines."""

    thumbnail: Image.Image
    seen: NDArray[np.uint8] | None
    name: str
    answer: str


def thumbnail(picture: Image.Image) -> Image.Image:
    """Return a picture scaled to SIDE, turned, transparent parts filled, as `candidates` gets it."""
    small = Image.fromarray(np.asarray(np.rint(work_pixels(picture)), np.uint8))
    scale = SIDE / max(small.size)
    return small.resize([max(1, round(side * scale)) for side in small.size])


def refuse_other_files(path: Path) -> None:
    """Raise DigitsumError unless a sheet can be written to `path` that replaces nothing but a sheet."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.suffix != ".png" or not os.access(folder, os.W_OK) or not folder.is_dir():
        raise DigitsumError(f"--show {path}: name a file that ends in .png, in a folder that can be written to")
    if path.exists():
        with contextlib.suppress(DigitsumError, OSError):
            if path.is_file() and read_picture(path).info.get("Software") == MADE_BY:
                return
        raise DigitsumError(f"--show {path} would replace a file that is no sheet; name another one")


def write_sheet(path: Path, cells: Sequence[Cell]) -> None:
    """Write a PNG with all cells."""
    rows = max(1, -(-len(cells) // COLUMNS))
    sheet = Image.new("RGB", (min(len(cells), COLUMNS) * WIDTH or WIDTH, rows * HEIGHT), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for place, (small, seen, *lines) in enumerate(cells):
        left, top = place % COLUMNS * WIDTH, place // COLUMNS * HEIGHT
        sheet.paste(small, (left + (SIDE - small.width) // 2, top + 4))
        if seen is not None:
            sheet.paste(
                Image.fromarray(seen).resize((SIDE, SIDE), Image.Resampling.NEAREST), (left + SIDE + 4, top + 4)
            )
        caption = "\n".join(printable(line, CAPTION) for line in lines)
        draw.text((left + 2, top + SIDE + 8), caption, fill="black", font=font)
    png = io.BytesIO()
    about = PngInfo()
    about.add_text("Software", MADE_BY)
    sheet.save(png, "PNG", pnginfo=about)
    write_bytes(path, png.getvalue())
