"""MODEL_CARD.md is rendered from the committed metrics, and what is measured for it is what it is said to be."""

import pytest
import torch
from harness.project import ROOT

from digitsum.core.errors import DigitsumError
from digitsum.evaluation.metrics import calibration_error
from studies import pipeline
from studies.model_card import card, robustness


def test_the_card_is_that_of_the_committed_metrics(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert (ROOT / "MODEL_CARD.md").read_text() == card.card(), "run `make card`"


def test_a_card_of_parameters_without_seeds_asks_for_seeds(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(card, "seed_runs", lambda table, params: [])
    with pytest.raises(DigitsumError, match="has 0 seeds with these parameters, not 2 or more; run `make seeds`"):
        card.card()


@pytest.fixture
def images():
    """Return two images with a white square, 4 pixels wide, in the middle."""
    pixels = torch.zeros(2, 28, 28, dtype=torch.uint8)
    pixels[:, 12:16, 12:16] = 255
    return pixels


def test_images_are_shifted_by_whole_pixels_in_all_directions(images):
    right, left, down, up = robustness.shifted(images, 3)
    assert torch.equal(right[:, :, 3:], images[:, :, :-3])
    assert torch.equal(left[:, :, :-3], images[:, :, 3:])
    assert torch.equal(down[:, 3:], images[:, :-3])
    assert torch.equal(up[:, :-3], images[:, 3:])
    assert right.dtype == torch.uint8


def test_images_are_rotated_both_ways_about_their_centre(images):
    one, other = robustness.rotated(images, 30)
    assert not torch.equal(one, images)
    assert torch.equal(one, other.flip(2))  # a square, rotated one way, is its mirror image, rotated the other way


def test_noise_is_always_the_same_and_of_the_strength_named():
    grey = torch.full((20, 28, 28), 128, dtype=torch.uint8)
    (first,), (again,) = robustness.noisy(grey, 0.1), robustness.noisy(grey, 0.1)
    assert torch.equal(first, again)
    assert float(first.float().std()) == pytest.approx(25.5, rel=0.02)


def predictions(confidence, correct):
    count = len(confidence)
    probabilities = torch.stack([torch.tensor(confidence), 1 - torch.tensor(confidence)], dim=1)
    digits = torch.tensor([0 if one else 1 for one in correct])
    return {
        "digit_probabilities": probabilities,
        "predicted_digit": torch.zeros(count, dtype=torch.long),
        "digit": digits,
        "predicted_sum": torch.zeros(count, dtype=torch.long),
        "sum": digits,
        "image_index": torch.arange(count),
    }


def test_the_bins_of_reliability_add_up_to_the_calibration_error():
    given = predictions([0.55, 0.58, 0.72, 0.92, 0.95, 1.0], [True, False, True, True, False, True])
    bins = robustness.reliability(given, "digit", 10)
    assert [one["answers"] for one in bins] == [2, 1, 3]
    error = sum(one["answers"] * abs(one["confidence"] - one["accuracy"]) for one in bins) / 6
    assert error == pytest.approx(calibration_error(given["digit_probabilities"], given["digit"], 10), abs=1e-4)


def test_doubtful_labels_are_left_out_of_one_accuracy():
    count = max(robustness.DOUBTFUL) + 1
    correct = [index not in robustness.DOUBTFUL[:5] and index != 0 for index in range(count)]
    found = robustness.doubtful(predictions([0.9] * count, correct))
    assert found == {
        "images": 15,
        "correct_as_labelled": 10,
        "joint_accuracy": round(1 - 6 / count, 4),
        "joint_accuracy_without_them": round(1 - 1 / (count - 15), 4),
    }


def test_a_file_that_is_not_the_one_of_dvc_lock_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "PIPELINE", tmp_path)
    lock = "stages: {train: {outs: [{path: models/digitsum.safetensors, md5: 5d41402abc4b2a76b9719d911017c592}]}}"
    (tmp_path / "dvc.lock").write_text(lock)
    with pytest.raises(DigitsumError, match="digitsum.safetensors is missing; run `cd .* && dvc repro`"):
        pipeline.pipeline_file("train", "models/digitsum.safetensors")
    model = tmp_path / "models/digitsum.safetensors"
    model.parent.mkdir()
    model.write_text("hello")
    assert pipeline.pipeline_file("train", "models/digitsum.safetensors") == model
    model.write_text("other")
    with pytest.raises(DigitsumError, match="is not what dvc.lock records; run `cd .* && digitsum verify --repair`"):
        pipeline.pipeline_file("train", "models/digitsum.safetensors")
