"""Intervals and tests: textbook values, brute force on small counts, and false alarms on simulated models."""

import itertools
from math import comb

import numpy as np
import pytest

from digitsum.report.significance import (
    holm,
    paired_difference,
    precision_p,
    probability_of_beating,
    unpaired_difference,
    wilson,
)


def models(lost, won, both_correct=0, both_wrong=0):
    """Return which of some images two models have correct, as floats."""
    base = [1.0] * lost + [0.0] * won + [1.0] * both_correct + [0.0] * both_wrong
    head = [0.0] * lost + [1.0] * won + [1.0] * both_correct + [0.0] * both_wrong
    return np.array(base), np.array(head)


# --- Values from textbooks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998), pages 857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_of_one_accuracy_is_wilsons(correct, total, low, high):
    assert wilson(correct, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("base", "head", "low", "high", "as_unlikely"),
    [  # Newcombe, Statistics in Medicine 17 (1998), pages 873-890, table II, method 10, two groups of ten
        (0, 10, 0.6075, 1.0, 2),
        (3, 9, 0.1705, 0.8090, 2 * (comb(10, 9) * comb(10, 3) + comb(10, 10) * comb(10, 2))),
        (0, 0, -0.2775, 0.2775, 1),
    ],
)
def test_the_unpaired_interval_is_newcombes_and_the_p_is_fishers(base, head, low, high, as_unlikely):
    """Fisher's p: of the tables with as many correct in all, the part that is at most as likely."""
    difference = unpaired_difference(base, head, 10)
    assert (difference.base, difference.head) == (base / 10, head / 10)
    assert difference.interval == pytest.approx((low, high), abs=5e-5)
    assert difference.p == pytest.approx(as_unlikely / comb(20, base + head))
    assert difference.lost is None


# --- Brute force ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (0, 6), (3, 9), (5, 5), (8, 1)])
def test_the_paired_p_is_the_part_of_all_swaps_that_are_as_extreme(lost, won):
    difference = paired_difference(*models(lost, won, both_correct=4, both_wrong=2))
    swaps = list(itertools.product([-1, 1], repeat=lost + won))
    as_extreme = sum(abs(sum(swap)) >= abs(won - lost) for swap in swaps)
    assert difference.p == pytest.approx(as_extreme / len(swaps))
    assert (difference.lost, difference.won) == (lost, won)
    assert difference.interval[0] < difference.head - difference.base < difference.interval[1]
    assert np.mean(difference.interval) == pytest.approx((won - lost) / (lost + won + 6 + 2))  # Bonett and Price


@pytest.mark.parametrize(
    ("actual", "base", "head"),
    [
        ([1, 1, 1, 0, 0, 1, 0], [1, 1, 0, 1, 0, 1, 0], [1, 0, 1, 0, 1, 1, 0]),
        ([1, 1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 1, 1, 1, 1, 0]),
        ([1, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]),
        ([1, 0], [1, 0], [1, 0]),
        ([1, 1, 0, 0, 1, 0, 0], [1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 1, 1, 1]),
        ([1, 0, 0], [0, 0, 0], [0, 1, 1]),
        *np.random.default_rng(0).integers(0, 2, (5, 3, 8)).tolist(),
    ],
)
def test_the_p_of_a_precision_is_the_part_of_all_swaps_that_are_as_extreme(actual, base, head):
    actual, base, head = (np.array(column, dtype=bool) for column in (actual, base, head))

    def gap(base, head):
        precisions = [
            (actual & predicted).sum() / predicted.sum() if predicted.any() else 0.0 for predicted in (base, head)
        ]
        return abs(precisions[1] - precisions[0])

    swaps = np.array(list(itertools.product([False, True], repeat=len(actual))))
    gaps = np.array([gap(np.where(swap, head, base), np.where(swap, base, head)) for swap in swaps])
    assert precision_p(actual, base, head) == pytest.approx((gaps >= gap(base, head) - 1e-12).mean())


# --- Properties ----------------------------------------------------------------------------------------------------


def test_an_image_counts_once_however_many_pairs_it_has():
    base, head = models(lost=3, won=12, both_correct=200)
    part = [0.5 * model + 0.5 for model in (base, head)]  # of two pairs, one is correct with both models
    whole, halved = paired_difference(base, head), paired_difference(*part)
    assert halved.p == whole.p
    assert halved.head - halved.base == pytest.approx((whole.head - whole.base) / 2)


def test_the_paired_interval_sees_more_than_the_unpaired_one():
    base, head = models(lost=5, won=20, both_correct=9_900, both_wrong=75)
    one, other = paired_difference(base, head), unpaired_difference(int(base.sum()), int(head.sum()), len(base))
    assert (one.base, one.head) == pytest.approx((other.base, other.head))
    assert np.ptp(one.interval) < np.ptp(other.interval) / 2
    assert one.p < 0.01 < other.p


def test_holm_corrects_step_by_step():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm, 1979, by hand
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_probability_of_beating_counts_paired_seeds_and_ties_for_a_half():
    one, other = dict(enumerate([0.9, 0.8, 0.7, 0.6])), dict(enumerate([0.8, 0.8, 0.9, 0.5]))
    assert probability_of_beating(one, other) == (1 + 0.5 + 0 + 1) / 4
    assert probability_of_beating(one, other) + probability_of_beating(other, one) == 1
    with pytest.raises(ValueError, match="no pairs"):
        probability_of_beating(one, {0: 0.9})


# --- False alarms --------------------------------------------------------------------------------------------------


def test_equal_models_are_told_apart_in_at_most_five_of_a_hundred_draws():
    """They fail on the same kinds of images, each independently."""
    draws = np.random.default_rng(0)

    def draw():
        failing = np.zeros(10_000)
        failing[:150] = draws.uniform(0, 0.6, 150)
        return [1.0 * (draws.random(10_000) >= failing) for _ in range(2)]

    differences = [paired_difference(*draw()) for _ in range(2_000)]
    assert np.mean([difference.p < 0.05 for difference in differences]) <= 0.05
    outside = np.mean([not low <= 0 <= high for low, high in (difference.interval for difference in differences)])
    assert 0.02 < outside <= 0.06  # an interval is a statement about 95 %, give or take its approximation
