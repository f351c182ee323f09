"""Reduction to principal directions, against numpy's singular value decomposition."""

import numpy as np
import pytest

from openanimals.evaluation import evaluate, pca
from openanimals.evaluation.pca import reduce_dimensions
from tests.evaluation import DEVICES
from tests.evaluation import distances as all_distances


def herd(gallery, dimensions, kind=np.float64):
    """Queries `[7, D]` and a gallery `[G, D]`, spread unevenly and of all lengths."""
    rng = np.random.default_rng(gallery)
    spread = np.geomspace(1, 0.1, dimensions) * rng.uniform(1, 9, (7 + gallery, 1))
    images = rng.standard_normal((7 + gallery, dimensions)) * spread
    return images[:7].astype(kind), images[7:].astype(kind)


def unit(images):
    return images / np.linalg.norm(images, axis=1, keepdims=True)


SHAPES = [(30, 12), (12, 30), (20, 20)]  # more images than dimensions, and fewer


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_those_of_the_projections(shape, device):
    query, gallery = herd(*shape)
    _, _, directions = np.linalg.svd(unit(gallery))
    onto = directions[:5].T @ directions[:5]
    found, others = reduce_dimensions(query, gallery, 5, device=device)
    assert (found.shape, others.shape) == ((7, 5), (shape[0], 5))
    # A direction's sign is anyone's choice, which products do not know.
    np.testing.assert_allclose(found @ others.T, query @ onto @ gallery.T, atol=1e-10)
    np.testing.assert_allclose(others @ others.T, gallery @ onto @ gallery.T, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_dimensions_of_the_gallery_rank_as_before(shape):
    query, gallery = herd(*shape)
    reduced = reduce_dimensions(query, gallery, min(shape))
    before, after = all_distances(query, gallery), all_distances(*reduced)
    assert np.array_equal(before.argsort(axis=1), after.argsort(axis=1))
    np.testing.assert_allclose(reduced[0] @ reduced[1].T, query @ gallery.T, atol=1e-9)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int64])
def test_types_of_numbers(kind):
    query, gallery = herd(30, 12, kind)
    expected = reduce_dimensions(query.astype(float), gallery.astype(float), 4)
    for found, wanted in zip(reduce_dimensions(query, gallery, 4), expected, strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_memory_is_bounded_by_parts(shape, monkeypatch):
    whole = reduce_dimensions(*herd(*shape), 5)
    monkeypatch.setattr(pca, "BLOCK", 60)
    for found, expected in zip(reduce_dimensions(*herd(*shape), 5), whole, strict=True):
        np.testing.assert_allclose(abs(found), abs(expected), atol=1e-10)


def test_a_mapped_file_is_enough(tmp_path):
    query, gallery = herd(30, 12, np.float32)
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    found = reduce_dimensions(query, mapped, 3)[1]
    np.testing.assert_array_equal(found, reduce_dimensions(query, gallery, 3)[1])


def test_a_feature_of_zeros_spans_nothing():
    query, gallery = herd(10, 12)
    gallery[3] = 0
    assert not reduce_dimensions(query, gallery, 9)[1][3].any()
    with pytest.raises(ValueError, match=r"to 10 dimensions \(TEST.PCA\): .* 10 gallery .* span 9"):
        reduce_dimensions(query, gallery, 10)


@pytest.mark.parametrize("shape", [(10, 12), (12, 10)])
def test_more_dimensions_than_there_are(shape):
    with pytest.raises(ValueError, match=f"of the {shape[0]} gallery images span 10; set it to"):
        reduce_dimensions(*herd(*shape), 11)


def test_equal_images_span_one_dimension():
    images = np.tile(herd(1, 6)[1], (8, 1))
    assert reduce_dimensions(images, images, 1)[0].shape == (8, 1)
    with pytest.raises(ValueError, match="span 1;"):
        reduce_dimensions(images, images, 2)


def test_features_that_cannot_be_reduced():
    query, gallery = herd(30, 12)
    with pytest.raises(ValueError, match="query features have 11 dimensions, gallery features 12"):
        reduce_dimensions(query[:, 1:], gallery, 4)
    query[2, 3] = np.nan
    with pytest.raises(ValueError, match="1 of 7 query features are not finite .*row 2"):
        reduce_dimensions(query, gallery, 4)
    with pytest.raises(ValueError, match="1 of 7 gallery features are not finite"):
        reduce_dimensions(gallery, query, 4)


def test_individuals_are_found_by_few_dimensions():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((4, 50))
    names = np.repeat(np.arange(4), 10)
    images = centres[names] + rng.standard_normal((40, 50)) / 4
    reduced = reduce_dimensions(images[::10], images, 4)
    assert evaluate(*reduced, names[::10], names).mAP == 100
