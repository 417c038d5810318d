"""What keeps an answer from being given as sure: too little ink, too little evidence of a digit, a low probability."""

from dataclasses import dataclass

from torch import Tensor

from digitsum.core.params import number

SURE = 0.9  # least probability of the digit; it is calibrated, so such answers are right nine times in ten or more
# Least contrast between ink and paper, in grey levels, and in multiples of the paper's noise. Blank paper under any
# light that studies/other_hands tries stays below, pencil on grey paper lies above.
LEAST_CONTRAST, LEAST_SIGNAL = 14, 20
ENCLOSED = 3  # of the evidence of light ink within dark ink, or the other way: it is more often a hole than a digit


@dataclass(frozen=True)
class Limits:
    """Least evidence of an image, from the validation split. Below `no_digit` it shows none, below `unsure` perhaps."""

    no_digit: float = number(at_least=-1000, at_most=1000)
    unsure: float = number(at_least=-1000, at_most=1000)


NO_LIMITS = Limits(-1000, -1000)  # of a network that was trained without a validation split


def evidence(digit_logits: Tensor) -> Tensor:
    """Return the log of the sum of exponentials of calibrated logits [N, 10]: float [N], high if a digit is likely.

    It is minus the energy of Liu et al., "Energy-based Out-of-distribution Detection", arXiv 2010.03759. Unlike the
    highest probability it is low if no class has a high logit.
    """
    return digit_logits.logsumexp(dim=1)


def verdict(evidence: float, probability: float, limits: Limits | None) -> str:
    """Return "sure", "unsure" or "no digit" for the evidence of an image and the probability of its digit."""
    limits = limits or NO_LIMITS
    if evidence < limits.no_digit:
        return "no digit"
    return "unsure" if evidence < limits.unsure or probability < SURE else "sure"
