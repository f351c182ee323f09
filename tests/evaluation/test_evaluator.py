from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from openanimals.evaluation import distance, evaluate, extract_features


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


def test_modes_are_restored_after_an_error(images):
    model = LeftHalf()
    with pytest.raises(AttributeError):
        extract_features(model, [images, "no batch"], "cpu")
    assert model.training


def test_no_images():
    with pytest.raises(ValueError, match="no images"):
        extract_features(LeftHalf(), [], "cpu")


def test_blocks_of_queries_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    columns = rng.standard_normal((50, 8)), rng.integers(0, 6, 50), rng.integers(0, 3, 50)
    inputs = [side for column in columns for side in np.split(column, [15])]
    whole = evaluate(*inputs)
    monkeypatch.setattr(distance, "BLOCK_PAIRS", 70)
    assert evaluate(*inputs).as_dict() == whole.as_dict()
    for one, other in zip(evaluate(*inputs).ranking, whole.ranking, strict=True):
        np.testing.assert_array_equal(one, other)


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
