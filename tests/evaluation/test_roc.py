"""Shares of verified pairs, against recorded distances and against counting them one by one."""

import numpy as np
import pytest

from openanimals.evaluation import distance, evaluate
from openanimals.evaluation.roc import area_under_curve, pairs, true_share, verification
from tests.reference import load_arrays

SHARES = {"TPR@FPR=1e-04": 1e-4, "TPR@FPR=1e-03": 1e-3, "TPR@FPR=1e-02": 1e-2, "TPR@FPR=1e-01": 0.1}


def count_true(matched, unmatched, share):
    """The best of all thresholds that accept no more than the share of unmatched pairs."""
    best = 0
    for threshold in [*matched, *unmatched]:
        if (unmatched <= threshold).sum() <= share * len(unmatched) + 1e-9:
            best = max(best, (matched <= threshold).sum())
    return best / len(matched)


def count_area(matched, unmatched):
    wins = sum((own < unmatched).sum() + (own == unmatched).sum() / 2 for own in matched)
    return wins / (len(matched) * len(unmatched))


@pytest.mark.parametrize("cameras", ["animals", "random"])
def test_recorded_pairs(cameras, monkeypatch):
    arrays, recorded = load_arrays("evaluation.npz"), load_arrays("ranking_tools.npz")
    columns = [arrays[f"ev__{name}"] for name in ("features", "pids", f"camids_{cameras}")]
    queries = int(arrays["ev__num_query"])
    sides = [side for column in columns for side in np.split(column, [queries])]
    matched, unmatched = (
        recorded[f"roc_{cameras}__scores_sorted_{kind}"].astype(np.float64)
        for kind in ("pos", "neg")
    )
    monkeypatch.setattr(distance, "QUERY_TILE", 7)
    monkeypatch.setattr(distance, "BLOCK_PAIRS", 1)
    found = evaluate(*sides, roc=True).as_dict()
    assert found["AUC"] == pytest.approx(100 * count_area(matched, unmatched), rel=1e-9)
    for key, share in SHARES.items():
        assert found[key] == pytest.approx(100 * count_true(matched, unmatched, share), rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_equal_distances(seed):
    rng = np.random.default_rng(seed)
    matched = np.sort(rng.integers(0, 6, rng.integers(1, 20)))
    unmatched = np.sort(rng.integers(1, 8, rng.integers(1, 40)))
    assert area_under_curve(matched, unmatched) == pytest.approx(count_area(matched, unmatched))
    for share in (0.0, 0.05, 0.1, 0.5, 0.99):
        expected = count_true(matched, unmatched, share)
        assert true_share(matched, unmatched, share) == pytest.approx(expected)


def test_a_share_is_what_it_says():
    assert true_share(np.array([6.5]), np.arange(100), 0.07) == 1  # 0.07 * 100 < 7 in floats
    assert true_share(np.array([7.0]), np.arange(100), 0.07) == 0


def test_perfect_and_useless_distances():
    near, far = np.zeros(3), np.ones(5)
    assert (area_under_curve(near, far), area_under_curve(far, near)) == (1, 0)
    assert area_under_curve(far, far) == 0.5
    assert (true_share(near, far, 1e-4), true_share(far, near, 1e-4)) == (1, 0)


def test_reported_only_when_asked_for():
    keys = evaluate(np.eye(2), np.eye(2), ["ada", "bo"], ["ada", "bo"]).as_dict().keys()
    assert not keys & {"AUC", *SHARES}


def test_pairs_of_both_kinds_are_needed():
    with pytest.raises(ValueError, match="there are 1 and 0"):
        evaluate(np.ones((1, 2)), np.ones((1, 2)), ["ada"], ["ada"], roc=True)
    every = np.ones((1, 2), dtype=bool)
    with pytest.raises(ValueError, match="there are 0 and 0"):
        verification([pairs(np.ones((1, 2)), every, removed=every)])
