import numpy as np
import pytest
import torch

from openanimals.evaluation import distance
from openanimals.evaluation.distance import distance_blocks, nearest, pair_distances
from tests.evaluation import DEVICES, distances


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


@pytest.fixture(scope="module")
def large():
    """Queries `[300, 40]` of two tiles, and a gallery `[2300, 40]` of three, with equal rows."""
    rng = np.random.default_rng(1)
    query, gallery = (rng.standard_normal((count, 40), dtype=np.float32) for count in (300, 2300))
    gallery[SAME] = gallery[0]
    return query, gallery


SAME = [0, 1, 15, 47, 511, 777, 1022, 1023, 1024, 2047, 2048, 2298, 2299]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_does_not_depend_on_the_blocks(large, metric, monkeypatch):
    whole = distances(*large, metric)
    assert whole.shape == (300, 2300) and whole.dtype == np.float32
    for pairs in (1, 2**20, 2**30):
        monkeypatch.setattr(distance, "BLOCK_PAIRS", pairs)
        blocks = list(distance_blocks(*large, metric))
        np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), whole)
        covered = [row for where, _ in blocks for row in range(300)[where]]
        assert covered == list(range(300))
        assert len(blocks) == (1 if pairs == 2**30 else 2)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_does_not_depend_on_the_rest_of_the_gallery_nor_on_threads(large, metric):
    query, gallery = large
    whole = distances(*large, metric)
    for start, stop in ((0, 1024), (1024, 2048), (1024, 2300), (2048, 2300), (2048, 2048)):
        part = distances(query, gallery[start:stop], metric)
        np.testing.assert_array_equal(part, whole[:, start:stop])
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        np.testing.assert_array_equal(distances(*large, metric), whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equal_rows_are_equally_far_wherever_they_stand(large, metric, dtype, device):
    query, gallery = (side.astype(dtype) for side in large)
    [(_, found)] = distance_blocks(query, gallery, metric, device=device)
    np.testing.assert_array_equal(found[:, SAME], found[:, [0] * len(SAME)])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dimensions", [7, 40, 300, 1000])
def test_equal_images_are_equally_near_to_their_like(metric, dimensions):
    """Where products and lengths cancel, so that only their rounding would be left."""
    gallery = 3 * np.random.default_rng(1).standard_normal((2300, dimensions), dtype=np.float32)
    gallery[SAME] = gallery[0]
    [found] = distances(gallery[:1], gallery, metric)
    assert len(set(found[SAME])) == 1
    assert metric == "cosine" or found[0] == 0


@pytest.mark.filterwarnings("error")
def test_features_of_other_types_and_from_a_file(large, tmp_path):
    query, gallery = (side.astype(np.float16) for side in large)
    expected = distances(query.astype(np.float32), gallery.astype(np.float32))
    np.testing.assert_array_equal(distances(query, gallery), expected)
    gallery.tofile(tmp_path / "gallery")
    mapped = np.memmap(tmp_path / "gallery", np.float16, mode="r", shape=gallery.shape)
    np.testing.assert_array_equal(distances(query, mapped), expected)
    whole = np.round(3 * large[1])
    np.testing.assert_array_equal(
        distances(query, whole.astype(np.int16)), distances(query.astype(np.float32), whole)
    )


class Rows:
    """Features that give out no more than a tile at a time."""

    def __init__(self, features):
        self.features = features
        self.shape, self.ndim = features.shape, features.ndim

    def __len__(self):
        return len(self.features)

    def __getitem__(self, rows):
        assert len(self.features[rows]) <= distance.GALLERY_TILE
        return self.features[rows]


def test_features_are_taken_a_tile_at_a_time(large):
    found = distances(*(Rows(side) for side in large))
    np.testing.assert_array_equal(found, distances(*large))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_nearest_breaks_ties_by_row(large, metric):
    images = large[1][:1100]
    order = np.argsort(distances(images, images, metric), axis=1, kind="stable")[:, :30]
    rows, found = nearest(images, 30, metric)
    np.testing.assert_array_equal(rows, order)
    whole = distances(images, images, metric)
    np.testing.assert_array_equal(found, np.take_along_axis(whole, order, axis=1))


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
        (np.ones((2, 3)), np.ones(3), "cosine", r"gallery features have the shape \[3\]"),
        (np.ones((2, 3)), np.array([[1, 2, 3], [1, np.nan, 3]]), "cosine", "1 of 2 gallery.*row 1"),
        (np.full((1, 3), 1e30), np.ones((2, 3)), "cosine", "1 of 1 query features are not finite"),
    ],
)
def test_errors(query, gallery, metric, message):
    with pytest.raises(ValueError, match=message):
        distances(query, gallery, metric)


def test_float64_tells_images_apart_that_float32_finds_alike():
    """All features within 1e-5 of one another: the order is that of numbers of twice the length."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=64) + 1e-5 * rng.normal(size=(300, 64))
    exact = features.astype(np.longdouble)
    exact /= np.sqrt((exact**2).sum(axis=1, keepdims=True))
    expected = ((exact[:20, None] - exact[None]) ** 2).sum(axis=2) / 2
    found = distances(features[:20], features)
    np.testing.assert_array_equal(
        found.argsort(1, kind="stable"), expected.argsort(1, kind="stable")
    )
    rows = np.repeat(np.arange(20), 300), np.tile(np.arange(300), 20)
    np.testing.assert_allclose(found.ravel(), pair_distances(features, *rows), atol=1e-13)
