import itertools
import math

import numpy as np
import pandas as pd
import pytest

from openanimals.evaluation.significance import (
    compare_rankings,
    paired_difference,
    sign_flip_p_value,
)
from tests.evaluation import rank


def exact_p_value(sums):
    """The share of all sign patterns whose sum is at least as far from 0 as the observed one."""
    totals = [
        abs(math.fsum(s * v for s, v in zip(signs, sums, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(sums))
    ]
    return np.mean([total >= abs(math.fsum(sums)) - 1e-9 for total in totals])


@pytest.mark.parametrize("seed", range(6))
def test_few_individuals_are_enumerated(seed):
    rng = np.random.default_rng(seed)
    sums = rng.normal(0.5, 1, 8)
    assert sign_flip_p_value(sums) == exact_p_value(sums)
    whole = rng.integers(-2, 4, 9) * 100.0  # many patterns tie with the observed one
    assert sign_flip_p_value(whole) == exact_p_value(whole)
    assert sign_flip_p_value(np.r_[whole, np.zeros(500)]) == exact_p_value(whole)


def test_ties_survive_rounding():
    assert sign_flip_p_value(np.array([0.1, 0.2, 0.3, -0.6])) == 1  # which is not 0 in floats
    assert sign_flip_p_value(np.full(3, 0.1)) == 2 / 8


def test_equal_models_do_not_differ():
    values, groups = np.arange(6.0), ["ada", "bo"] * 3
    same = paired_difference(values, values, groups)
    assert (same.p_value, same.difference, same.interval) == (1, 0, (0, 0))
    assert (same.queries, same.identities) == (6, 2)


def test_drawn_signs_agree_with_all_signs():
    sums = np.random.default_rng(1).normal(0.4, 1, 12)
    exact = sign_flip_p_value(sums, samples=2**12)
    drawn = sign_flip_p_value(sums, samples=2**12 - 1)
    assert drawn != exact == exact_p_value(sums)
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 2**12))


def test_many_individuals_follow_the_normal_law():
    """Under flips the sum has mean 0 and variance sum(d^2)."""
    changes = np.random.default_rng(0).normal(0.1, 1, 300)
    z = changes.sum() / math.sqrt((changes**2).sum())
    p_value = paired_difference(np.zeros(300), changes, np.arange(300)).p_value
    assert p_value == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), abs=0.015)
    assert paired_difference(np.zeros(300), changes + 9, np.arange(300)).p_value == 1 / 10_001


def test_the_interval_is_that_of_the_paired_differences():
    rng = np.random.default_rng(0)
    hard = rng.normal(50, 20, 400)  # what both models share is no uncertainty of their difference
    found = paired_difference(hard, hard + rng.normal(1, 2, 400), np.arange(400))
    low, high = found.interval
    assert high - low == pytest.approx(2 * 1.96 * 2 / 20, rel=0.15)
    assert low < found.difference < high


def test_individuals_count_not_queries():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 1, (2, 20))
    alone = paired_difference(first, second, np.arange(20))
    nine = [np.repeat(values, 9) for values in (first, second, np.arange(20))]
    repeated = paired_difference(*nine)
    assert repeated.p_value == alone.p_value
    assert repeated.interval == pytest.approx(alone.interval)
    assert repeated.queries == 9 * alone.queries


def rankings(*rows, names=("ada", "bo", "eve")):
    """Rankings by hand: R for a right image, w for a wrong one."""
    matches = np.array([[image == "R" for image in row] for row in rows])
    found = rank(np.tile(np.arange(float(len(rows[0]))), (len(rows), 1)), matches)
    columns = {"average_precision": found.average_precision, "first_hit": found.first_hit}
    return pd.DataFrame({"identity": names[: len(rows)], **columns})


def test_rankings():
    first, second = rankings("Rw", "wR", "ww"), rankings("wR", "wR", "ww")
    found = compare_rankings(first, second)
    assert (found["Rank-1"].first, found["Rank-1"].second) == (50, 0)
    assert (found["mAP"].first, found["mAP"].second) == (75, 50)
    assert (found["mAP"].queries, found["mAP"].identities) == (2, 2)
    with pytest.raises(ValueError, match="2 queries count in the one result and 1 in the other"):
        compare_rankings(first, rankings("wR", "ww", "ww"))
    with pytest.raises(ValueError, match="rankings of 3 and 1 queries; expected the same"):
        compare_rankings(first, rankings("wR"))
