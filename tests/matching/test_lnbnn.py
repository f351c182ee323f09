"""LNBNN by published small cases and by a loop that knows no blocks, cells or chunks."""

import numpy as np
import pytest

from openanimals.matching.lnbnn import (
    RULES,
    KeypointTable,
    Matches,
    individual_scores,
    lnbnn,
    normaliser_columns,
    photograph_scores,
)
from openanimals.matching.nearest import Neighbours
from openanimals.utils.errors import UserError


def table(descriptors, photographs, count):
    rows = len(photographs)
    return KeypointTable(
        np.asarray(photographs, int),
        np.zeros((rows, 2), np.float32),
        np.ones(rows, np.float32),
        np.ones(rows, np.float32),
        np.asarray(descriptors, np.uint8),
        np.ones(count),
    )


def crowd(seed, photographs, most, levels):
    """Descriptors of few values, so that many distances are equal; some photographs have none."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, most, photographs)
    counts[1] = 0
    descriptors = rng.integers(0, levels, (counts.sum(), 128))
    descriptors[::5] = descriptors[3]
    return table(descriptors, np.repeat(np.arange(photographs), counts), photographs)


def naive(query, gallery, candidates, k, normalisers, rule, names):
    """Return scores `[Q, G]`, one descriptor after the other."""
    scores = np.zeros(candidates.shape)
    theirs = gallery.descriptors.astype(float)
    for descriptor, photograph in zip(query.descriptors, query.photographs, strict=True):
        distance = np.sqrt(((theirs - descriptor) ** 2).sum(1)) / 512
        seen = [
            row for row in range(len(theirs)) if candidates[photograph, gallery.photographs[row]]
        ]
        near = sorted(seen, key=lambda row: (distance[row], row))[: k + normalisers]
        if len(near) <= k:
            continue
        normaliser = near[-1]
        if rule == "name":
            voted = {names[gallery.photographs[row]] for row in near[:k]}
            others = [row for row in near[k:] if names[gallery.photographs[row]] not in voted]
            normaliser = (others or [normaliser])[0]
        for row in near[:k]:
            gain = max(distance[normaliser] - distance[row], 0)
            scores[photograph, gallery.photographs[row]] += gain
    return scores


@pytest.mark.parametrize("levels", [2, 200])
@pytest.mark.parametrize(("rule", "normalisers"), [("last", 1), ("last", 3), ("name", 4)])
@pytest.mark.parametrize("cells", [0, 5])
def test_scores_are_those_of_a_naive_loop(levels, rule, normalisers, cells):
    query, gallery = crowd(1, 4, 30, levels), crowd(2, 9, 150, levels)
    candidates = np.random.default_rng(3).random((4, 9)) < 0.6
    candidates[3] = False
    individuals = np.array([0, 0, 1, 1, 2, 2, 3, 3, 3])
    ways = {"k": 3, "normalisers": normalisers, "rule": rule}
    # A query that probes all cells searches exactly.
    index = Neighbours(gallery.descriptors, gallery.photographs, cells=cells, probes=cells)
    matches = lnbnn(query, gallery, candidates, individuals, index=index, **ways)
    expected = naive(query, gallery, candidates, *ways.values(), individuals)
    np.testing.assert_allclose(photograph_scores(matches, 4, 9), expected, atol=1e-9)
    assert (matches.weights > 0).all()
    assert expected[:3].any() and not expected[3].any()


def test_the_order_of_photographs_does_not_matter():
    query, gallery = crowd(4, 4, 30, 2), crowd(5, 9, 60, 2)
    candidates = np.random.default_rng(6).random((4, 9)) < 0.7
    turn = np.random.default_rng(7).permutation(9)
    rows = np.concatenate([np.flatnonzero(gallery.photographs == old) for old in turn])
    turned = table(gallery.descriptors[rows], np.argsort(turn)[gallery.photographs[rows]], 9)
    some = np.arange(9)
    scores = photograph_scores(lnbnn(query, gallery, candidates, some), 4, 9)
    again = photograph_scores(lnbnn(query, turned, candidates[:, turn], some), 4, 9)
    np.testing.assert_allclose(again, scores[:, turn], atol=1e-12)


def test_normaliser_by_name():
    """The published case: the query's own individual is 1, and no normaliser either."""
    own = 1
    nearest = [
        [1, 1, 1],
        [1, 2, 1],
        [1, 2, 3],
        [5, 8, 9],
        [5, 9, 8],
        [6, 9, 8],
        [5, 8, 6],
        [2, 3, 4],
    ]
    further = [
        [1, 1, 1],
        [2, 3, 1],
        [2, 3, 1],
        [6, 6, 6],
        [6, 6, 8],
        [2, 6, 6],
        [6, 6, 1],
        [5, 4, 9],
    ]
    columns = normaliser_columns(np.insert(nearest, 0, own, axis=1), np.array(further))
    assert columns.tolist() == [2, 1, 2, 0, 0, 0, 2, 0]


# The published case: photographs 0, 1 of the first individual, 2, 3 of the second, 4 of the third;
# the query's keypoints that each of them matches, with the weight 1.
MATCHED = [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 3], [0, 1, 2, 3, 4]]


@pytest.mark.parametrize(("vote", "expected"), [("nsum", [4, 7, 5]), ("csum", [4, 4, 5])])
def test_a_descriptor_votes_once_for_an_individual(vote, expected):
    gallery = np.repeat(np.arange(5), [len(own) for own in MATCHED])
    keypoints = np.concatenate(MATCHED)
    zeros, ones = np.zeros(len(gallery), int), np.ones(len(gallery))
    matches = Matches(zeros, gallery, keypoints, np.arange(len(gallery)), ones)
    scores = individual_scores(matches, 1, np.array([0, 0, 1, 1, 2]), vote)
    assert scores.tolist() == [expected]


def test_of_several_matches_the_best_one_votes():
    parts = [0, 0, 0], [0, 0, 1], [5, 5, 5], [0, 1, 2], [0.25, 0.5, 0.125]
    scores = individual_scores(Matches(*map(np.array, parts)), 1, np.array([0, 1]))
    assert scores.tolist() == [[0.5, 0.125]]


def test_nothing_to_see():
    query, gallery = crowd(8, 3, 20, 9), crowd(9, 4, 20, 9)
    nobody, individuals = np.zeros((3, 4), dtype=bool), np.arange(4)
    no_query, no_gallery = (table(np.zeros((0, 128)), [], count) for count in (3, 4))
    for rule in RULES:
        for given in ((query, gallery, nobody), (query, no_gallery, ~nobody)):
            assert len(lnbnn(*given, individuals, rule=rule).weights) == 0
        assert len(lnbnn(no_query, gallery, ~nobody, individuals, rule=rule).weights) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 0}, "k = 0 neighbours and 1 beyond them; expected at least 1"),
        ({"rule": "nam"}, "is 'nam' .did you mean 'name'.*; it can be last, name"),
    ],
)
def test_wrong_input_is_named(wrong, message):
    query, gallery = crowd(8, 3, 20, 9), crowd(9, 4, 20, 9)
    with pytest.raises(UserError, match=message):
        lnbnn(query, gallery, np.ones((3, 4), bool), np.arange(4), **wrong)


def test_recall_is_the_share_of_true_neighbours_that_is_found():
    rng = np.random.default_rng(0)
    descriptors = rng.integers(0, 256, (3000, 128), dtype=np.uint8)
    queries = rng.integers(0, 256, (40, 128), dtype=np.uint8)
    photographs = np.repeat(np.arange(30), 100)
    index = Neighbours(descriptors, photographs, cells=30, probes=6)
    given = queries, np.zeros(40, int), np.ones((1, 30), dtype=bool), 5
    found, _ = index.search(*given)
    distance = ((queries[:, None].astype(float) - descriptors[None]) ** 2).sum(2)
    true = np.sort(distance, axis=1)[:, :5]
    shares = [len({*own} & {*theirs}) / 5 for own, theirs in zip(found, true, strict=True)]
    assert 0.1 < np.mean(shares) < 0.9
    assert index.recall(queries, 5) == pytest.approx(np.mean(shares))
    assert Neighbours(descriptors, photographs).recall(queries, 5) == 1.0
