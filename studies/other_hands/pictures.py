"""Pictures of digits as people take and draw them, and pictures without a digit; each a function of a random generator.

A picture is a *drawing*, coverage of ink 0-1 [H, W], under a *condition*: paper, pen, light, camera, file.
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy import ndimage

Random = np.random.Generator
Drawing = NDArray[np.float64]
Colours = NDArray[np.float64]

# ---------------------------------------------------------------- drawings

# Strokes of each digit, some in several ways: points x,y in hundredths of its box, x to the right, y down.
STROKES = {
    0: [["55,2 20,20 12,55 30,93 60,95 83,60 78,22 52,2"]],
    1: [["50,0 50,50 50,100"], ["32,22 52,0 52,50 52,100"]],
    2: [["18,22 35,3 68,6 76,32 50,65 17,96", "17,96 82,95"], ["20,20 45,2 74,15 66,48 35,86 16,88 30,76 55,90 85,93"]],
    3: [["20,12 50,0 76,16 66,40 42,47", "42,47 74,56 80,80 50,100 18,88"]],
    4: [["30,2 18,55", "18,55 85,55", "68,20 66,60 64,100"], ["62,0 12,66", "12,66 88,66", "64,0 64,100"]],
    5: [["78,3 28,3", "28,3 24,42", "24,42 50,36 78,55 72,86 42,100 16,90"]],
    6: [["66,2 36,22 20,60 30,93 62,96 76,73 58,53 34,60 22,75"]],
    7: [["14,4 82,4", "82,4 55,45 40,100"], ["14,6 82,4", "82,4 55,45 42,100", "30,50 74,48"]],
    8: [["72,14 48,1 26,20 46,44 72,66 68,92 42,99 20,84 30,60 52,44 74,24 68,10"]],
    9: [
        ["74,22 50,2 24,20 32,46 58,48 75,24", "75,24 72,60 60,100"],
        ["74,22 50,2 24,20 32,46 58,48 75,24", "75,24 76,70 56,98 26,92"],
    ],
}


def written(digit: int, random: Random) -> list[Drawing]:
    """Return the strokes of a digit in a hand of its own: points [N, 2] around 0, the digit about 1 high."""
    variants = STROKES[digit]
    linear = np.array([[random.uniform(0.65, 1.05), random.uniform(-0.25, 0.12)], [random.uniform(-0.06, 0.06), 1.0]])
    moved: dict[tuple[float, float], Drawing] = {}  # by point, so that strokes that meet still meet
    curves = []
    for stroke in variants[random.integers(len(variants))]:
        points = [point + moved.setdefault(point, random.normal(0, 0.022, 2)) for point in parsed(stroke)]
        curves.append((smooth_curve(np.array(points)) - 0.5) @ linear.T)
    return curves


def from_strokes(digit: int, random: Random, width: float = 0.09) -> Drawing:
    """Draw a digit with a pen, `width` of its height."""
    side, thick = 400, max(2, round(width * 400))
    image = Image.new("L", (side * 2, side * 2))
    pen = ImageDraw.Draw(image)
    for curve in written(digit, random):
        points = curve * side + side
        pen.line([tuple(point) for point in points], fill=255, width=thick, joint="curve")
        for x, y in (points[0], points[-1]):
            pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=255)
    return cropped(np.asarray(image) / 255)


def parsed(stroke: str) -> list[tuple[float, float]]:
    """Return the points of a stroke in a box of 1 by 1."""
    return [(int(x) / 100, int(y) / 100) for x, y in (point.split(",") for point in stroke.split())]


def smooth_curve(points: Drawing) -> Drawing:
    """Return 16 points for each part of a Catmull-Rom curve through `points`."""
    padded = np.concatenate([[2 * points[0] - points[1]], points, [2 * points[-1] - points[-2]]])
    t = np.linspace(0, 1, 17)[:, None]
    parts = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False)
    ]
    return np.concatenate(parts)


def from_image(image: NDArray[np.uint8]) -> Drawing:
    """Enlarge an image of MNIST's kind tenfold."""
    large = Image.fromarray(image).resize((280, 280), Image.Resampling.BICUBIC)
    return cropped(np.clip((np.asarray(large) / 255 - 0.2) / 0.6, 0, 1))


def from_font(path: Path, text: str) -> Drawing:
    """Write `text` in a font."""
    font = ImageFont.truetype(str(path), 320)
    box = font.getbbox(text)
    image = Image.new("L", (int(box[2] - box[0]) + 40, int(box[3] - box[1]) + 40))
    ImageDraw.Draw(image).text((20 - box[0], 20 - box[1]), text, fill=255, font=font)
    return cropped(np.asarray(image) / 255)


def cropped(drawing: Drawing) -> Drawing:
    """Cut the empty margin off."""
    rows, columns = (np.flatnonzero(drawing.max(axis=axis) > 0.1) for axis in (1, 0))
    return drawing[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


# ---------------------------------------------------------------- conditions


def placed(
    drawing: Drawing,
    random: Random,
    size: tuple[int, int] = (480, 640),
    share: float | None = None,
    centred: bool = False,
    tilt: float = 6,
) -> Drawing:
    """Put a drawing somewhere on an empty sheet [H, W]; its longer side is `share` of the shorter side."""
    share = share or random.uniform(0.25, 0.7)
    image = Image.fromarray((drawing * 255).astype(np.uint8))
    scale = share * min(size) / max(image.size)
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    image = image.resize([max(1, round(side * scale)) for side in image.size], how)
    image = image.rotate(random.uniform(-tilt, tilt), Image.Resampling.BICUBIC, expand=True)
    space = (size[1] - image.width, size[0] - image.height)
    left, top = (max(0, s) // 2 if centred else int(random.integers(0, max(1, s + 1))) for s in space)
    sheet = Image.new("L", (size[1], size[0]))
    sheet.paste(image, (left, top))
    return np.asarray(sheet) / 255


def painted(ink: Drawing, paper: object = 245.0, pen: object = 30.0) -> Colours:
    """Return the picture [H, W, 3] of ink on paper; both are a grey, a colour, or a picture."""
    paper, pen = (np.broadcast_to(np.asarray(part, float), (*ink.shape, 3)) for part in (paper, pen))
    return paper + (pen - paper) * ink[:, :, None]


def light(shape: tuple[int, int], random: Random, darkest: float, sharp: float | None = None) -> Drawing:
    """Return factors of light [H, W]: a slope in some direction, or a shadow with an edge `sharp` pixels wide."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    angle = random.uniform(0, 2 * np.pi)
    along = np.cos(angle) * (x / shape[1] - 0.5) + np.sin(angle) * (y / shape[0] - 0.5)
    along = along - random.uniform(-0.15, 0.15)
    slope = np.clip(along + 0.5, 0, 1) if sharp is None else 1 / (1 + np.exp(-along * shape[1] / sharp))
    return np.asarray((darkest + (1 - darkest) * slope)[:, :, None])


def grain(shape: tuple[int, int], random: Random, blur: float, deviation: float) -> Drawing:
    """Return smooth noise [H, W, 1]: the texture of paper, cloth or wood."""
    noise = ndimage.gaussian_filter(random.normal(size=shape), blur)
    return np.asarray((noise / noise.std() * deviation)[:, :, None])


def printed(random: Random, squared: bool) -> Colours:
    """Return a sheet of ruled paper, or of squared paper."""
    step, start = int(random.integers(28, 60)), int(random.integers(28))
    lines = np.zeros((480, 640))
    lines[start::step] = 1
    if squared:
        lines[:, start::step] = 1
    return painted(lines, 245, (190, 205, 230) if squared else (170, 190, 225))


def noisy(picture: Colours, random: Random, deviation: float) -> Colours:
    """Add a camera's noise."""
    return picture + random.normal(0, deviation, picture.shape)


def blurred(picture: Colours, blur: float) -> Colours:
    """Defocus, in pixels."""
    image = to_image(picture).filter(ImageFilter.GaussianBlur(blur))
    return np.asarray(image, float)


def to_image(picture: Colours) -> Image.Image:
    """Return a Pillow image of colours 0-255."""
    return Image.fromarray(np.rint(np.clip(picture, 0, 255)).astype(np.uint8))


def as_jpeg(picture: Colours, quality: int) -> Image.Image:
    """Write as JPEG and read again."""
    file = io.BytesIO()
    to_image(picture).save(file, "JPEG", quality=quality)
    return Image.open(file)


def perspective(ink: Drawing, random: Random) -> Drawing:
    """See a sheet from the side."""
    height, width = ink.shape
    corners = np.array([(0, 0), (0, height), (width, height), (width, 0)]) + random.uniform(0, 0.15, (4, 2)) * [
        (-width, -height),
        (-width, height),
        (width, height),
        (width, -height),
    ]
    image = Image.fromarray((ink * 255).astype(np.uint8))
    seen = image.transform(image.size, Image.Transform.QUAD, tuple(corners.flatten()), Image.Resampling.BICUBIC)
    return np.asarray(seen) / 255


def transparent(ink: Drawing, colour: float) -> Image.Image:
    """Return a picture with ink only, the rest transparent."""
    pixels = np.full((*ink.shape, 4), colour)
    pixels[:, :, 3] = ink * 255
    return Image.fromarray(pixels.astype(np.uint8), "RGBA")


def sixteen_bits(picture: Colours, most: int) -> Image.Image:
    """Return a picture of 16 bits of which `most` is white."""
    return Image.fromarray((np.clip(picture[:, :, 0], 0, 255) / 255 * most).astype(np.uint16))


BLUE_PEN, RED_PEN, GREEN_BOARD = (35, 50, 160), (190, 30, 40), (40, 70, 55)
Condition = Callable[[Drawing, Random], Image.Image]

CONDITIONS: dict[str, Condition] = {
    "plain": lambda d, r: to_image(painted(placed(d, r))),
    "blue pen": lambda d, r: to_image(noisy(painted(placed(d, r), (235, 232, 222), BLUE_PEN), r, 4)),
    "red pen": lambda d, r: to_image(noisy(painted(placed(d, r), (240, 238, 230), RED_PEN), r, 4)),
    "pencil": lambda d, r: to_image(noisy(painted(placed(d, r), 225, 150), r, 5)),
    "low contrast": lambda d, r: to_image(noisy(painted(placed(d, r), 150, 115), r, 3)),
    "chalk on a board": lambda d, r: to_image(noisy(painted(placed(d, r), GREEN_BOARD, 215), r, 6)),
    "white on black": lambda d, r: to_image(painted(placed(d, r), 0, 255)),
    "red on blue": lambda d, r: to_image(painted(placed(d, r), (60, 80, 170), (200, 60, 60))),
    "yellow paper": lambda d, r: to_image(noisy(painted(placed(d, r), (250, 225, 90), 50), r, 4)),
    "uneven light": lambda d, r: to_image(noisy(painted(placed(d, r)) * light((480, 640), r, 0.3), r, 3)),
    "soft shadow": lambda d, r: to_image(noisy(painted(placed(d, r)) * light((480, 640), r, 0.45, 25), r, 3)),
    "hard shadow": lambda d, r: to_image(noisy(painted(placed(d, r)) * light((480, 640), r, 0.5, 3), r, 3)),
    "dark and noisy": lambda d, r: to_image(noisy(painted(placed(d, r), 90, 20), r, 10)),
    "grain of paper": lambda d, r: to_image(painted(placed(d, r), 205 + grain((480, 640), r, 2, 9))),
    "ruled paper": lambda d, r: to_image(painted(placed(d, r), printed(r, squared=False))),
    "squared paper": lambda d, r: to_image(painted(placed(d, r), printed(r, squared=True))),
    "JPEG of quality 15": lambda d, r: as_jpeg(noisy(painted(placed(d, r), 230, 60), r, 4), 15),
    "out of focus": lambda d, r: to_image(blurred(painted(placed(d, r, share=r.uniform(0.35, 0.7))), 6)),
    "small, in a corner": lambda d, r: to_image(painted(placed(d, r, share=0.13))),
    "fills the picture": lambda d, r: to_image(painted(placed(d, r, (300, 300), share=0.97, centred=True, tilt=0))),
    "tilted": lambda d, r: to_image(painted(placed(d, r, tilt=18))),
    "from the side": lambda d, r: to_image(painted(perspective(placed(d, r), r))),
    "with specks": lambda d, r: to_image(painted(np.maximum(placed(d, r), r.random((480, 640)) > 0.9995))),
    "48 pixels": lambda d, r: to_image(painted(placed(d, r, (48, 48), share=0.7))),
    "4,000 pixels": lambda d, r: to_image(painted(placed(d, r, (2250, 4000)))),
    "transparent, dark": lambda d, r: transparent(placed(d, r), 0),
    "transparent, light": lambda d, r: transparent(placed(d, r), 255),
    "16 bits": lambda d, r: sixteen_bits(painted(placed(d, r)), 65535),
    "12 of 16 bits": lambda d, r: sixteen_bits(painted(placed(d, r)), 4095),
    "one bit": lambda d, r: to_image(painted(placed(d, r))).convert("1"),
    "CMYK": lambda d, r: to_image(painted(placed(d, r), (235, 232, 222), BLUE_PEN)).convert("CMYK"),
}

# ---------------------------------------------------------------- no digit


def blank(random: Random, noise: float = 0, factor: object = 1.0) -> Image.Image:
    """Return a sheet of paper."""
    return to_image(noisy(np.full((480, 640, 3), random.uniform(120, 250)) * factor, random, noise))


NOTHING: dict[str, Callable[[Random], Image.Image]] = {
    "blank": blank,
    "blank, noise": lambda r: blank(r, r.uniform(2, 12)),
    "blank, uneven light": lambda r: blank(r, 3, light((480, 640), r, 0.3)),
    "blank, soft shadow": lambda r: blank(r, 3, light((480, 640), r, 0.45, 25)),
    "blank, hard shadow": lambda r: blank(r, 3, light((480, 640), r, 0.5, 3)),
    "blank, dark": lambda r: to_image(noisy(np.full((480, 640, 3), 15.0), r, 4)),
    "noise": lambda r: to_image(r.uniform(0, 255, (480, 640, 3))),
    "coarse noise": lambda r: to_image(128 + grain((480, 640), r, r.uniform(3, 30), 50) + np.zeros(3)),
    "texture": lambda r: to_image(200 + grain((480, 640), r, r.uniform(1, 4), 12) + np.zeros(3)),
    "ruled": lambda r: to_image(printed(r, squared=bool(r.integers(2)))),
}
