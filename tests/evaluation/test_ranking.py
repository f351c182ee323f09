"""Ranks against plain Python: ties, removed images, groups of queries."""

import numpy as np
import pytest

from openanimals.evaluation import ranking as module
from tests.evaluation import equal_rankings, rank


def naive_ranking(distances, matches, removed):
    """One query, in plain Python: the kept rows in order, AP, INP and the rank of the first hit."""
    rows = [row for row in range(len(distances)) if not removed[row]]
    rows.sort(key=lambda row: (distances[row], row))
    places = [rank for rank, row in enumerate(rows, start=1) if matches[row]]
    if not places:
        return rows, None, None, 0
    precisions = [hits / rank for hits, rank in enumerate(places, start=1)]
    return rows, sum(precisions) / len(places), len(places) / places[-1], places[0]


@pytest.mark.parametrize("columns", [3, 2**15])  # of the gallery at a time
@pytest.mark.parametrize("gallery", [1, 2, 7, 60])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_plain_python_with_ties(gallery, columns, dtype, monkeypatch):
    monkeypatch.setattr(module, "COLUMNS", columns)
    rng = np.random.default_rng(gallery)
    distances = (rng.integers(0, 8, (40, gallery)) / 10).astype(dtype)  # most are tied
    distances[rng.random((40, gallery)) < 0.1] = -0.0  # is as near as 0.0
    matches = rng.random((40, gallery)) < 0.2
    removed = rng.random((40, gallery)) < 0.3
    ranking = rank(distances, matches, removed, top=5)
    for query in range(40):
        rows, precision, penalty, first = naive_ranking(
            distances[query].tolist(), matches[query], removed[query]
        )
        assert ranking.first_hit[query] == first
        padded = (rows + [-1] * 5)[: min(5, gallery)]
        assert ranking.top[query].tolist() == padded
        near = [np.nan if row < 0 else distances[query, row] for row in padded]
        np.testing.assert_array_equal(ranking.top_distances[query], near)
        if first:
            assert ranking.average_precision[query] == pytest.approx(precision, rel=1e-12)
            assert ranking.inverse_negative_penalty[query] == pytest.approx(penalty, rel=1e-12)
        else:
            assert np.isnan(ranking.average_precision[query])
            assert np.isnan(ranking.inverse_negative_penalty[query])


def test_groups_of_queries_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    distances = rng.integers(0, 9, (20, 60)).astype(np.float32)
    matches, removed = rng.random((20, 60)) < 0.2, rng.random((20, 60)) < 0.3
    removed[3] = True
    whole = rank(distances, matches, removed, top=12)
    monkeypatch.setattr(module, "QUERIES", 7)
    equal_rankings(rank(distances, matches, removed, top=12), whole)
