"""What is fitted on the validation split once training has ended: temperatures, and limits of the evidence of a digit.

A temperature is one number for each answer, so that of the answers given with 90 %, 90 % are right. Dividing the logits
by it changes no answer (Guo et al., arXiv 1706.04599, sec. 4.2). Label smoothing makes a network less sure than it is
right: its temperature is below 1.
"""

import torch
from torch import Tensor

from digitsum.data.splits import Split
from digitsum.model.evidence import Limits, evidence
from digitsum.model.network import Network

LOWEST, HIGHEST = 1 / 64, 64.0
HALVINGS = 40  # of the interval between them: to its last float32
# Shares of the validation images with less evidence than the limits: studies/other_hands shows what they do.
NO_DIGIT, UNSURE = 0.002, 0.08


@torch.no_grad()
def fit_temperatures(network: Network, split: Split, digit_logits: Tensor, sum_logits: Tensor) -> None:
    """Set the temperatures that give `split` the lowest cross-entropy; both stay 1 if it is the test split.

    The logits, float [P, 10] and [P, 19], are those of `split`. A fusion without weights takes its sums from the
    digits, so it has their temperature.
    """
    if split.is_test:
        return
    digits = split.digits[split.image_index].long()
    network.digit_temperature.fill_(fitted_temperature(digit_logits, digits))
    if any(True for _ in network.fusion.parameters()):
        network.sum_temperature.fill_(fitted_temperature(sum_logits, split.sums))
    else:
        network.sum_temperature.copy_(network.digit_temperature)


def fitted_limits(network: Network, split: Split, digit_logits: Tensor) -> Limits | None:
    """Return the limits that NO_DIGIT and UNSURE of `split` fall below; None if it is the test split.

    The logits, float [P, 10], are those of `split`, not calibrated.
    """
    if split.is_test:
        return None
    found = evidence(digit_logits.cpu().double() / network.digit_temperature.cpu()).sort().values
    no_digit, unsure = (round(float(found[int(share * len(found))]), 4) for share in (NO_DIGIT, UNSURE))
    return Limits(no_digit, unsure)


def fitted_temperature(logits: Tensor, classes: Tensor) -> float:
    """Return the temperature of `logits`, float [N, C], with the lowest cross-entropy for the actual `classes` [N].

    The cross-entropy is convex in 1 / temperature, and its slope there is the mean over N of the expected logit minus
    the actual one. So the slope's sign tells on which side the lowest point is.
    """
    # A row for each class takes a sixth of the time: PyTorch's softmax is fast across long rows, slow along short ones.
    logits, classes = logits.cpu().double().T.contiguous(), classes.cpu()
    actual = logits.gather(0, classes.unsqueeze(0)).mean()
    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        expected = ((middle * logits).softmax(dim=0) * logits).sum(dim=0).mean()
        low, high = (middle, high) if expected < actual else (low, middle)
    return 1 / (low * high) ** 0.5
