"""Is a difference between two trained models more than noise? Intervals and exact tests, image by image.

Both models predict the same test images, so they are told apart by the images that only one of them has correct. Pairs
that share an image are not independent: an image counts once, by the share of its pairs that are correct. The tests
are about two trained models. Statements about two configurations need runs with several seeds.

Written here because numpy and scipy lack them: Holm's correction, the intervals of a difference, and a test of two
precisions on the same images.
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
    """Two accuracies, 0-1, the 95 % interval of their difference, and the p-value of no difference.

    lost, won: images that got worse and better; None where predictions are missing. p: probability, 0-1, of a
    difference at least as large between two models that are equally good.
    """

    base: float
    head: float
    interval: tuple[float, float]
    p: float
    lost: int | None = None
    won: int | None = None


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of one accuracy (Wilson, 1927)."""
    interval = binomtest(correct, total).proportion_ci(1 - LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def share_of_pairs(image: NDArray[np.int64], correct: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the share of each image's pairs that are correct, float [M], in the order of the images' numbers.

    image int64 [P]: the image of each pair; correct bool [P].
    """
    _, place, pairs = np.unique(image, return_inverse=True, return_counts=True)
    return np.bincount(place, correct) / pairs


def paired_difference(base: NDArray[np.float64], head: NDArray[np.float64]) -> Difference:
    """Compare two models on the same images; `base` and `head`, float [M], are the correct share of each image.

    The p-value is that of the exact sign test over the images that differ. With one pair an image this is McNemar's
    exact test. The interval is Bonett and Price's (2012, J. Educ. Behav. Stat. 37): Wald's, after one more image is
    lost and one more is won, which keeps its coverage where only few images differ.
    """
    change = head - base
    lost, won, images = int((change < 0).sum()), int((change > 0).sum()), len(change)
    centre = change.sum() / (images + 2)
    spread = np.sqrt(((change**2).sum() + 2) / (images + 2) - centre**2)
    reach = Z * spread / np.sqrt(images + 2)
    p = binomtest(lost, lost + won).pvalue if lost + won else 1.0
    interval = float(max(-1.0, centre - reach)), float(min(1.0, centre + reach))
    return Difference(float(base.mean()), float(head.mean()), interval, float(p), lost, won)


def unpaired_difference(base_correct: int, head_correct: int, total: int) -> Difference:
    """Compare two models by how many of `total` images each has correct, when it is not known which images.

    Fisher's exact test and Newcombe's interval (1998, Statistics in Medicine 17, method 10) assume different images
    for the two models. The images are the same here, so both find less than a paired test would.
    """
    base, head = base_correct / total, head_correct / total
    (base_low, base_high), (head_low, head_high) = wilson(base_correct, total), wilson(head_correct, total)
    p = fisher_exact([[base_correct, total - base_correct], [head_correct, total - head_correct]]).pvalue
    low = head - base - np.hypot(head - head_low, base_high - base)
    high = head - base + np.hypot(head_high - head, base - base_low)
    return Difference(base, head, (float(low), float(high)), float(p))


def precision_p(actual: NDArray[np.bool_], base: NDArray[np.bool_], head: NDArray[np.bool_]) -> float:
    """Return the exact p-value of a difference in the precision of a class.

    actual, base and head, bool [M]: is the image of the class, does base predict it, does head predict it.

    If the models are equally good, each image's two predictions might as well be swapped. Only images of which one
    model predicts the class and the other does not can change the precisions. How many of their true and of their
    false positives fall to one model are then two binomial numbers; all combinations of the two are counted.
    """
    both, one_only = base & head, base ^ head
    common_true, common_false = (both & actual).sum(), (both & ~actual).sum()
    true, false = (one_only & actual).sum(), (one_only & ~actual).sum()

    def gap(falling_true: NDArray[np.int64], falling_false: NDArray[np.int64]) -> NDArray[np.float64]:
        ours = precision(common_true + falling_true, common_false + falling_false)
        return np.abs(ours - precision(common_true + true - falling_true, common_false + false - falling_false))

    def precision(true: NDArray[np.int64], false: NDArray[np.int64]) -> NDArray[np.float64]:
        return true / np.maximum(true + false, 1)

    # A row for each number of true positives that fall to one model, a column for each number of false ones.
    rows, columns = np.arange(true + 1)[:, None], np.arange(false + 1)[None, :]
    probability = binom.pmf(rows, true, 0.5) * binom.pmf(columns, false, 0.5)
    observed = gap((head & one_only & actual).sum(), (head & one_only & ~actual).sum())
    return float(min(1.0, probability[gap(rows, columns) >= observed - 1e-12].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for having tested many: Holm's step-down method (1979, Scand. J. Statistics 6)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected.tolist()


def probability_of_beating(one: Mapping[int, float], other: Mapping[int, float]) -> float:
    """Return the share of the seeds with which `one`, a score by seed, is higher than `other`; a tie counts half.

    This estimates the probability of outperforming (Bouthillier et al., "Accounting for Variance in Machine Learning
    Benchmarks", arXiv 2103.03098), with the runs paired by seed. Raises ValueError if the seeds are not the same.
    """
    if one.keys() != other.keys():
        raise ValueError(f"seeds {sorted(one)} and {sorted(other)} are no pairs")
    return mean((one[seed] > other[seed]) + 0.5 * (one[seed] == other[seed]) for seed in one)
