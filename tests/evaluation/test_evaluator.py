from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from openanimals.evaluation import distance, evaluate, extract_features
from tests.evaluation import distances, equal_rankings


class LeftHalf(nn.Module):
    """The mean colour of an image's left half `[B, 3]`; the batch norm is there for its mode."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.frozen = nn.BatchNorm1d(3).eval()
        self.linear = nn.Linear(3, 3, bias=False)
        nn.init.eye_(self.linear.weight)

    def forward(self, images):
        assert not self.training and not torch.is_grad_enabled()
        return self.linear(images[..., : images.shape[-1] // 2].float().mean(dim=(2, 3)))


@pytest.fixture
def images():
    return torch.randint(256, (5, 3, 4, 6), generator=torch.Generator().manual_seed(0)).byte()


def test_features_in_order_and_modes_restored(images):
    model = LeftHalf()
    batches = [images[:2], SimpleNamespace(images=images[2:])]
    features = extract_features(model, batches, "cpu")
    np.testing.assert_allclose(features, images[..., :3].numpy().mean(axis=(2, 3)), rtol=1e-6)
    assert features.dtype == np.float32
    assert model.training and model.norm.training and not model.frozen.training


def test_flip_test_is_the_mean_with_the_mirror_image(images):
    flipped = extract_features(LeftHalf(), [images], "cpu", flip=True)
    np.testing.assert_allclose(flipped, images.numpy().mean(axis=(2, 3)), rtol=1e-6)


def test_a_smaller_type_is_computed_in_and_given_back_as_float32(images):
    whole = extract_features(LeftHalf(), [images], "cpu")
    halved = extract_features(LeftHalf(), [images], "cpu", dtype=torch.bfloat16)
    assert halved.dtype == np.float32
    rounded = torch.from_numpy(whole).bfloat16().float().numpy()
    np.testing.assert_array_equal(halved, rounded)
    same = extract_features(LeftHalf(), [images], "cpu", dtype=torch.float32)
    np.testing.assert_array_equal(same, whole)


def test_modes_are_restored_after_an_error(images):
    model = LeftHalf()
    with pytest.raises(AttributeError):
        extract_features(model, [images, "no batch"], "cpu")
    assert model.training


def test_no_images():
    with pytest.raises(ValueError, match="no images"):
        extract_features(LeftHalf(), [], "cpu")


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 4, 4, 3), (3, 4, 4)])
def test_images_are_of_three_channels(shape):
    with pytest.raises(ValueError, match="expected RGB"):
        extract_features(LeftHalf(), [torch.zeros(shape)], "cpu")


@pytest.fixture
def herd():
    """Arguments of `evaluate`: 600 queries and 2300 images, of three tiles; most are equally far.

    Of 200 individuals and 3 cameras; some queries have no match.
    """
    rng = np.random.default_rng(0)
    features = rng.integers(-2, 3, (2900, 3)).astype(np.float32)
    columns = features, rng.integers(0, 200, 2900), rng.integers(0, 3, 2900)
    return [side for column in columns for side in np.split(column, [600])]


def test_blocks_of_queries_change_nothing(herd, monkeypatch):
    whole = evaluate(*herd)
    monkeypatch.setattr(distance, "BLOCK_PAIRS", 1)
    assert evaluate(*herd).as_dict() == whole.as_dict()
    equal_rankings(evaluate(*herd).ranking, whole.ranking)


def test_against_a_stable_sort(herd):
    query, gallery, query_names, gallery_names, query_cameras, gallery_cameras = herd
    ranking = evaluate(*herd).ranking
    far = distances(query, gallery)
    for row, (name, camera) in enumerate(zip(query_names, query_cameras, strict=True)):
        own = gallery_names == name
        kept = ~(own & (gallery_cameras == camera))
        order = np.flatnonzero(kept)[np.argsort(far[row, kept], kind="stable")]
        assert ranking.top[row].tolist() == order[:10].tolist()
        ranks = np.flatnonzero(own[order]) + 1
        assert ranking.first_hit[row] == (ranks[0] if len(ranks) else 0)
        precisions = np.arange(1, len(ranks) + 1) / ranks
        precision = np.mean(precisions) if len(ranks) else np.nan
        found = ranking.average_precision[row]
        assert found == pytest.approx(precision, rel=1e-12, nan_ok=True)


def test_the_query_itself_is_found_unless_its_camera_removes_it():
    features, names = np.eye(3), ["ada", "ada", "bo"]
    assert evaluate(features[:1], features, names[:1], names).top[0].tolist() == [0, 1, 2]
    removed = evaluate(features[:1], features, names[:1], names, ["1"], ["1", "2", "1"])
    assert removed.top[0].tolist() == [1, 2, -1]


def test_one_image_against_one():
    result = evaluate(np.ones((1, 2)), np.ones((1, 2)), ["ada"], ["ada"])
    assert (result.rank(1), result.mAP, result.mINP) == (100, 100, 100)
    assert len(result.cmc) == 50


def test_lengths_must_fit():
    with pytest.raises(ValueError, match="2 gallery features for 1 identities"):
        evaluate(np.ones((1, 2)), np.ones((2, 2)), ["ada"], ["ada"])


def test_cameras_of_one_side_only():
    with pytest.raises(ValueError, match="only the query has cameras"):
        evaluate(np.eye(1), np.eye(1), ["ada"], ["ada"], query_cameras=["1"])
