"""Is a difference between two trained models more than noise? Intervals and exact tests, image by image.

Both models answer for the same test images, so what tells them apart are the images that one has right and the other
wrong. Pairs that share an image are not independent: an image counts once, by the part of its pairs that is right.
These are statements about two trained models. About two configurations only runs with several seeds say something.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, binomtest, fisher_exact, norm

LEVEL = 0.05  # of every test; an interval holds 1 - LEVEL
Z = float(norm.ppf(1 - LEVEL / 2))


@dataclass(frozen=True)
class Difference:
    """Two accuracies, 0-1, their difference with its 95 % interval, and how surprising it is if there is none.

    lost, won: images that got worse and better; None where predictions are missing. p: probability, 0-1, of a
    difference at least as large between two models that are equally good.
    """

    base: float
    head: float
    low: float
    high: float
    p: float
    lost: int | None = None
    won: int | None = None

    @property
    def change(self) -> float:
        """By how much head is better than base, -1 to 1."""
        return self.head - self.base


def wilson(right: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of one accuracy (Wilson, 1927)."""
    interval = binomtest(right, total).proportion_ci(1 - LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def share_of_pairs(image: NDArray[np.int64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return what part of each image's pairs is right, float [M], in the order of the images' numbers.

    image int64 [P]: which image a pair is of; right bool [P].
    """
    _, place, pairs = np.unique(image, return_inverse=True, return_counts=True)
    return np.bincount(place, right) / pairs


def paired(base: NDArray[np.float64], head: NDArray[np.float64]) -> Difference:
    """Compare two models on the same images; `base` and `head`, float [M], are the part that is right of each image.

    The p-value is that of the exact sign test over the images that differ; if an image has one pair this is McNemar's
    exact test. The interval is Bonett and Price's (2012, J. Educ. Behav. Stat. 37): Wald's, after one more image is
    lost and one more is won, which keeps its promise where only few images differ.
    """
    change = head - base
    lost, won, images = int((change < 0).sum()), int((change > 0).sum()), len(change)
    centre = change.sum() / (images + 2)
    spread = np.sqrt(((change**2).sum() + 2) / (images + 2) - centre**2)
    reach = Z * spread / np.sqrt(images + 2)
    p = binomtest(lost, lost + won).pvalue if lost + won else 1.0
    low, high = max(-1.0, centre - reach), min(1.0, centre + reach)
    return Difference(float(base.mean()), float(head.mean()), float(low), float(high), float(p), lost, won)


def unpaired(base_right: int, head_right: int, total: int) -> Difference:
    """Compare two models by what each has right of `total` images, when it is not known which.

    Fisher's exact test and Newcombe's interval (1998, Statistics in Medicine 17, method 10) take the two for answers
    about different images. They are about the same ones, so that both say less than could be said.
    """
    base, head = base_right / total, head_right / total
    (base_low, base_high), (head_low, head_high) = wilson(base_right, total), wilson(head_right, total)
    p = fisher_exact([[base_right, total - base_right], [head_right, total - head_right]]).pvalue
    low = head - base - np.hypot(head - head_low, base_high - base)
    high = head - base + np.hypot(head_high - head, base - base_low)
    return Difference(base, head, float(low), float(high), float(p))


def precision_p(right: NDArray[np.bool_], base: NDArray[np.bool_], head: NDArray[np.bool_]) -> float:
    """Test whether the precision of a class differs: bool [M], is it the class, does base say so, does head.

    If the models are equally good, each image's two answers might as well be swapped. Only images for which one model
    says the class and the other does not can change anything; how many of those that are right, and of those that are
    wrong, fall to one model are then two binomial numbers. All their combinations are counted, so the test is exact.
    """
    both, either = base & head, base ^ head
    rights, wrongs = int((either & right).sum()), int((either & ~right).sum())
    rights_of_both, wrongs_of_both = int((both & right).sum()), int((both & ~right).sum())
    # A row for each number of right answers that fall to one model, a column for each number of wrong ones.
    true, false = np.arange(rights + 1)[:, None], np.arange(wrongs + 1)[None, :]

    def gap(true: NDArray[np.int64], false: NDArray[np.int64]) -> NDArray[np.float64]:
        one, other = rights_of_both + true, rights_of_both + rights - true
        one_said, other_said = one + wrongs_of_both + false, other + wrongs_of_both + wrongs - false
        return np.abs(one / np.maximum(one_said, 1) - other / np.maximum(other_said, 1))

    chance = binom.pmf(true, rights, 0.5) * binom.pmf(false, wrongs, 0.5)
    seen = gap((head & right & either).sum(), (head & ~right & either).sum())
    return float(min(1.0, chance[gap(true, false) >= seen - 1e-12].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct for having looked at many: Holm's step-down method (1979, Scand. J. Statistics 6)."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def probability_of_beating(one: Mapping[int, float], other: Mapping[int, float]) -> float:
    """Return the part of the seeds with which `one`, a score by seed, is higher than `other`, ties for a half.

    An estimate of the probability of outperforming (Bouthillier et al., "Accounting for Variance in Machine Learning
    Benchmarks", arXiv 2103.03098), the runs being paired by seed. Raises ValueError if the seeds are not the same.
    """
    if one.keys() != other.keys():
        raise ValueError(f"seeds {sorted(one)} and {sorted(other)} are no pairs")
    return mean(1.0 if one[seed] > other[seed] else 0.5 if one[seed] == other[seed] else 0.0 for seed in one)
