"""Predictions for the test split, and the scores with all ten numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from digitsum.core.numerics import in_threads
from digitsum.data.splits import Split
from digitsum.data.tensors import save_tensors
from digitsum.model.folded import folded
from digitsum.model.network import Network

BATCH = 250  # images at once; a fixed number, because sums of floats depend on how they are grouped


class ImageFeatures(NamedTuple):
    """What the network computes from M images without a number: digit_logits float32 [M, 10], embedding [M, E]."""

    digit_logits: Tensor
    embedding: Tensor


@dataclass(frozen=True)
class Predictions:
    """Labels and predictions of P pairs.

    image_index, digits, numbers, sums: int64 [P]; digit_probabilities float32 [P, 10], sum_probabilities float32
    [P, 19]; digit_loss and sum_loss float32 [P]: minus the log of the actual class's probability, in nats.
    """

    image_index: Tensor
    digits: Tensor
    numbers: Tensor
    sums: Tensor
    digit_probabilities: Tensor
    sum_probabilities: Tensor
    digit_loss: Tensor
    sum_loss: Tensor

    @property
    def predicted_digits(self) -> Tensor:
        """The most probable digit of each pair, int64 [P]."""
        return self.digit_probabilities.argmax(dim=1)

    @property
    def predicted_sums(self) -> Tensor:
        """The most probable sum of each pair, int64 [P]."""
        return self.sum_probabilities.argmax(dim=1)


def encode_images(network: Network, images: Tensor) -> ImageFeatures:
    """Encode uint8 `images` [M, 28, 28], each once, whatever numbers come with them."""
    encoder = folded(network)

    @torch.no_grad()
    def encode(batch: Tensor) -> tuple[Tensor, Tensor]:
        return encoder.encode(batch.float())

    parts = in_threads(encode, images.split(BATCH), images.device.type)
    return ImageFeatures(*(torch.cat(part) for part in zip(*parts, strict=True)))


@torch.no_grad()
def predict(network: Network, split: Split, features: ImageFeatures) -> Predictions:
    """Return the network's predictions for all pairs of `split`, in the split's order."""
    parts = []
    image_index, numbers = split.image_index.long(), split.numbers.long()
    digits = split.digits[image_index].long()
    sums = digits + numbers
    for images_of_batch, numbers_of_batch in zip(image_index.split(BATCH), numbers.split(BATCH), strict=True):
        of_batch = features.digit_logits[images_of_batch], features.embedding[images_of_batch]
        digit_logits, sum_logits = network.calibrated(*network.fusion(*of_batch, numbers_of_batch))
        # In float64 a probability that rounds to 0 in float32 still has a finite logarithm.
        parts.append((functional.log_softmax(digit_logits.double(), 1), functional.log_softmax(sum_logits.double(), 1)))
    digit_logs, sum_logs = (torch.cat(part) for part in zip(*parts, strict=True))
    return Predictions(
        image_index=image_index,
        digits=digits,
        numbers=numbers,
        sums=sums,
        digit_probabilities=digit_logs.exp().float(),
        sum_probabilities=sum_logs.exp().float(),
        digit_loss=functional.nll_loss(digit_logs, digits, reduction="none").float(),
        sum_loss=functional.nll_loss(sum_logs, sums, reduction="none").float(),
    )


@torch.no_grad()
def correct_with_all_numbers(network: Network, split: Split, features: ImageFeatures) -> tuple[Tensor, Tensor]:
    """Predict every image of `split` with each number; return whether the sum, and whether both, are correct.

    Two bool tensors [10, M], a row a number.
    """
    digits, sum_correct, both_correct = split.digits.long(), [], []
    for number in range(10):
        digit_logits, sum_logits = network.fusion(*features, torch.full_like(digits, number))
        sum_correct.append(sum_logits.argmax(1) == digits + number)
        both_correct.append(sum_correct[-1] & (digit_logits.argmax(1) == digits))
    return torch.stack(sum_correct), torch.stack(both_correct)


def score_all_numbers(network: Network, split: Split, features: ImageFeatures) -> dict[str, float]:
    """Return the accuracies, 0-1, over every image of `split` with all ten numbers: the drawn ones do not matter."""
    correct, both_correct = correct_with_all_numbers(network, split, features)
    return {"sum_accuracy": correct.double().mean().item(), "joint_accuracy": both_correct.double().mean().item()}


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions and labels, classes as uint8, for paired tests between two runs."""
    save_tensors(
        path,
        {
            "image_index": predictions.image_index,
            "digit": predictions.digits.to(torch.uint8),
            "number": predictions.numbers.to(torch.uint8),
            "sum": predictions.sums.to(torch.uint8),
            "predicted_digit": predictions.predicted_digits.to(torch.uint8),
            "predicted_sum": predictions.predicted_sums.to(torch.uint8),
            "digit_probabilities": predictions.digit_probabilities,
            "sum_probabilities": predictions.sum_probabilities,
            "digit_loss": predictions.digit_loss,
            "sum_loss": predictions.sum_loss,
        },
    )
