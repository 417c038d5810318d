"""Predictions for the test split, and the scores with all ten numbers."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from digitsum.data.splits import Split
from digitsum.model.network import Network
from digitsum.tensors import save_tensors

BATCH = 500  # images at once; a fixed number, because sums of floats depend on how they are grouped


class Evidence(NamedTuple):
    """What the network says of M images before it hears a number: digit_logits float32 [M, 10], seen float32 [M, S].

    `seen` is what its fusion takes from the embeddings.
    """

    digit_logits: Tensor
    seen: Tensor


@dataclass(frozen=True)
class Predictions:
    """What is true and what the network says, for each of P pairs.

    image_index, digits, numbers, sums: int64 [P]; digit_probabilities float32 [P, 10], sum_probabilities float32
    [P, 19]; digit_loss and sum_loss float32 [P]: minus the log of the right answer's probability, in nats.
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


@dataclass(frozen=True)
class AllNumbersScore:
    """Accuracies over every test image with every number 0-9, each in 0-1."""

    sum_accuracy: float
    joint_accuracy: float


@torch.no_grad()
def see_images(network: Network, images: Tensor) -> Evidence:
    """Have the network read uint8 `images` [M, 28, 28], each once, whatever numbers will be asked of it."""
    reader, parts = _folded(network), []
    for batch in images.split(BATCH):
        digit_logits, embedding = reader.read(batch.float())
        parts.append((digit_logits, reader.fusion.see(embedding)))
    return Evidence(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _folded(network: Network) -> Network:
    """Give a copy with each batch normalisation folded into the convolution before it: a quarter less time."""
    network = copy.deepcopy(network).eval()
    for block in network.trunk.embed:
        match [*block.children()]:
            case [nn.Conv2d() as convolution, nn.BatchNorm2d() as normalisation, *_]:
                block = cast(nn.Sequential, block)
                block[0], block[1] = fuse_conv_bn_eval(convolution, normalisation), nn.Identity()
    return network.to(memory_format=torch.channels_last)


@torch.no_grad()
def predict(network: Network, split: Split, evidence: Evidence) -> Predictions:
    """Give the network's predictions for all pairs of `split`, in the split's order."""
    parts = []
    image_index, numbers = split.image_index.long(), split.numbers.long()
    digits = split.digits[image_index].long()
    sums = digits + numbers
    for images_of_batch, numbers_of_batch in zip(image_index.split(BATCH), numbers.split(BATCH), strict=True):
        of_batch = evidence.digit_logits[images_of_batch], evidence.seen[images_of_batch]
        digit_logits, sum_logits = network.fusion.join(*of_batch, numbers_of_batch)
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
def right_with_all_numbers(network: Network, split: Split, evidence: Evidence) -> tuple[Tensor, Tensor]:
    """Ask for every image of `split` with all ten numbers: is the sum right, are both; bool [10, M], a row a number."""
    digits, sums_right, both_right = split.digits.long(), [], []
    for number in range(10):
        digit_logits, sum_logits = network.fusion.join(*evidence, torch.full_like(digits, number))
        sums_right.append(sum_logits.argmax(1) == digits + number)
        both_right.append(sums_right[-1] & (digit_logits.argmax(1) == digits))
    return torch.stack(sums_right), torch.stack(both_right)


def score_all_numbers(network: Network, split: Split, evidence: Evidence) -> AllNumbersScore:
    """Score every image of `split` with all ten numbers: no luck of the draw."""
    rights = right_with_all_numbers(network, split, evidence)
    return AllNumbersScore(*(right.double().mean().item() for right in rights))


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write the predictions with what is true, the answers as uint8, for paired tests between two runs."""
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
