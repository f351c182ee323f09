"""The embedding head: what it returns when, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F

from openanimals.modeling import CLASSIFIER_REGISTRY, EmbeddingHead

MAP = torch.randn(6, 8, 5, 4)
TARGETS = torch.tensor([0, 0, 1, 1, 2, 2])


def test_features_before_and_after_the_neck():
    torch.manual_seed(0)
    before = EmbeddingHead(8, 3, neck_feat="before")
    after = EmbeddingHead(8, 3, neck_feat="after")
    after.load_state_dict(before.state_dict())
    pooled = MAP.mean((2, 3))
    normed = F.batch_norm(pooled, None, None, training=True)
    torch.testing.assert_close(before(MAP, TARGETS).feature, pooled)
    torch.testing.assert_close(after(MAP, TARGETS).feature, normed)
    for head in (before, after):
        logits = head(MAP, TARGETS).logits
        torch.testing.assert_close(logits, normed @ head.classifier.weight.T)
    after.load_state_dict(before.state_dict())
    torch.testing.assert_close(before.eval()(MAP), after.eval()(MAP))  # tested: after the neck


def test_reduction_narrows_the_tested_feature():
    head = EmbeddingHead(8, 3, embedding_dim=4, bnneck=False).eval()
    expected = MAP.mean((2, 3)) @ head.reduction.weight[:, :, 0, 0].T
    torch.testing.assert_close(head(MAP), expected)
    assert head.reduction.bias is None


def test_cosine_classifier():
    head = EmbeddingHead(8, 3, classifier="CosSoftmax", scale=30.0, margin=0.35, bnneck=False)
    cosines = F.cosine_similarity(MAP.mean((2, 3))[:, None], head.classifier.weight[None], dim=2)
    expected = 30.0 * (cosines - 0.35 * F.one_hot(TARGETS, 3))
    torch.testing.assert_close(head(MAP, TARGETS).logits, expected)


@torch.no_grad()
def test_cosines_keep_their_resolution_in_half_precision():
    """In bfloat16 no two logits between 32 and 64 could be nearer than 0.25."""
    options = {"pool": "GeneralizedMeanPooling", "scale": 64.0, "margin": 0.35}
    head = EmbeddingHead(512, 50, classifier="CircleSoftmax", **options)
    feature_map = torch.rand(6, 512, 3, 3).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        given = head(feature_map, TARGETS).logits
    torch.testing.assert_close(given, head(feature_map.float(), TARGETS).logits)


def test_a_classifier_of_ones_own(monkeypatch):
    monkeypatch.setattr(CLASSIFIER_REGISTRY, "_entries", dict(CLASSIFIER_REGISTRY._entries))

    @CLASSIFIER_REGISTRY.register("Squared")
    def squared(logits, targets, scale, margin):
        return scale * logits.square() - margin

    head = EmbeddingHead(8, 3, classifier="Squared", scale=2.0, margin=0.5, bnneck=False)
    cosines = F.cosine_similarity(MAP.mean((2, 3))[:, None], head.classifier.weight[None], dim=2)
    torch.testing.assert_close(head(MAP, TARGETS).logits, 2 * cosines.square() - 0.5)


def test_classifier_starts_small_and_has_no_bias():
    torch.manual_seed(0)
    head = EmbeddingHead(2048, 100)
    assert head.classifier.bias is None
    assert head.classifier.weight.std().item() == pytest.approx(0.01, rel=0.02)


def test_no_classes_means_evaluation_only():
    head = EmbeddingHead(8, 0)
    assert head.classifier is None
    assert head.eval()(MAP).shape == (6, 8)
    with pytest.raises(ValueError, match="num_classes > 0"):
        head.train()(MAP, TARGETS)


def test_a_pool_that_leaves_a_map_is_refused():
    with pytest.raises(ValueError, match=r"'Flatten'.*\[160, 1, 1\]; expected \[8, 1, 1\]"):
        EmbeddingHead(8, 3, pool="Flatten")(MAP, TARGETS)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("pool", "GlobalAvgPol", "POOL_LAYER is 'GlobalAvgPol' .did you mean 'GlobalAvgPool'"),
        ("norm", "bn", "norm is 'bn' .did you mean 'BN'"),
        ("neck_feat", "befor", "NECK_FEAT is 'befor' .did you mean 'before'"),
        ("classifier", "Circle", "CLS_LAYER. 'Circle'.*known: ArcSoftmax, CircleSoftmax"),
    ],
)
def test_wrong_names(option, value, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingHead(8, 3, **{option: value})
