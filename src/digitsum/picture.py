"""From any picture of a digit to an image as in MNIST: uint8 [28, 28], light ink on black, centred.

The steps are in the order of the functions. export/web/picture.js has the same ones, and a test compares both.
"""

import contextlib
import dataclasses
import io
import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from scipy import ndimage

from digitsum.core.errors import DigitsumError

Plane = NDArray[np.float64]
Box = tuple[int, int, int, int]  # first row, last row + 1, first column, last column + 1

SIDE = 28
BOX = 20  # pixels of the digit's longer side, as in MNIST
WORK = 256  # pixels of the longer side of a picture while its digit is looked for
MOST_PIXELS = 100_000_000
STUBS = {"MPEG", "HDF5", "BUFR", "GRIB", "WMF"}  # formats that Pillow knows and cannot decode
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WINDOW = 0.28  # of the shorter side: wider spots are paper in another light, not strokes
FAINT = 0.3  # of the strongest ink: less is no part of a stroke
EDGE = 1.25  # of pixels at the edge of a stroke: blurred strokes are too wide
THIN = 0.11  # of the digit's longer side: MNIST's strokes are seldom thinner
RIM = 0.1  # of full ink: MNIST's BOX pixels hold all that is darker, the grey edge too


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What a picture may show.

    image: uint8 [28, 28], as in MNIST.
    contrast: between ink and paper, in grey levels. signal: the same, in multiples of the paper's noise.
    enclosed: whether it lies within the ink of another candidate, as the hole of a 0 does.
    """

    image: NDArray[np.uint8]
    contrast: float
    signal: float
    enclosed: bool = False


def pictures_in(names: Sequence[str]) -> list[Path | None]:
    """Return the files that are named, and for a folder the pictures in it by name; None stands for "-".

    Raises DigitsumError if a folder has no pictures.
    """
    Image.init()  # or only the most common formats are known
    readable = {ending for ending, kind in Image.EXTENSION.items() if kind in {*Image.OPEN, "MPO"} - STUBS}
    found: list[Path | None] = []
    for name in names:
        path = Path(name)
        if name == "-":
            found.append(None)
        elif name and path.is_dir():
            files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in readable and file.is_file()]
            files = [file for file in files if not file.name.startswith(".")]
            if not files:
                raise DigitsumError(f"{path} has no pictures: no file there ends as pictures do, such as .png or .jpg")
            found += files
        else:
            found.append(path)
    return found


def read_picture(source: Path | bytes | None) -> Image.Image:
    """Return a picture of any format that Pillow reads, from a file, bytes, or None for standard input.

    Of an animation, it is the first frame.

    Raises DigitsumError if it cannot be read, is no picture, damaged, or has more than MOST_PIXELS.
    """
    name = source if isinstance(source, Path) else "standard input" if source is None else "the picture"
    try:
        content = source.read_bytes() if isinstance(source, Path) else source
        file = io.BytesIO(sys.stdin.buffer.read() if content is None else content)
    except OSError as error:
        raise DigitsumError(f"{name} cannot be read: {error.strerror or error}; check its path and rights") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many pixels, and of odd metadata
            picture = Image.open(file)
            if picture.width * picture.height > MOST_PIXELS:
                size = f"{picture.width} x {picture.height}"
                raise DigitsumError(f"{name} has {size} pixels, at most {MOST_PIXELS:,} are read; scale it down")
            picture.draft("RGB", (2 * WORK, 2 * WORK))  # decodes a large JPEG at an eighth of its size
            picture.load()
    except (DigitsumError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise DigitsumError(f"{name} has too many pixels, at most {MOST_PIXELS:,} are read; scale it down") from None
    except UnidentifiedImageError:
        kind = "empty" if not file.getvalue() else "not a picture that Pillow can read"
        raise DigitsumError(f"{name} is {kind}; save it as PNG or JPEG") from None
    except Exception as error:  # what a damaged file leads Pillow's decoders to
        raise DigitsumError(f"{name} cannot be decoded: {error}; save it again as PNG or JPEG") from None
    return picture


def candidates(picture: Image.Image) -> list[Candidate]:
    """Return what the picture may show: with dark ink on light paper, and with light ink on dark paper.

    A picture of 28x28 pixels is taken as it is.
    """
    pixels = work_pixels(picture)
    if pixels.shape[:2] == (SIDE, SIDE):
        grey = np.rint(to_grey(pixels)).astype(np.uint8)
        contrast = float(np.ptp(grey))
        return [Candidate(image, contrast, math.inf) for image in (255 - grey, grey)]
    smoothed = smooth(pixels)
    planes = np.stack([*np.moveaxis(smoothed, 2, 0), to_grey(smoothed)])
    found = [digit for side in (planes, 255 - planes) if (digit := find_digit(*best_ink(side)))]
    strongest = max((candidate.contrast for candidate, _ in found), default=0)
    found = [(candidate, box) for candidate, box in found if candidate.contrast >= strongest / 3]  # the rest is noise
    return [
        dataclasses.replace(candidate, enclosed=any(other != box and encloses(other, box) for _, other in found))
        for candidate, box in found
    ]


def encloses(outer: Box, inner: Box) -> bool:
    """Return whether a box lies within another one."""
    return outer[0] <= inner[0] and inner[1] <= outer[1] and outer[2] <= inner[2] and inner[3] <= outer[3]


# ---------------------------------------------------------------- pixels


def work_pixels(picture: Image.Image) -> Plane:
    """Return the picture as float [H, W, 3] in 0-255, turned, opaque, its longer side at most WORK pixels."""
    picture = turned(picture)
    if picture.mode.startswith(("I", "F")):  # 16 bits and more: of its own range, because few files use all of it
        values = np.asarray(picture, np.float64)
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
        values = np.nan_to_num(values, nan=low, neginf=low, posinf=high)
        picture = Image.fromarray(((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8))
    # Premultiplied, so that the colour of transparent pixels does not count.
    picture = picture.convert("RGBA").convert("RGBa") if picture.has_transparency_data else picture.convert("RGB")
    factor = math.ceil(max(picture.size) / WORK)
    pixels = np.asarray(picture.reduce(factor), np.float64)
    if pixels.shape[2] == 3:
        return pixels
    colours, opacity = pixels[:, :, :3], pixels[:, :, 3:] / 255
    dark_ink = to_grey(colours).sum() < 128 * opacity.sum()
    return colours + (1 - opacity) * (255 if dark_ink else 0)


def turned(picture: Image.Image) -> Image.Image:
    """Return the picture turned as its camera held it; as it is if its metadata is damaged.

    By hand, because Pillow's `exif_transpose` writes the metadata again, and fails at damaged ones.
    """
    turn = None
    with contextlib.suppress(Exception):
        turn = TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return picture if turn is None else picture.transpose(turn)


def to_grey(pixels: Plane) -> Plane:
    """Return the luma of float [H, W, 3], as ITU-R BT.601 weights the channels."""
    return pixels @ np.array([0.299, 0.587, 0.114])


def smooth(pixels: Plane) -> Plane:
    """Blur by the weights 1, 2, 1 along both axes: half of the noise."""
    for axis in (0, 1):
        pixels = ndimage.correlate1d(pixels, [0.25, 0.5, 0.25], axis, mode="nearest")
    return pixels


# ---------------------------------------------------------------- ink


def best_ink(planes: Plane) -> tuple[Plane, float]:
    """Return the ink [H, W] of the plane of [C, H, W] that separates it best from the paper, and the noise there."""
    inks = paper(planes) - planes
    noises = [noise_of(plane) for plane in planes]
    best = int(np.argmax([peak_of(ink) / (noise + 2) for ink, noise in zip(inks, noises, strict=True)]))
    return inks[best], noises[best]


def peak_of(ink: Plane) -> float:
    """Return the mean of the highest values, one in a thousand."""
    return float(np.sort(ink, axis=None)[-max(4, ink.size // 1000) :].mean())


def noise_of(plane: Plane) -> float:
    """Return the standard deviation of a plane's noise, by the median of its second differences."""
    differences = plane[:, 2:] - 2 * plane[:, 1:-1] + plane[:, :-2]
    return float(1.4826 / math.sqrt(6) * np.median(np.abs(differences))) if differences.size else 0.0


def paper(planes: Plane) -> Plane:
    """Return the planes [C, H, W] without dark strokes: a closing by reconstruction.

    What is darker than all around it and holds no window of WINDOW is filled to the level of its rim. Light that
    changes slowly, and shadows that are wider or that reach the edge, stay (Vincent 1993, "Morphological grayscale
    reconstruction in image analysis").
    """
    window = 2 * math.ceil(WINDOW * min(planes.shape[1:]) / 2) + 1
    level = planes
    for axis in (1, 2):
        level = ndimage.maximum_filter1d(level, window, axis, mode="nearest")
    level = level.copy()
    while True:
        before = level.copy()
        for axis, step in ((1, 1), (1, -1), (2, 1), (2, -1)):
            lines, floors = (np.moveaxis(array, axis, 0)[::step] for array in (level, planes))
            for line in range(1, len(lines)):
                lines[line] = np.maximum(floors[line], np.minimum(lines[line], lines[line - 1]))
        if np.array_equal(before, level):
            return level


# ---------------------------------------------------------------- digit


def find_digit(ink: Plane, noise: float) -> tuple[Candidate, Box] | None:
    """Return the digit in an ink [H, W] and its box, or None if there is no ink at all."""
    peak = peak_of(ink)
    if peak <= 0:
        return None
    labels, count = ndimage.label(ink > FAINT * peak, np.ones((3, 3)))
    if count == 0:
        return None
    index = np.arange(1, count + 1)
    masses = ndimage.sum_labels(ink, labels, index)
    boxes = [(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in ndimage.find_objects(labels)]
    largest = int(masses.argmax())
    kept = [i for i in range(count) if masses[i] >= 0.03 * masses[largest] and near(boxes[i], boxes[largest])]
    mask = np.isin(labels, [i + 1 for i in kept])
    contrast = float(np.median(ink[mask]))
    around = ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=2)
    strong = np.sort(ink[mask])[int(0.9 * mask.sum())]  # as the middle of a stroke is
    digit = np.where(around, np.clip(ink / strong, 0, 1) ** EDGE, 0.0)
    image = to_mnist(thickened(digit))
    return Candidate(image, contrast, contrast / (noise + 1e-9)), extent(mask)


def near(box: Box, other: Box) -> bool:
    """Return whether a box lies within a third of the other one's longer side."""
    top, bottom, left, right = other
    reach = 0.35 * longer_side(other)
    return box[1] >= top - reach and box[0] <= bottom + reach and box[3] >= left - reach and box[2] <= right + reach


def thickened(digit: Plane) -> Plane:
    """Widen strokes that are thinner than MNIST's, in a digit [H, W] of 0-1."""
    mask = digit >= 0.5
    area = mask.sum()
    edges = (mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()
    longer = longer_side(extent(mask))
    # A stroke has two edges; of a slanted edge, the sides of pixels are 4/pi times as long, in the mean.
    width = 2 * area / max(edges * math.pi / 4, 1)
    widen = math.floor((THIN * longer - width) / 2 + 0.5)
    if widen < 1:
        return digit
    padded = np.pad(digit, widen)
    y, x = np.ogrid[-widen : widen + 1, -widen : widen + 1]
    return ndimage.grey_dilation(padded, footprint=x * x + y * y <= (widen + 0.5) ** 2)


def extent(mask: NDArray[np.bool_]) -> Box:
    """Return first row and last row + 1, first column and last column + 1 of what is true."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def longer_side(box: Box) -> int:
    """Return the length of the longer side."""
    top, bottom, left, right = box
    return max(bottom - top, right - left)


def to_mnist(digit: Plane) -> NDArray[np.uint8]:
    """Scale a digit [H, W] of 0-1 to BOX pixels, its centre of mass in the middle, each pixel the mean of its area."""
    scale = longer_side(extent(digit >= RIM)) / BOX  # of the picture's pixels in one of the image
    matrices = []
    for axis in (1, 0):
        mass = digit.sum(axis=axis)
        centre = (mass @ (np.arange(len(mass)) + 0.5)) / mass.sum()
        edges = centre + scale * (np.arange(SIDE + 1) - SIDE / 2)
        low, high = edges[:-1, None], edges[1:, None]
        pixel = np.arange(len(mass))
        matrices.append(np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None) / scale)
    image = matrices[0] @ digit @ matrices[1].T
    return np.asarray(np.rint(image * (255 / image.max())), np.uint8)
