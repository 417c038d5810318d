"""Metrics of a set of predictions: the headline, figures per class, and confusion counts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix, precision_recall_fscore_support
from torch import Tensor

from digitsum.evaluation.predict import Predictions

DECIMALS = 4  # what 10,000 test images can carry: one image is 0.0001
FIGURES = ("class", "precision", "recall", "f1", "support", "tp", "fp", "fn", "tn")


def headline_metrics(
    predictions: Predictions, all_numbers: dict[str, float], calibration_bins: int
) -> dict[str, dict[str, float]]:
    """Return accuracies (0-1), losses (mean cross-entropy in nats) and calibration errors (0-1), rounded."""
    metrics, correct = {}, {}
    for answer, actual, probabilities, loss in (
        ("digit", predictions.digits, predictions.digit_probabilities, predictions.digit_loss),
        ("sum", predictions.sums, predictions.sum_probabilities, predictions.sum_loss),
    ):
        correct[answer] = probabilities.argmax(dim=1) == actual
        metrics[answer] = {
            "accuracy": correct[answer].double().mean().item(),
            "loss": loss.double().mean().item(),
            "calibration_error": calibration_error(probabilities, actual, calibration_bins),
        }
    joint_accuracy = (correct["digit"] & correct["sum"]).double().mean().item()
    metrics |= {"joint": {"accuracy": joint_accuracy}, "all_numbers": all_numbers}
    return {group: {key: round(value, DECIMALS) for key, value in values.items()} for group, values in metrics.items()}


def calibration_error(probabilities: Tensor, actual: Tensor, bins: int) -> float:
    """Return the expected calibration error, 0-1: the mean distance between confidence and accuracy.

    Predictions are sorted into `bins` bins of equal width by their probability (Guo et al., arXiv 1706.04599, sec. 2).
    probabilities float [P, C], actual int64 [P]. By hand, because scikit-learn has none.
    """
    confidence, predicted = (values.numpy() for values in probabilities.double().max(dim=1))
    correct = (predicted == actual.numpy()).astype(np.float64)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_of, confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(correct))


def per_class_metrics(predictions: Predictions) -> dict[str, list[dict[str, Any]]]:
    """Return precision, recall, F1, support, TP, FP, FN and TN of each digit and each sum, one record a class.

    A class that never occurs or is never answered has 0 where the ratio would be 0 / 0.
    Lists, because DVC then takes the 29 classes for a table and not for 232 separate metrics.
    """
    table = {}
    for answer in ("digit", "sum"):
        actual, predicted, labels = _labels_and_predictions(predictions, answer)
        *ratios, support = precision_recall_fscore_support(actual, predicted, labels=labels, zero_division=0)
        tn, fp, fn, tp = multilabel_confusion_matrix(actual, predicted, labels=labels).reshape(-1, 4).T
        columns = [
            labels,
            *([round(value, DECIMALS) for value in ratio.tolist()] for ratio in ratios),
            *(counts.tolist() for counts in (support, tp, fp, fn, tn)),
        ]
        table[answer] = [dict(zip(FIGURES, row, strict=True)) for row in zip(*columns, strict=True)]
    return table


def confusion_counts(predictions: Predictions, answer: str) -> NDArray[np.int64]:
    """Return counts, int64 [C, C], of actual (rows) against predicted (columns) classes of `answer`: digit or sum."""
    actual, predicted, labels = _labels_and_predictions(predictions, answer)
    return confusion_matrix(actual, predicted, labels=labels)


def _labels_and_predictions(predictions: Predictions, answer: str) -> tuple[NDArray[Any], NDArray[Any], range]:
    if answer == "digit":
        return predictions.digits.numpy(), predictions.predicted_digits.numpy(), range(10)
    return predictions.sums.numpy(), predictions.predicted_sums.numpy(), range(19)
