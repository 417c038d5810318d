"""The loss of a batch, and the scores of many."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from digitsum.model.fusions import possible_sums
from digitsum.training.params import Train


class Scores(NamedTuple):
    """Means over pairs: losses in nats, `loss` the one that training minimises; accuracies in 0-1."""

    loss: float
    digit_loss: float
    sum_loss: float
    digit_accuracy: float
    sum_accuracy: float
    joint_accuracy: float


def pair_losses(
    digit_logits: Tensor, sum_logits: Tensor, digits: Tensor, numbers: Tensor, params: Train
) -> tuple[Tensor, Tensor]:
    """Return the batch's mean cross-entropies of the digit and of the sum, in nats.

    Label smoothing (Szegedy et al., arXiv 1512.00567) spreads a part of the target evenly over the ten digits, and
    over the ten sums that the number allows: the other nine sums are known to be wrong.

    Args:
        digit_logits: float [N, 10].
        sum_logits: float [N, 19].
        digits, numbers: int64 [N], the digit's label and the number.
        params: `softmax_first` and `label_smoothing` are used.
    """
    if params.softmax_first:
        digit_logits, sum_logits = digit_logits.softmax(dim=1), sum_logits.softmax(dim=1)
    digit_loss = functional.cross_entropy(digit_logits, digits, label_smoothing=params.label_smoothing)
    # The ten sums that the number allows, in the order of the digit: the correct one stands at the digit's position.
    allowed = functional.log_softmax(sum_logits, dim=1).gather(1, possible_sums(numbers))
    correct = allowed.gather(1, digits.unsqueeze(1)).mean()
    return digit_loss, -(1 - params.label_smoothing) * correct - params.label_smoothing * allowed.mean()


def batch_totals(
    digit_logits: Tensor, sum_logits: Tensor, digits: Tensor, numbers: Tensor, losses: tuple[Tensor, Tensor]
) -> Tensor:
    """Return totals of a batch, float [5]: the losses of digit and sum; how many digits, sums and both are correct."""
    digit_correct, sum_correct = digit_logits.argmax(1) == digits, sum_logits.argmax(1) == digits + numbers
    counts = [correct.sum() for correct in (digit_correct, sum_correct, digit_correct & sum_correct)]
    return torch.stack([*(loss.detach() * len(digits) for loss in losses), *counts])


def mean_scores(totals: Tensor, pairs: int, params: Train) -> Scores:
    """Return the scores of `pairs` pairs with these `totals`, float [5]."""
    digit_loss, sum_loss, *accuracies = (totals / pairs).tolist()
    loss = (1 - params.sum_loss_share) * digit_loss + params.sum_loss_share * sum_loss
    return Scores(loss, digit_loss, sum_loss, *accuracies)
