import numpy as np
import pytest

from openanimals.evaluation import distance
from openanimals.evaluation.distance import distance_blocks
from tests.evaluation import distances


@pytest.fixture
def features():
    """Queries `[9, 7]`, and a gallery `[23, 7]` whose rows 4 and 20 are equal."""
    rng = np.random.default_rng(0)
    query = rng.standard_normal((9, 7)).astype(np.float32)
    gallery = 5 * rng.standard_normal((23, 7)).astype(np.float32)
    gallery[20] = gallery[4]
    return query, gallery


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equals_the_definition(features, metric):
    for q, row in zip(features[0].tolist(), distances(*features, metric), strict=True):
        for g, found in zip(features[1].tolist(), row.tolist(), strict=True):
            if metric == "euclidean":
                expected = sum((a - b) ** 2 for a, b in zip(q, g, strict=True))
            else:
                dot = sum(a * b for a, b in zip(q, g, strict=True))
                expected = 1 - dot / (sum(a * a for a in q) * sum(b * b for b in g)) ** 0.5
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_does_not_depend_on_the_blocks(features, metric, monkeypatch):
    whole = distances(*features, metric)
    monkeypatch.setattr(distance, "GALLERY_ROWS", 6)
    for rows in (1, 4, 100):
        blocks = list(distance_blocks(*features, metric, rows=rows))
        np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), whole)
        covered = [row for where, _ in blocks for row in range(len(whole))[where]]
        assert covered == list(range(len(whole)))
    np.testing.assert_array_equal(whole[:, 4], whole[:, 20])
    assert whole.dtype == np.float32


def test_an_image_is_at_no_distance_from_itself(features):
    # Far from the origin, where float32 sums of squares would be off by whole units.
    shifted = features[1] + 1000
    assert distances(shifted, shifted, "euclidean").diagonal().max() < 1e-6
    assert abs(distances(shifted, shifted).diagonal()).max() < 1e-6


@pytest.mark.filterwarnings("error")
def test_arrays_may_be_views_and_read_only(features):
    query, gallery = features
    gallery.flags.writeable = False
    mirrored = distances(query[:, ::-1], gallery[:, ::-1])
    np.testing.assert_allclose(mirrored, distances(*features), atol=1e-6)


def test_a_feature_of_zeros_is_orthogonal_to_all():
    assert distances(np.zeros((1, 3)), np.eye(3)).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    ("query", "gallery", "metric", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), "cosin", "did you mean 'cosine'"),
        (np.ones((2, 3)), np.ones((2, 4)), "cosine", "3 dimensions, gallery features 4"),
        (np.ones((0, 3)), np.ones((2, 3)), "cosine", r"query features have the shape \[0, 3\]"),
        (np.ones((2, 3)), np.array([[1, 2, 3], [1, np.nan, 3]]), "cosine", "1 of 2 gallery.*row 1"),
    ],
)
def test_errors(query, gallery, metric, message):
    with pytest.raises(ValueError, match=message):
        distances(query, gallery, metric)
