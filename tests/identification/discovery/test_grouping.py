"""Groups with the largest sum of weights, against all partitions where these can be counted."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openanimals.identification.discovery.grouping import group


def partitions(count: int):
    """All partitions of 0..count-1, as labels."""
    if not count:
        yield []
        return
    for smaller in partitions(count - 1):
        for label in range(max(smaller, default=-1) + 2):
            yield [*smaller, label]


def drawn(count: int, seed: int) -> np.ndarray:
    values = np.triu(np.random.default_rng(seed).normal(-0.3, 1.5, (count, count)), 1)
    return values + values.T


def by_pairs(weights: np.ndarray, labels) -> float:
    pairs = combinations(range(len(labels)), 2)
    return sum(weights[i, j] for i, j in pairs if labels[i] == labels[j])


def joined(weights: np.ndarray) -> list[int]:
    """Join the two groups between which the sum is largest, while it is above 0."""
    labels = list(range(len(weights)))
    while len(set(labels)) > 1:
        own = {label: [n for n, each in enumerate(labels) if each == label] for label in labels}
        gain, one, other = max(
            (weights[np.ix_(own[one], own[other])].sum(), one, other)
            for one, other in combinations(own, 2)
        )
        if gain <= 0:
            break
        labels = [one if label == other else label for label in labels]
    return labels


def test_the_best_of_all_partitions_is_found_nearly_always():
    found = []
    for seed in range(60):
        weights = drawn(3 + seed % 6, seed)
        best = max(by_pairs(weights, labels) for labels in partitions(len(weights)))
        ours = by_pairs(weights, group(weights))
        assert by_pairs(weights, joined(weights)) - 1e-9 <= ours <= best + 1e-9
        found.append(ours > best - 1e-9)
    assert sum(found) >= 54


def test_with_constraints_the_best_that_keeps_them_is_found_mostly():
    found = []
    for seed in range(25):
        weights = drawn(7, 100 + seed)
        together = np.array([0, 1, 2, 3, 4, 5, 0])
        apart = np.zeros((7, 7), bool)
        for one, other in ((0, 1), (2, 6), (3, 4)):
            apart[one, other] = apart[other, one] = True
        allowed = [
            labels
            for labels in map(np.array, partitions(7))
            if labels[0] == labels[6] and not (apart & (labels[:, None] == labels)).any()
        ]
        best = max(by_pairs(weights, labels) for labels in allowed)
        found.append(by_pairs(weights, group(weights, together, apart)) > best - 1e-9)
    assert sum(found) >= 20


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 25), st.integers(0, 10**6))
def test_what_must_be_is_and_what_must_not_is_not(count, seed):
    draw = np.random.default_rng(seed)
    together = draw.integers(0, count, count)
    apart = np.triu(draw.random((count, count)) < 0.3, 1)
    apart &= together[:, None] != together
    apart |= apart.T
    weights = drawn(count, seed)
    labels = group(weights, together, apart)
    one, other = np.triu_indices(count, 1)
    same = labels[one] == labels[other]
    assert same[together[one] == together[other]].all()
    assert not same[apart[one, other]].any()


def test_the_order_of_rows_does_not_matter():
    for seed in range(20):
        weights, order = drawn(30, seed), np.random.default_rng(seed).permutation(30)
        plain, turned = group(weights), group(weights[np.ix_(order, order)])
        there = plain[order]
        assert ((there[:, None] == there) == (turned[:, None] == turned)).all()


def test_planted_groups_are_found_and_numbered_as_they_are_met():
    draw = np.random.default_rng(0)
    truth = np.sort(draw.integers(0, 12, 150))
    noise = np.triu(draw.normal(0, 1.5, (150, 150)), 1)
    weights = np.where(truth[:, None] == truth, 1.5, -1.5) + noise + noise.T
    assert (group(weights) == np.unique(truth, return_inverse=True)[1]).all()


def test_moving_mends_what_joining_has_spoilt():
    """Joining the best two first leaves 1 with 0; 1 belongs to 2 and 3."""
    weights = np.zeros((4, 4))
    for (i, j), weight in {
        (0, 1): 5,
        (1, 2): 4,
        (1, 3): 4,
        (2, 3): 1,
        (0, 2): -9,
        (0, 3): -9,
    }.items():
        weights[i, j] = weights[j, i] = weight
    assert group(weights).tolist() == [0, 1, 1, 1]
    assert by_pairs(weights, group(weights)) == 9


def test_without_weights_nothing_is_joined():
    assert group(np.zeros((3, 3))).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="must not"):
        group(np.zeros((2, 2)), np.array([0, 0]), ~np.eye(2, dtype=bool))
    with pytest.raises(ValueError, match="not finite"):
        group(np.full((2, 2), np.nan))
