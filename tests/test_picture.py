"""Any picture of a digit becomes an image as in MNIST; what is no picture ends in one line."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitsum.core.errors import DigitsumError
from digitsum.picture import candidates, paper, pictures_in, read_picture, work_pixels
from studies.other_hands.pictures import CONDITIONS, from_strokes

FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]


def sheet(digit=3, seed=0, condition="plain"):
    """Return a picture of a drawn digit."""
    random = np.random.default_rng(seed)
    return CONDITIONS[condition](from_strokes(digit, random), random)


def dark_ink(picture):
    """Return the candidate with dark ink on light paper."""
    return candidates(picture)[0]


@pytest.mark.parametrize("condition", ["plain", "48 pixels"])
@pytest.mark.parametrize("digit", [3, 7])
def test_an_image_is_centred_and_has_mnists_size(digit, condition):
    image = dark_ink(sheet(digit, condition=condition)).image
    rows, columns = (np.flatnonzero(image.max(axis=axis) > 25) for axis in (1, 0))
    assert image.dtype == np.uint8
    assert image.shape == (28, 28)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (20, 21)
    mass = image / image.sum()
    centre = mass.sum(axis=1) @ np.arange(28), mass.sum(axis=0) @ np.arange(28)
    assert np.allclose(centre, 13.5, atol=0.1)


def test_the_size_of_a_picture_and_the_place_of_the_digit_change_little():
    picture = sheet()
    wide = Image.new("RGB", (picture.width + 700, picture.height + 300), (245, 245, 245))
    wide.paste(picture, (500, 200))
    for other in (picture.resize((1280, 960)), wide):
        difference = np.abs(dark_ink(other).image.astype(int) - dark_ink(picture).image)
        assert difference.mean() < 12


@pytest.mark.parametrize("condition", ["white on black", "chalk on a board"])
def test_light_ink_on_dark_paper_is_the_other_candidate(condition):
    found = candidates(sheet(condition=condition))
    assert np.abs(found[-1].image.astype(int) - dark_ink(sheet()).image).mean() < 12


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "RGBA", "I;16", "I", "F"])
def test_the_mode_of_a_picture_changes_little(mode):
    picture = sheet()
    if mode.startswith(("I", "F")):
        values = np.asarray(picture.convert("L"), np.float64) * 16  # of 65,535: few files use all of it
        other = Image.fromarray(values.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    else:
        other = picture.convert(mode)
    assert other.mode == mode
    assert dark_ink(other).contrast > 100
    assert np.abs(dark_ink(other).image.astype(int) - dark_ink(picture).image).mean() < 8


@pytest.mark.parametrize("value", [0, 255])
def test_what_is_transparent_is_paper_whatever_its_colour(value):
    ink = 255 - np.asarray(sheet().convert("L"))
    pixels = np.full((*ink.shape, 4), value, np.uint8)
    pixels[:, :, 3] = ink
    found = candidates(Image.fromarray(pixels))
    image = found[0 if value == 0 else -1].image
    assert np.abs(image.astype(int) - dark_ink(sheet()).image).mean() < 8


def test_a_camera_held_sideways_is_turned_by_exif():
    picture, file = sheet(), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    picture.rotate(90, expand=True).save(file, "JPEG", quality=95, exif=exif)
    assert np.abs(dark_ink(Image.open(file)).image.astype(int) - dark_ink(picture).image).mean() < 5


def test_an_image_of_mnists_size_is_taken_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    assert np.array_equal(candidates(Image.fromarray(image))[1].image, image)
    assert np.array_equal(candidates(Image.fromarray(image))[0].image, 255 - image)


def test_blank_paper_has_less_contrast_than_pencil():
    random = np.random.default_rng(0)
    blank = Image.fromarray(random.integers(235, 245, (480, 640, 3), dtype=np.uint8))
    assert max((found.signal for found in candidates(blank)), default=0) < 20
    assert candidates(Image.new("RGB", (300, 200), "white")) == []
    pencil = dark_ink(sheet(condition="pencil"))
    assert pencil.signal > 20
    assert pencil.contrast > 14


def test_paper_keeps_a_shadow_and_loses_a_stroke():
    plane = np.full((100, 100), 200.0)
    plane[:, 60:] = 120  # a shadow that reaches the edge
    without = plane.copy()
    plane[20:80, 28:32] = 30
    assert np.array_equal(paper(plane[None])[0], without)


def test_a_blot_as_wide_as_a_quarter_of_the_picture_is_ink():
    plane = np.full((120, 120), 255.0)
    without = plane.copy()
    plane[20:53, 30:63] = 0
    assert np.array_equal(paper(plane[None])[0], without)


def test_a_faint_part_of_a_digit_is_kept():
    ink = np.zeros((120, 120))
    ink[20:50, 40:60] = 255
    ink[50:100, 50:60] = 0.35 * 255
    image = dark_ink(Image.fromarray(np.uint8(255 - ink))).image
    assert np.ptp(np.flatnonzero(image.max(axis=0) > 127)) < 8  # a quarter of 20 pixels, not two thirds


def test_every_format_is_read(tmp_path):
    for kind in FORMATS:
        path = tmp_path / f"digit.{kind.lower()}"
        sheet().save(path, kind)
        assert np.abs(dark_ink(read_picture(path)).image.astype(int) - dark_ink(sheet()).image).mean() < 8, kind
    assert [path.name for path in pictures_in([str(tmp_path)])] == sorted(f"digit.{kind.lower()}" for kind in FORMATS)


def announcing(width, height):
    """Return a function that gives a PNG another size, in its header."""

    def change(content):
        header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
        return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[: len(content) // 2], "cannot be decoded"),
        (lambda content: content[:20], "cannot be decoded"),
        (lambda content: b"hello", "is not a picture"),
        (lambda content: b"", "is empty"),
        (announcing(12_000, 10_000), "has 12000 x 10000 pixels, at most 100,000,000 are read; scale it down"),
        (announcing(2**31 - 1, 2**31 - 1), "too many pixels, at most 100,000,000 are read; scale it down"),
    ],
)
def test_what_is_no_picture_ends_in_one_line(tmp_path, change, message):
    path = tmp_path / "picture.png"
    sheet().save(path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DigitsumError) as error:
        read_picture(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_an_empty_folder_end_in_one_line(tmp_path):
    with pytest.raises(DigitsumError, match="none.png cannot be read: No such file or directory; check its path"):
        read_picture(tmp_path / "none.png")
    with pytest.raises(DigitsumError, match="cannot be read: Is a directory"):
        read_picture(tmp_path)
    with pytest.raises(DigitsumError, match="has no pictures"):
        pictures_in([str(tmp_path)])


def test_mutated_files_end_in_one_line_or_are_read(tmp_path):
    random = np.random.default_rng(0)
    for kind in ["PNG", "JPEG", "GIF", "TIFF", "WEBP"]:
        file = io.BytesIO()
        sheet().resize((60, 45)).save(file, kind)
        for _ in range(40):
            content = bytearray(file.getvalue())
            for place in random.integers(0, len(content), 6):
                content[place] = random.integers(256)
            try:
                candidates(read_picture(bytes(content)))
            except DigitsumError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3), (3, 2), (7, 7), (2048, 3)])
def test_the_smallest_pictures_have_an_answer(size):
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    for found in candidates(Image.fromarray(pixels)):
        assert found.image.shape == (28, 28)


@pytest.mark.filterwarnings("error")
def test_values_that_are_no_numbers_are_paper_or_ink():
    values = 255 - np.asarray(sheet().convert("L"), np.float32)
    expected = dark_ink(Image.fromarray(255 - values)).image
    values[0, :3] = np.nan, np.inf, -np.inf
    assert np.abs(dark_ink(Image.fromarray(255 - values)).image.astype(int) - expected).mean() < 1
    assert candidates(Image.fromarray(np.full((50, 50), np.nan, np.float32))) == []


def test_damaged_metadata_leaves_a_picture_as_it_is():
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    sheet().save(file, "WEBP", lossless=True, exif=exif)
    damaged = file.getvalue().replace(b"MM\0*", b"MM\0k")
    assert damaged != file.getvalue()
    assert np.array_equal(dark_ink(read_picture(damaged)).image, dark_ink(sheet()).image)


def test_damaged_metadata_raises_nothing_else():
    file, random = io.BytesIO(), np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x9286] = 6, "a camera", "a comment"
    sheet().resize((64, 48)).save(file, "JPEG", exif=exif)
    for _ in range(300):
        content = bytearray(file.getvalue())
        for place in random.integers(20, 120, 4):
            content[place] = random.integers(256)
        with contextlib.suppress(DigitsumError):
            candidates(read_picture(bytes(content)))


def test_a_folder_gives_its_pictures_and_nothing_else(tmp_path):
    for name in ["b.PNG", "a.jpg", "c.mpo"]:
        (tmp_path / name).touch()
    for name in [".hidden.png", "report.pdf", "film.mpg", "data.h5", "notes.txt"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in pictures_in([str(tmp_path)])] == ["a.jpg", "b.PNG", "c.mpo"]
    assert pictures_in(["-", "x"]) == [None, Path("x")]


def test_a_large_picture_is_scaled_down():
    assert max(work_pixels(Image.new("RGB", (6000, 4000))).shape) <= 256


@pytest.mark.filterwarnings("error")
def test_a_picture_of_many_pixels_is_read_without_a_warning(tmp_path):
    Image.new("L", (9500, 9500)).save(tmp_path / "large.png")  # Pillow warns from 89 million pixels
    read_picture(tmp_path / "large.png")
