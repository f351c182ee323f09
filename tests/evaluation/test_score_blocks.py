"""Scores in place of features: the same Result, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from openanimals.evaluation import FeatureSet, QueryExpansion, Rerank, evaluate, score_blocks
from openanimals.utils.errors import UserError
from tests.evaluation import distances, equal_rankings


@pytest.fixture
def herd():
    """Features of queries and gallery, many equally far, and labels of both; see `labels`."""
    rng = np.random.default_rng(0)
    features = rng.integers(-2, 3, (360, 3)).astype(np.float32)
    query, gallery = np.split(features, [60])
    labels = [np.split(rng.integers(0, 25, 360), [60]), np.split(rng.integers(0, 3, 360), [60])]
    return query, gallery, [side for pair in labels for side in pair]


def cut(scores, *borders):
    """Blocks of an array between some rows."""
    edges = [0, *borders, len(scores)]
    return [(slice(a, b), scores[a:b]) for a, b in zip(edges, edges[1:], strict=False)]


def test_equal_scores_give_the_same_result(herd, monkeypatch):
    query, gallery, labels = herd
    options = {"roc": True, "encounters": (labels[2] % 2, labels[3] % 2)}
    expected = evaluate(query, gallery, *labels, **options)
    scores = distances(query, gallery)
    kept = scores.copy()
    monkeypatch.setattr(score_blocks, "BLOCK_PAIRS", 1000)
    for given in (
        *(scores, torch.from_numpy(scores), scores.astype(np.float64)),
        *(cut(scores), iter(cut(scores, 1, 17, 17, 59)), cut(torch.from_numpy(scores), 30)),
    ):
        found = evaluate(None, None, *labels, scores=given, **options)
        equal_rankings(found.ranking, expected.ranking)
        assert found.as_dict() == {**expected.as_dict(), "metric": "given scores"}
    np.testing.assert_array_equal(scores, kept)  # whatever was removed


def test_feature_sets_bring_their_labels(herd):
    query, gallery, labels = herd
    sets = [
        FeatureSet(pd.DataFrame({"identity": names, "counted_camera": cameras}), features)
        for features, names, cameras in zip((query, gallery), labels[:2], labels[2:], strict=True)
    ]
    expected = evaluate(query, gallery, *labels)
    assert evaluate(*sets).as_dict() == expected.as_dict()
    plain = [FeatureSet(each.images.assign(counted_camera=None), each.features) for each in sets]
    without = evaluate(query, gallery, *labels[:2]).as_dict()
    assert evaluate(*plain).as_dict() == without != expected.as_dict()
    # What is given stands above what the tables say.
    assert evaluate(*plain, query_cameras=labels[2], gallery_cameras=labels[3]).as_dict() == (
        expected.as_dict()
    )


def test_features_and_their_ways_are_refused_beside_scores(herd):
    query, gallery, labels = herd
    scores = distances(query, gallery)
    for options in ({"metric": "cosine"}, {"rerank": Rerank()}, {"expansion": QueryExpansion()}):
        with pytest.raises(UserError, match="scores are ranked as they are; expected no features"):
            evaluate(None, None, *labels, scores=scores, **options)
    with pytest.raises(UserError, match="scores are ranked as they are"):
        evaluate(query, gallery, *labels, scores=scores)
    with pytest.raises(UserError, match="nothing to rank by"):
        evaluate(None, None, *labels)
    with pytest.raises(UserError, match="the gallery has no identities"):
        evaluate(None, None, labels[0], scores=scores)


def broken(value, row=1, column=2):
    scores = np.zeros((4, 5))
    scores[row, column] = value
    return scores


RIGHT = np.zeros((4, 5))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (RIGHT.T, r"have the shape \[5, 4\]; expected \[4, 5\]"),
        (RIGHT[0], r"have the shape \[5\]; expected \[4, 5\]"),
        (broken(np.nan), "query row 1 and gallery row 2 is nan"),
        (broken(np.inf, 3, 4), "query row 3 and gallery row 4 is inf"),
        (broken(1e300), "query row 1 and gallery row 2 is inf"),
        (RIGHT.astype(str), "query rows 0 to 3 are of the type <U32"),
        (cut(RIGHT, 2)[:1], "query rows 2 to 3 are missing"),
        (cut(RIGHT, 2)[1:], "query rows 0 to 1 are missing"),
        ([], "query rows 0 to 3 are missing"),
        ([*cut(RIGHT, 2), (slice(1, 2), RIGHT[:1])], "query row 1 are there twice"),
        (cut(RIGHT, 3)[::-1], "query rows 0 to 2 are missing"),
        (
            [(slice(0, 4), RIGHT[:, :3])],
            r"rows 0 to 3 are float64 of the shape \[4, 3\]; .*\[4, 5\]",
        ),
        ([(slice(0, 3), RIGHT)], r"shape \[4, 5\]; expected numbers \[3, 5\]"),
        ([(slice(0, 9), np.zeros((9, 5)))], r"shape \[9, 5\]; expected numbers \[4, 5\]"),
        ([*cut(RIGHT, 2)[:1], (slice(2, 4), broken(np.nan)[:2])], "query row 3 and gallery row 2"),
        ([RIGHT[0], RIGHT[1]], "a block of scores is array.*expected a slice of query rows"),
    ],
)
def test_scores_that_are_not_scores(scores, message):
    names = ["ada", "bo", "ada", "bo"], ["ada", "bo", "cy", "bo", "ada"]
    with pytest.raises(UserError, match=message):
        evaluate(None, None, *names, scores=scores)
