"""A network's answer to pictures: from Python, and with `digitsum predict`."""

import json
import sys

import numpy as np
import pytest
import torch
from harness.training import train
from PIL import Image

from digitsum import cli, load_model, predict
from digitsum.core.errors import DigitsumError
from digitsum.model.evidence import Limits, evidence, verdict
from digitsum.model.network import save_model
from studies.other_hands.pictures import CONDITIONS, from_strokes


@pytest.fixture
def model(splits, tmp_path):
    """Return the path of a network that was trained on the tiny data set, which is sure of everything."""
    network, _ = train(splits)
    network.limits = Limits(-1000, -1000)
    network.digit_temperature.fill_(0.01)
    save_model(tmp_path / "model", network)
    return tmp_path / "model"


@pytest.fixture
def drawing(tmp_path):
    """Return the path of a picture of a drawn digit."""
    random = np.random.default_rng(0)
    CONDITIONS["plain"](from_strokes(3, random), random).save(tmp_path / "drawing.png")
    return tmp_path / "drawing.png"


@pytest.fixture
def command(model, monkeypatch, capsys):
    """Return a function that runs `digitsum predict` and returns its exit status and both streams."""

    def run(*arguments, number=5):
        arguments = ["predict", *map(str, arguments), "--number", str(number), "--model", str(model)]
        monkeypatch.setattr(sys, "argv", ["digitsum", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as exit_:
            code = exit_.code
        return code, *capsys.readouterr()

    return run


def test_an_image_of_mnist_has_the_answer_of_the_network(model, splits):
    network = load_model(model)
    images, digits, numbers = splits["test"][:5]
    with torch.no_grad():
        digit_logits, sum_logits = network(images, numbers)
    for row, image in enumerate(images.numpy()):
        found = predict(image, int(numbers[row]), network)
        assert (found.verdict, found.digit) == ("sure", int(digits[row]))
        assert found.sum == found.digit + numbers[row]
        assert found.digit_probabilities == pytest.approx(digit_logits[row].softmax(0).tolist(), abs=1e-5)
        assert found.sum_probabilities == pytest.approx(sum_logits[row].softmax(0).tolist(), abs=1e-5)
        assert np.array_equal(found.image, image)


def test_a_picture_may_be_a_file_its_bytes_an_image_or_an_array(model, drawing):
    picture = Image.open(drawing)
    ways = [drawing, str(drawing), drawing.read_bytes(), picture, np.asarray(picture)]
    found = [predict(way, 2, model) for way in ways]
    assert len({one.digit_probabilities for one in found}) == 1


def test_a_wrong_number_and_a_missing_model_say_so(model, drawing, tmp_path):
    with pytest.raises(ValueError, match="number is 10, expected 0-9"):
        predict(drawing, 10, model)
    with pytest.raises(DigitsumError, match="none is missing"):
        predict(drawing, 1, tmp_path / "none")


def test_verdicts_follow_the_limits():
    limits = Limits(no_digit=-4.0, unsure=-0.5)
    assert verdict(-4.1, 0.99, limits) == "no digit"
    assert verdict(-0.6, 0.99, limits) == verdict(3.0, 0.89, limits) == "unsure"
    assert verdict(-0.4, 0.91, limits) == "sure"
    assert verdict(-999.0, 0.91, None) == "sure"  # trained without a validation split
    assert evidence(torch.zeros(1, 10)).item() == pytest.approx(np.log(10))


def test_of_ink_and_paper_that_is_taken_which_has_more_evidence(model, splits):
    image = splits["test"].images[0].numpy()
    found = [predict(side, 1, model) for side in (image, 255 - image)]
    assert found[0].digit == found[1].digit
    assert np.array_equal(found[0].image, found[1].image)


def test_no_ink_and_no_digit_have_no_answer(model, drawing):
    blank = predict(Image.new("RGB", (300, 200), "white"), 5, model)
    assert (blank.verdict, blank.digit, blank.sum, blank.image) == ("no ink", None, None, None)
    network = load_model(model)
    network.limits = Limits(999.0, 999.0)
    found = predict(drawing, 5, network)
    assert (found.verdict, found.digit, found.sum) == ("no digit", None, None)
    assert found.image is not None


def test_the_command_prints_a_line_for_each_picture(command, drawing):
    code, printed, _ = command(drawing)
    assert code == 0
    assert printed.startswith(f"{drawing}: digit ")
    assert printed.endswith("%)\n")


def test_the_command_takes_a_folder_and_goes_on_after_a_file_that_it_cannot_read(command, drawing, tmp_path):
    (drawing.parent / "broken.png").write_bytes(b"no picture")
    code, printed, errors = command(drawing.parent)
    assert code == "error: 1 of 2 pictures could not be read: see above"
    assert errors == f"error: {tmp_path}/broken.png is not a picture that Pillow can read; save it as PNG or JPEG\n"
    assert printed.startswith(f"{drawing}: digit ")


def test_the_exit_status_tells_scripts_that_an_answer_is_not_sure(command, drawing, tmp_path):
    Image.new("RGB", (300, 200), "white").save(tmp_path / "blank.png")
    code, printed, _ = command(drawing, tmp_path / "blank.png")
    assert code == cli.NOT_SURE == 3
    assert printed.splitlines()[1] == f"{tmp_path}/blank.png: no ink"


def test_json_has_a_line_for_each_picture(command, drawing, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    _, printed, _ = command(drawing, tmp_path / "broken.png", "--json")
    first, second = map(json.loads, printed.splitlines())
    assert first.keys() == {"file", "verdict", "digit", "sum", "digit_probabilities", "sum_probabilities"}
    assert first["sum"] == first["digit"] + 5
    assert sum(first["digit_probabilities"]) == pytest.approx(1, abs=1e-5)
    assert second.keys() == {"file", "error"}


def test_the_sheet_shows_each_picture_and_what_the_network_saw(command, drawing, tmp_path):
    command(drawing, drawing, "--show", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        cell = np.asarray(sheet.crop((0, 0, sheet.width // 2, sheet.height)))
        assert np.array_equal(cell, np.asarray(sheet.crop((sheet.width // 2, 0, sheet.width, sheet.height))))
        assert (cell == 0).mean() > 0.1  # what the network saw is mostly black
    before = (tmp_path / "sheet.png").read_bytes()
    command(drawing, drawing, "--show", tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes() == before


def test_names_from_elsewhere_are_printed_in_one_line(command, drawing, tmp_path):
    odd = drawing.rename(tmp_path / "c\nd\x1b[2J.png")
    _, printed, _ = command(odd)
    assert printed.count("\n") == 1
    assert "\x1b" not in printed
    code, _, errors = command(tmp_path / "a\nb\x1b[2J.png")
    assert code == "error: 1 of 1 pictures could not be read: see above"
    assert errors.count("\n") == 1
    assert "\x1b" not in errors


def test_a_sheet_replaces_nothing_but_a_sheet(command, drawing, tmp_path):
    other = tmp_path / "other.png"
    other.write_bytes(drawing.read_bytes())
    for name in [other, tmp_path, tmp_path / "sheet.jpg", ""]:
        code, printed, _ = command(drawing, "--show", name)
        assert code.startswith(f"error: --show {name or '.'}"), name
        assert printed == ""
    assert other.read_bytes() == drawing.read_bytes()
    for _ in range(2):
        assert command(drawing, "--show", tmp_path / "new/sheet.png")[0] == 0
