"""Metrics, tables and figures, on predictions whose scores are known by hand."""

import csv

import matplotlib.image
import pytest
import torch
from harness.tiny_mnist import split_raw
from harness.training import make_network
from torch.nn import functional

from digitsum.data.tensors import load_tensors
from digitsum.evaluation.confusion import draw_confusion, write_confusion
from digitsum.evaluation.metrics import calibration_error, confusion_counts, headline_metrics, per_class_metrics
from digitsum.evaluation.mistakes import draw_mistakes
from digitsum.evaluation.predict import Predictions, encode_images, predict, save_predictions, score_all_numbers
from digitsum.model.fusions import FUSIONS
from digitsum.model.trunks import TRUNKS


def predict_by_hand(digits, numbers, predicted_digits, predicted_sums):
    """Make predictions that give 0.9 to the predicted classes and spread the rest evenly."""

    def probabilities(predicted, classes):
        rest = torch.full((len(predicted), classes), 0.1 / (classes - 1))
        return rest.scatter(1, torch.tensor(predicted).unsqueeze(1), 0.9)

    digits, numbers = torch.tensor(digits), torch.tensor(numbers)
    of_digit, of_sum = probabilities(predicted_digits, 10), probabilities(predicted_sums, 19)
    return Predictions(
        image_index=torch.arange(len(digits)),
        digits=digits,
        numbers=numbers,
        sums=digits + numbers,
        digit_probabilities=of_digit,
        sum_probabilities=of_sum,
        digit_loss=functional.nll_loss(of_digit.log(), digits, reduction="none"),
        sum_loss=functional.nll_loss(of_sum.log(), digits + numbers, reduction="none"),
    )


# The sums are 1, 9, 3, 5, 7: both correct twice, digit wrong, sum wrong, both wrong.
FIVE = predict_by_hand(
    digits=[1, 5, 2, 3, 4], numbers=[0, 4, 1, 2, 3], predicted_digits=[1, 5, 7, 3, 9], predicted_sums=[1, 9, 3, 6, 18]
)


def test_the_headline_counts_digit_sum_and_both_and_has_four_decimals():
    assert headline_metrics(FIVE, {"sum_accuracy": 1 / 3, "joint_accuracy": 2 / 3}, 10) == {
        "digit": {"accuracy": 0.6, "loss": 1.8631, "calibration_error": 0.3},  # -(3 ln(0.9) + 2 ln(0.1 / 9)) / 5
        "sum": {"accuracy": 0.6, "loss": 2.1404, "calibration_error": 0.3},  # -(3 ln(0.9) + 2 ln(0.1 / 18)) / 5
        "joint": {"accuracy": 0.4},  # not the product, and not the mean, of the two
        "all_numbers": {"sum_accuracy": 0.3333, "joint_accuracy": 0.6667},
    }


def test_calibration_error_weighs_the_gap_of_each_bin_by_its_answers():
    probabilities = torch.tensor([[0.95, 0.05], [0.95, 0.05], [0.55, 0.45], [1.0, 0.0]])
    actual = torch.tensor([0, 1, 0, 0])
    # Bin 0.9-1: confidences 0.95, 0.95, 1, two of three correct; bin 0.5-0.6: 0.55, correct.
    expected = (abs(0.95 + 0.95 + 1.0 - 2) + abs(0.55 - 1)) / 4
    assert calibration_error(probabilities, actual, 10) == pytest.approx(expected)


def test_per_class_figures_are_right_for_every_digit_and_sum():
    table = per_class_metrics(FIVE)
    assert [record["class"] for record in table["digit"]] == list(range(10))
    assert [record["class"] for record in table["sum"]] == list(range(19))
    assert table["digit"][1] == {
        "class": 1, "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1, "tp": 1, "fp": 0, "fn": 0, "tn": 4
    }  # fmt: skip
    assert table["digit"][7] == {
        "class": 7, "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0, "tp": 0, "fp": 1, "fn": 0, "tn": 4
    }  # fmt: skip
    assert table["sum"][5]["fn"] == table["sum"][6]["fp"] == 1
    for records in table.values():
        assert all(record["tp"] + record["fp"] + record["fn"] + record["tn"] == 5 for record in records)
        assert sum(record["support"] for record in records) == 5


@pytest.mark.parametrize(
    ("answer", "classes", "cells"),
    [
        ("digit", 10, [(1, 1), (2, 7), (3, 3), (4, 9), (5, 5)]),
        ("sum", 19, [(1, 1), (3, 3), (5, 6), (7, 18), (9, 9)]),
    ],
)
def test_the_confusion_table_has_a_row_for_every_cell_in_numeric_order(tmp_path, answer, classes, cells):
    write_confusion(tmp_path / "table.csv", confusion_counts(FIVE, answer))
    with (tmp_path / "table.csv").open() as file:
        rows = [tuple(map(int, row.values())) for row in csv.DictReader(file)]
    assert [row[:2] for row in rows] == [(a, p) for a in range(classes) for p in range(classes)]
    assert [row[:2] for row in rows if row[2] == 1] == cells
    assert sum(row[2] for row in rows) == 5


@pytest.mark.parametrize("shown", [1, 40])
def test_figures_are_drawn_with_and_without_mistakes_and_name_no_version(splits, tmp_path, shown):
    perfect = predict_by_hand([1, 2], [3, 4], [1, 2], [4, 6])
    for predictions in (FIVE, perfect):
        for answer in ("digit", "sum"):
            draw_confusion(tmp_path / f"{answer}.png", answer, confusion_counts(predictions, answer))
        draw_mistakes(tmp_path / "mistakes.png", predictions, splits["test"], shown)
        for figure in (tmp_path / f"{name}.png" for name in ("digit", "sum", "mistakes")):
            assert matplotlib.image.imread(figure).ndim == 3
            assert b"Matplotlib" not in figure.read_bytes()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_all_numbers_scores_every_image_with_every_number(splits, fusion):
    torch.manual_seed(0)
    network, test = make_network(fusion).eval(), splits["test"]
    digits = test.digits.long()
    sum_correct = joint_correct = 0
    with torch.no_grad():
        for number in range(10):
            digit_logits, sum_logits = network(test.images, torch.full((100,), number))
            correct = sum_logits.argmax(1) == digits + number
            sum_correct += int(correct.sum())
            joint_correct += int((correct & (digit_logits.argmax(1) == digits)).sum())
    scores = score_all_numbers(network, test, encode_images(network, test.images))
    assert scores == {"sum_accuracy": sum_correct / 1000, "joint_accuracy": joint_correct / 1000}


@pytest.mark.parametrize("trunk", TRUNKS)
def test_folding_batch_normalisation_changes_the_features_by_rounding_only(splits, trunk):
    torch.manual_seed(0)
    network, images = make_network("baseline_concat", trunk=trunk), splits["test"].images
    for _ in range(3):
        network.encode(images.float())  # in training mode: batch normalisation learns means and variances
    before = {name: tensor.clone() for name, tensor in network.eval().state_dict().items()}
    with torch.no_grad():
        features = network.encode(images.float())
    for found, expected in zip(encode_images(network, images), features, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_predictions_hold_labels_classes_and_probabilities_of_every_test_pair(raw, tmp_path):
    torch.manual_seed(0)
    network, test = make_network("concat").eval(), split_raw(raw, 50, 2, 0)["test"]
    predictions = predict(network, test, encode_images(network, test.images))
    save_predictions(tmp_path / "predictions", predictions)
    tensors, _ = load_tensors(tmp_path / "predictions")
    images, _, numbers = test[:]
    with torch.no_grad():
        digit_logits, sum_logits = network(images, numbers)
    torch.testing.assert_close(tensors["digit_probabilities"], digit_logits.softmax(1))
    torch.testing.assert_close(tensors["sum_probabilities"], sum_logits.softmax(1))
    assert torch.equal(tensors["predicted_digit"].long(), digit_logits.argmax(1))
    assert torch.equal(tensors["predicted_sum"].long(), sum_logits.argmax(1))
    assert torch.equal(tensors["image_index"], test.image_index.long())
    assert torch.equal(tensors["digit"].long() + tensors["number"].long(), test.sums)
    expected_loss = functional.cross_entropy(sum_logits, test.sums, reduction="none")
    torch.testing.assert_close(tensors["sum_loss"], expected_loss)


def test_a_certain_mistake_has_a_finite_loss(splits):
    """The loss comes from logits: from a probability that rounds to 0 it would be infinite."""
    network, test = make_network("shift").eval(), splits["test"]
    with torch.no_grad():
        network.trunk.classify.bias[3] = 300.0
    predictions = predict(network, test, encode_images(network, test.images))
    for loss in (predictions.digit_loss, predictions.sum_loss):
        assert 200 < loss.mean() < torch.inf
