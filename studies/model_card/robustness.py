"""Stage robustness: how the committed model withstands what it was not trained on.

Images that are shifted, rotated, noisy and blurred at several strengths; how far the probabilities can be trusted; and
the accuracy without the test images whose label is known to be doubtful.

Model, test split and predictions are the pipeline's, which are not in git. The stage depends on the digests in
../../dvc.lock that stand for them.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from digitsum.core.files import write_json
from digitsum.core.numerics import Compute, configure_torch
from digitsum.core.runner import Stage
from digitsum.data.splits import Split, load_split
from digitsum.data.tensors import identity, load_tensors
from digitsum.evaluation.params import Evaluate
from digitsum.evaluation.predict import encode_images, score_all_numbers
from digitsum.model.network import Network, load_model
from digitsum.plotting.canvas import BLUE, GREEN, ORANGE, new_axis, new_figure, save_png
from studies.pipeline import pipeline_file

# Test images without a majority among the people who were asked what they show (label-errors, mturk/mnist_mturk.json).
DOUBTFUL = [947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729]
Disturbance = Callable[[Tensor, float], list[Tensor]]
"""From images, uint8 [M, 28, 28], and a strength to disturbed versions of them, over which the mean is reported."""


def main(stage: Stage) -> None:
    """Read model, test split and predictions; write robustness.json and two figures."""
    configure_torch(stage.params(Compute))
    model = pipeline_file("train", "models/digitsum.safetensors")
    network = load_model(model)
    test = load_split(pipeline_file("pair", "data/paired/test.safetensors"))
    predictions, _ = load_tensors(pipeline_file("evaluate", "data/predictions/test.safetensors"))
    accuracies = {}
    for name, what in DISTURBANCES.items():
        accuracies[name] = dict(curve(network, test, *what))
        print(f"{name}: {accuracies[name]}", flush=True)
    calibration_bins = stage.params(Evaluate).calibration_bins
    bins = {answer: reliability(predictions, answer, calibration_bins) for answer in ("digit", "sum")}
    results = {
        "identity": identity(*load_tensors(model)),
        "all_numbers_joint_accuracy": accuracies,
        "doubtful_labels": doubtful(predictions),
        "reliability": bins,
    }
    write_json(Path("robustness.json"), results)
    draw_robustness(Path("plots/robustness.png"), accuracies)
    draw_reliability(Path("plots/reliability.png"), bins)


# --- Disturbances --------------------------------------------------------------------------------------------------


def shifted(images: Tensor, pixels: float) -> list[Tensor]:
    """Shift images by whole pixels in each of the four directions; black comes in."""
    ways = [(pixels, 0), (-pixels, 0), (0, pixels), (0, -pixels)]
    return [transforms.affine(images, 0, [int(x), int(y)], 1, [0.0]) for x, y in ways]


def rotated(images: Tensor, degrees: float) -> list[Tensor]:
    """Rotate images about their centre, both ways."""
    return [transforms.rotate(images, way * degrees, InterpolationMode.BILINEAR) for way in (1, -1)]


def noisy(images: Tensor, deviation: float) -> list[Tensor]:
    """Add normal noise to every pixel, its standard deviation a part of the range from black to white."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return [(images + 255 * deviation * noise).clamp(0, 255).round().byte()]


def blurred(images: Tensor, deviation: float) -> list[Tensor]:
    """Blur images with a normal kernel, its standard deviation in pixels."""
    return [transforms.gaussian_blur(images, [9, 9], [deviation, deviation])]


DISTURBANCES: dict[str, tuple[str, Disturbance, list[float]]] = {
    "shift": ("pixels", shifted, [1, 2, 3, 4, 6]),
    "rotation": ("degrees", rotated, [10, 20, 30, 45, 60]),
    "noise": ("standard deviation, of the range", noisy, [0.1, 0.2, 0.3, 0.4, 0.6]),
    "blur": ("standard deviation, pixels", blurred, [0.5, 1, 1.5, 2, 3]),
}


def curve(
    network: Network, test: Split, unit: str, disturb: Disturbance, strengths: list[float]
) -> Iterator[tuple[str, float]]:
    """Return the joint accuracy with all ten numbers, 0-1, undisturbed and at each strength."""
    yield "0", accuracy(network, test, test.images)
    for strength in strengths:
        versions = [accuracy(network, test, images) for images in disturb(test.images, strength)]
        yield f"{strength:g}", round(sum(versions) / len(versions), 4)


def accuracy(network: Network, test: Split, images: Tensor) -> float:
    """Return the joint accuracy over `images`, uint8 [M, 28, 28], in place of those of `test`, with all ten numbers."""
    return round(score_all_numbers(network, test, encode_images(network, images))["joint_accuracy"], 4)


# --- What the predictions show -------------------------------------------------------------------------------------


def reliability(predictions: dict[str, Tensor], answer: str, bins: int) -> list[dict[str, float]]:
    """Return for each bin of equal width that has answers their number, mean probability and accuracy."""
    confidence = predictions[f"{answer}_probabilities"].double().max(dim=1).values.numpy()
    correct = (predictions[f"predicted_{answer}"] == predictions[answer]).numpy()
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        {
            "answers": int((place == one).sum()),
            "confidence": round(float(confidence[place == one].mean()), 4),
            "accuracy": round(float(correct[place == one].mean()), 4),
        }
        for one in range(bins)
        if (place == one).any()
    ]


def doubtful(predictions: dict[str, Tensor]) -> dict[str, Any]:
    """Return the joint accuracy with and without images whose label is doubtful, and how many of these are correct."""
    correct = (predictions["predicted_digit"] == predictions["digit"]) & (
        predictions["predicted_sum"] == predictions["sum"]
    )
    among = torch.isin(predictions["image_index"], torch.tensor(DOUBTFUL))
    return {
        "images": len(DOUBTFUL),
        "correct_as_labelled": int(correct[among].sum()),
        "joint_accuracy": round(float(correct.double().mean()), 4),
        "joint_accuracy_without_them": round(float(correct[~among].double().mean()), 4),
    }


# --- Figures -------------------------------------------------------------------------------------------------------


def draw_robustness(path: Path, accuracies: dict[str, dict[str, float]]) -> None:
    """Draw each disturbance's accuracy against its strength."""
    figure = new_figure(12, 3.4)
    for place, (name, of) in enumerate(accuracies.items()):
        axis = new_axis(figure, left=0.6 + 3 * place, right=0.15 + 3 * (3 - place), bottom=0.6, top=0.4)
        strengths, percent = [float(strength) for strength in of], [100 * value for value in of.values()]
        axis.plot(strengths, percent, "o-", color=BLUE)
        for strength, value in zip(strengths, percent, strict=True):
            axis.annotate(
                f"{value:.1f}", (strength, value), (0, -12), textcoords="offset points", ha="center", fontsize=7
            )
        axis.set_ylim(0, 105)
        axis.margins(x=0.12)
        axis.set_xlabel(DISTURBANCES[name][0], fontsize=9)
        axis.set_title(name, fontsize=10)
        axis.grid(alpha=0.3)
        if place == 0:
            axis.set_ylabel("digit and sum right, %")
    save_png(path, figure)


def draw_reliability(path: Path, bins: dict[str, list[dict[str, float]]]) -> None:
    """Draw the accuracy of answers against their probability."""
    figure = new_figure(5, 4.6)
    axis = new_axis(figure, left=0.7, right=0.2, bottom=0.6, top=0.4)
    axis.plot([0, 100], [0, 100], color=GREEN, linestyle=":", label="as sure as right")
    for answer, colour, marker in (("digit", BLUE, "o"), ("sum", ORANGE, "x")):
        confidence, right = ([100 * one[key] for one in bins[answer]] for key in ("confidence", "accuracy"))
        axis.plot(confidence, right, f"{marker}-", color=colour, label=answer)
    for one in bins["digit"]:
        place = (100 * one["confidence"], 100 * one["accuracy"])
        axis.annotate(f"{one['answers']:,}", place, (4, -10), textcoords="offset points", fontsize=7)
    axis.set_xlabel("probability that the network gives its answer, %")
    axis.set_ylabel("answers that are right, %")
    axis.set_title("Reliability on the test split, with the number of answers", fontsize=10)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    save_png(path, figure)
