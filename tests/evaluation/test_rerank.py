"""Re-ranking against recorded values, and against the definition in dense loops."""

import numpy as np
import pytest
import torch

from openanimals.evaluation import Rerank, distance, evaluate
from openanimals.evaluation import rerank as rerank_module
from openanimals.evaluation.distance import distance_blocks
from openanimals.evaluation.rerank import rerank_blocks
from tests.evaluation import DEVICES
from tests.evaluation import distances as all_distances
from tests.reference import load_arrays


def rerank(query, gallery, k1=20, k2=6, weight=0.0, metric="cosine", device="cpu"):
    """All re-ranked distances `[Q, G]`; with weight 0 the Jaccard distance alone."""
    blocks = distance_blocks(query, gallery, metric)
    how = Rerank(k1, k2, weight)
    mixed = rerank_blocks(blocks, query, gallery, metric, how, device=device)
    return np.concatenate([block for _, block in mixed])


def dense(query, gallery, k1, k2, metric="cosine"):
    """The Jaccard distance by the definition, image by image."""
    images = np.concatenate([query, gallery]).astype(np.float64)
    if metric == "cosine":
        images /= np.linalg.norm(images, axis=1, keepdims=True)
    count = len(images)
    squared = np.array([[sum((a - b) ** 2) for b in images] for a in images])
    ranked = np.argsort(squared.astype(np.float32).round(6), axis=1, kind="stable")

    def reciprocal(image, k):
        return {int(j) for j in ranked[image, :k] if image in ranked[j, :k]}

    codes = np.zeros((count, count))
    for image in range(count):
        own = reciprocal(image, k1)
        everyone = set(own)
        for neighbour in own:
            theirs = reciprocal(neighbour, min(round(k1 / 2) + 1, k1))
            if len(theirs & own) > 2 / 3 * len(theirs):
                everyone |= theirs
        for neighbour in everyone:
            codes[image, neighbour] = np.exp(-squared[image, neighbour])
        if everyone:
            codes[image] /= codes[image].sum()
    if k2 > 1:
        codes = np.array([codes[ranked[image, :k2]].mean(axis=0) for image in range(count)])
    jaccard = np.empty((len(query), len(gallery)))
    for q, one in enumerate(codes[: len(query)]):
        for g, other in enumerate(codes[len(query) :]):
            shared = np.minimum(one, other).sum()
            jaccard[q, g] = 1 - shared / (2 - shared)
    return jaccard


@pytest.fixture(scope="module")
def recorded():
    """The recorded values; and the features of their queries and gallery."""
    arrays = load_arrays("evaluation.npz")
    features = np.split(arrays["ev__features"], [int(arrays["ev__num_query"])])
    return load_arrays("ranking_tools.npz"), features


@pytest.fixture
def herd():
    """Queries `[9, 5]` and a gallery `[31, 5]` in clusters, with some equal images."""
    rng = np.random.default_rng(4)
    images = rng.standard_normal((6, 5))[rng.integers(0, 6, 40)] + rng.standard_normal((40, 5)) / 3
    images[[12, 20, 33]] = images[3]
    return images[:9], images[9:]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("k1, k2", [(20, 6), (8, 3), (8, 1)])
def test_recorded_jaccard_distances(recorded, k1, k2, device):
    arrays, features = recorded
    found = rerank(*features, k1, k2, device=device)
    np.testing.assert_allclose(found, arrays[f"jaccard_k{k1}_{k2}__qg"], rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32


def test_recorded_mix_with_the_distance(recorded):
    arrays, features = recorded
    expected = arrays["rerank_final_k20_6_l0.3"]
    np.testing.assert_allclose(rerank(*features, weight=0.3), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k1, k2", [(20, 6), (7, 7), (5, 2), (3, 1), (1, 1), (60, 50)])
def test_equals_the_definition(herd, k1, k2, metric):
    expected = dense(*herd, k1, k2, metric)
    np.testing.assert_allclose(rerank(*herd, k1, k2, metric=metric), expected, atol=1e-6)


def test_galleries_smaller_than_the_lists(herd):
    query, gallery = herd
    for size in (1, 2, 5):
        found = rerank(query[:1], gallery[:size])
        np.testing.assert_allclose(found, dense(query[:1], gallery[:size], 20, 6), atol=1e-6)


def test_more_equal_images_than_a_list_holds():
    images = np.ones((8, 3))
    np.testing.assert_allclose(rerank(images[:2], images[2:], 4, 2), 0, atol=1e-6)
    # Alone, an image that stands in no list, not even its own, is like no other.
    found = rerank(images[:6], images[6:], 4, 1)
    np.testing.assert_allclose(found, dense(images[:6], images[6:], 4, 1))
    assert np.isfinite(found).all()


def test_a_feature_of_zeros_changes_nothing_for_others(herd):
    query, gallery = herd
    found = rerank(query, np.concatenate([gallery, np.zeros((1, 5))]), 8, 3, weight=0.3)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, :-1], rerank(query, gallery, 8, 3, 0.3), atol=1e-6)


def test_does_not_depend_on_the_blocks(herd, monkeypatch):
    monkeypatch.setattr(distance, "QUERY_TILE", 4)
    monkeypatch.setattr(distance, "GALLERY_TILE", 6)
    whole = rerank(*herd, weight=0.3)
    for pairs, queries in ((40, 1), (130, 2), (3, 7)):
        monkeypatch.setattr(distance, "BLOCK_PAIRS", pairs)
        monkeypatch.setattr(rerank_module, "QUERIES", queries)
        np.testing.assert_array_equal(rerank(*herd, weight=0.3), whole)
    monkeypatch.setattr(distance, "GATHERED", 35)
    np.testing.assert_array_equal(rerank(*herd, weight=0.3), whole)


def test_weight_one_is_the_distance_itself(herd):
    np.testing.assert_allclose(rerank(*herd, weight=1.0), all_distances(*herd), rtol=1e-6)


def test_evaluate_ranks_by_it(herd):
    query, gallery = herd
    names = [[f"{i % 4}" for i in range(len(side))] for side in herd]
    result = evaluate(query, gallery, *names, rerank=Rerank(8, 3))
    order = np.argsort(rerank(query, gallery, 8, 3, 0.3), axis=1, kind="stable")
    assert np.array_equal(result.top, order[:, :10])
    assert result.as_dict()["metric"] == "cosine, re-ranked (k1 8, k2 3, lambda 0.3)"


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((5, 6, 0.3), "k2 = 6 of k1 = 5 .*TEST.RERANK.K2"),
        ((5, 0, 0.3), "expected 1 <= k2 <= k1"),
        ((5, 2, 1.5), "weight 1.5 .*TEST.RERANK.LAMBDA.*expected 0 to 1"),
    ],
)
def test_numbers_out_of_range(numbers, message):
    with pytest.raises(ValueError, match=message):
        Rerank(*numbers)


def test_features_must_be_finite(herd):
    query, gallery = herd
    gallery[2, 1] = np.nan
    with pytest.raises(ValueError, match="1 of 31 gallery features are not finite .*row 2"):
        evaluate(query, gallery, ["ada"] * 9, ["ada"] * 31, rerank=Rerank())


def test_nearest_breaks_ties_by_row():
    images = torch.tensor([[1.0, 0], [0, 1], [1, 0], [1, 0], [-1, 0]])
    rows, found = distance.nearest(images, 4)
    assert rows.tolist() == [[0, 2, 3, 1], [1, 0, 2, 3], [0, 2, 3, 1], [0, 2, 3, 1], [4, 1, 0, 2]]
    assert found[4].tolist() == [0, 1, 2, 2]


def test_neighbours_are_in_order_to_the_last_bit_of_float32():
    rng = np.random.default_rng(0)
    images = (rng.standard_normal(4096) + 0.1 * rng.standard_normal((400, 4096))).astype("f4")
    ranked, _ = rerank_module._neighbours(torch.from_numpy(images), 20, "cosine", "cpu")
    unit = images / np.linalg.norm(images.astype("f8"), axis=1, keepdims=True)
    exact = np.take_along_axis(1 - unit @ unit.T, ranked, axis=1)
    # The cosines are near 1, where float32 has steps of 6e-8.
    assert np.diff(exact).min() > -6.1e-8
    nearest = np.sort(1 - unit @ unit.T, axis=1)[:, :20]
    assert abs(exact.max(axis=1) - nearest.max(axis=1)).max() < 6.1e-8
