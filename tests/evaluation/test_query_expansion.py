"""Query expansion against recorded values, and against a loop."""

import numpy as np
import pytest

from openanimals.evaluation import QueryExpansion, distance, evaluate
from openanimals.evaluation.query_expansion import expand
from tests.evaluation import DEVICES
from tests.reference import load_arrays


def naive(images, k, alpha, rounds):
    """The definition, image by image."""
    for _ in range(rounds):
        means = []
        for image in images:
            cosines = images @ image / np.linalg.norm(images, axis=1) / np.linalg.norm(image)
            nearest = sorted(range(len(images)), key=lambda row: (-round(cosines[row], 7), row))
            chosen = nearest[:k]
            means.append(sum(cosines[row] ** alpha * images[row] for row in chosen) / len(chosen))
        images = np.array(means)
    return images


@pytest.fixture
def herd():
    rng = np.random.default_rng(1)
    images = 3 * rng.standard_normal((30, 6))
    images[[7, 25]] = images[2]
    return images[:8], images[8:]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rounds, k, alpha", [(1, 5, 3.0), (2, 5, 3.0), (1, 10, 0.0)])
def test_recorded_features(rounds, k, alpha, device):
    arrays, recorded = load_arrays("evaluation.npz"), load_arrays("ranking_tools.npz")
    sides = np.split(arrays["ev__features"], [int(arrays["ev__num_query"])])
    expanded = expand(*sides, QueryExpansion(k, alpha, rounds), device=device)
    for found, side in zip(expanded, "qg", strict=True):
        expected = recorded[f"aqe_t{rounds}_k{k}_a{alpha}__{side}"]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)
        assert found.dtype == np.float32


@pytest.mark.parametrize("k, alpha, rounds", [(5, 3.0, 1), (4, 2.0, 3), (100, 1.0, 1), (1, 0.0, 1)])
def test_equals_the_definition(herd, k, alpha, rounds):
    expected = naive(np.concatenate(herd), k, alpha, rounds)
    found = np.concatenate(expand(*herd, QueryExpansion(k, alpha, rounds)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert found.dtype == np.float64


def test_images_that_point_away_count_for_nothing_in_a_broken_power():
    query, gallery = np.array([[1.0, 0]]), np.array([[-1.0, 0], [0, 1]])
    assert expand(query, gallery, QueryExpansion(3, 0.5))[0] == pytest.approx(query / 3)
    assert expand(query, gallery, QueryExpansion(3, 1.0))[0] == pytest.approx(query * 2 / 3)


def test_does_not_depend_on_the_blocks(herd, monkeypatch):
    monkeypatch.setattr(distance, "QUERY_TILE", 4)
    monkeypatch.setattr(distance, "GALLERY_TILE", 6)
    whole = expand(*herd, QueryExpansion(rounds=2))
    monkeypatch.setattr(distance, "BLOCK_PAIRS", 70)
    for found, expected in zip(expand(*herd, QueryExpansion(rounds=2)), whole, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_feature_of_zeros_stays_finite(herd):
    query, gallery = herd
    gallery[3] = 0
    assert all(
        np.isfinite(side).all() for side in expand(query, gallery, QueryExpansion(alpha=0.5))
    )


@pytest.mark.parametrize("kind", [np.float16, np.int64])
def test_numbers_of_other_types_are_taken_as_float32(herd, kind):
    sides = [(9 * side).astype(kind) for side in herd]
    expected = expand(*(side.astype(np.float32) for side in sides), QueryExpansion())
    for found, one in zip(expand(*sides, QueryExpansion()), expected, strict=True):
        np.testing.assert_array_equal(found, one)
        assert found.dtype == np.float32


def test_evaluate_expands_first(herd):
    names = [[f"{i % 3}" for i in range(len(side))] for side in herd]
    how = QueryExpansion(4, 2.0, 2)
    result = evaluate(*herd, *names, expansion=how)
    assert np.array_equal(result.top, evaluate(*expand(*herd, how), *names).top)
    assert result.as_dict()["metric"] == "cosine, expanded (k 4, alpha 2, rounds 2)"


@pytest.mark.parametrize("numbers", [(0, 3.0, 1), (5, -1.0, 1), (5, 3.0, 0)])
def test_numbers_out_of_range(numbers):
    with pytest.raises(ValueError, match="query expansion with k = .*TEST.AQE.QE_K"):
        QueryExpansion(*numbers)


def test_features_must_be_finite(herd):
    query, gallery = herd
    query[5, 0] = np.inf
    with pytest.raises(ValueError, match="1 of 8 query features are not finite .*row 5"):
        expand(query, gallery, QueryExpansion())
