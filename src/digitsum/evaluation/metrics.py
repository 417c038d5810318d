"""Metrics of a set of predictions: the headline and figures per class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import multilabel_confusion_matrix, precision_recall_fscore_support
from torch import Tensor

from digitsum.evaluation.predict import AllNumbersScore, Predictions

DECIMALS = 4  # what 10,000 test images can carry: one image is 0.0001


def headline_metrics(
    predictions: Predictions, all_numbers: AllNumbersScore, calibration_bins: int
) -> dict[str, dict[str, float]]:
    """Return accuracies (0-1), losses (mean cross-entropy in nats) and calibration errors (0-1), rounded."""
    digit_correct = predictions.predicted_digits == predictions.digits
    sum_correct = predictions.predicted_sums == predictions.sums
    metrics = {
        "digit": {
            "accuracy": _mean(digit_correct),
            "loss": _mean(predictions.digit_loss),
            "calibration_error": calibration_error(
                predictions.digit_probabilities, predictions.digits, calibration_bins
            ),
        },
        "sum": {
            "accuracy": _mean(sum_correct),
            "loss": _mean(predictions.sum_loss),
            "calibration_error": calibration_error(predictions.sum_probabilities, predictions.sums, calibration_bins),
        },
        "joint": {"accuracy": _mean(digit_correct & sum_correct)},
        "all_numbers": {
            "sum_accuracy": all_numbers.sum_accuracy,
            "joint_accuracy": all_numbers.joint_accuracy,
        },
    }
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
    for answer, (actual, predicted, classes) in labels_and_predictions(predictions).items():
        labels = range(classes)
        ratios = precision_recall_fscore_support(actual, predicted, labels=labels, zero_division=0)
        counts = multilabel_confusion_matrix(actual, predicted, labels=labels)
        table[answer] = [
            {
                "class": label,
                "precision": round(float(precision), DECIMALS),
                "recall": round(float(recall), DECIMALS),
                "f1": round(float(f1), DECIMALS),
                "support": int(support),
                "tp": int(tp),
                "fp": int(fp),
                "fn": int(fn),
                "tn": int(tn),
            }
            for label, precision, recall, f1, support, ((tn, fp), (fn, tp)) in zip(labels, *ratios, counts, strict=True)
        ]
    return table


def labels_and_predictions(predictions: Predictions) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64], int]]:
    """Return for each answer the actual classes, the predicted ones, int64 [P], and the number of classes."""
    return {
        "digit": (predictions.digits.numpy(), predictions.predicted_digits.numpy(), 10),
        "sum": (predictions.sums.numpy(), predictions.predicted_sums.numpy(), 19),
    }


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
