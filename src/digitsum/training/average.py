"""The running average of the weights, which becomes the model."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UP = 10  # steps in which the average keeps less, or a short training would keep its initial weights


def running_average(
    decay: float, averaged_steps: Tensor
) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Return the rule of an average that keeps `decay` of itself a step, and less in the first steps.

    At step n it keeps (1 + n) / (10 + n), as TensorFlow's ExponentialMovingAverage does, until that exceeds `decay`.
    averaged_steps: n, a tensor on the CPU. The rule gets one on the device, too, but reading that makes a GPU wait.
    """

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], _: Tensor | int) -> None:
        kept = min(decay, (1 + int(averaged_steps)) / (WARM_UP + int(averaged_steps)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(list(averaged), list(current), 1 - kept)
        else:  # counts of batch normalisation
            for mean, now in zip(averaged, current, strict=True):
                mean.copy_(now)

    return update
