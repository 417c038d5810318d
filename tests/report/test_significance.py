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
    share_of_pairs,
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
    ("base", "head", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998), pages 873-890, table II, method 10, two groups of ten
        (0, 10, 0.6075, 1.0),
        (0, 0, -0.2775, 0.2775),
    ],
)
def test_the_unpaired_interval_is_newcombes(base, head, low, high):
    difference = unpaired_difference(base, head, 10)
    assert (difference.base, difference.head) == (base / 10, head / 10)
    assert difference.interval == pytest.approx((low, high), abs=5e-5)
    assert difference.lost is None


@pytest.mark.parametrize(("differing", "least"), [(20, 10), (40, 14), (80, 20)])
def test_the_smallest_difference_that_is_called_real(differing, least):
    """Of 10,000 images 0.10, 0.14 and 0.20 points, says the exact binomial distribution."""
    found = [
        won - lost
        for lost, won in ((differing - won, won) for won in range(differing // 2, differing + 1))
        if paired_difference(*models(lost, won, both_correct=10_000 - differing)).p < 0.05
    ]
    assert min(found) == least


# --- Brute force ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (0, 6), (3, 9), (5, 5), (8, 1)])
def test_the_paired_p_is_the_part_of_all_swaps_that_are_as_extreme(lost, won):
    seen = abs(won - lost)
    swaps = list(itertools.product([-1, 1], repeat=lost + won))
    assert paired_difference(*models(lost, won, 4, 2)).p == pytest.approx(
        sum(abs(sum(swap)) >= seen for swap in swaps) / len(swaps)
    )


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


def test_fishers_test_adds_up_the_tables_that_are_as_unlikely():
    base, head, total = 9, 4, 10
    tables = {
        a: comb(total, a) * comb(total, base + head - a) for a in range(total + 1) if 0 <= base + head - a <= total
    }
    as_unlikely = sum(count for count in tables.values() if count <= tables[base])
    assert unpaired_difference(base, head, total).p == pytest.approx(as_unlikely / sum(tables.values()))


# --- Properties ----------------------------------------------------------------------------------------------------


def test_two_equal_models_differ_by_nothing():
    difference = paired_difference(*models(0, 0, both_correct=9_960, both_wrong=40))
    assert (difference.base, difference.lost, difference.won, difference.p) == (difference.head, 0, 0, 1)
    assert difference.interval[0] < 0 < difference.interval[1]


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


def draw_models(draws, images=10_000):
    """Return two models that are equally good: they fail on the same kinds of images, each independently."""
    failing = np.zeros(images)
    failing[:150] = draws.uniform(0, 0.6, 150)
    return [1.0 * (draws.random(images) >= failing) for _ in range(2)]


def test_equal_models_are_told_apart_in_at_most_five_of_a_hundred_draws():
    draws = np.random.default_rng(0)
    differences = [paired_difference(*draw_models(draws)) for _ in range(2_000)]
    assert np.mean([difference.p < 0.05 for difference in differences]) <= 0.05
    outside = np.mean([not low <= 0 <= high for low, high in (difference.interval for difference in differences)])
    assert 0.02 < outside <= 0.06  # an interval is a statement about 95 %, give or take its approximation


def test_pairs_that_share_an_image_raise_no_false_alarms():
    """Ten pairs an image, all correct or all wrong: if pairs were the units, half the draws would be alarms."""
    draws, image = np.random.default_rng(1), np.repeat(np.arange(1_000), 10)
    alarms = {"images": 0, "pairs": 0}
    for _ in range(2_000):
        pairs = [np.repeat(model, 10) for model in draw_models(draws, 1_000)]
        alarms["images"] += paired_difference(*(share_of_pairs(image, correct) for correct in pairs)).p < 0.05
        alarms["pairs"] += paired_difference(*pairs).p < 0.05
    assert alarms["images"] / 2_000 <= 0.05
    assert alarms["pairs"] / 2_000 > 0.3
