"""Folded models give the features of the models that they were made of."""

import copy

import pytest
import torch
from torch import nn

from openanimals.modeling import EmbeddingHead, ReIDModel, build_model, fold_norms
from openanimals.modeling.backbones.resnet import resnet
from openanimals.modeling.layers.norms import FrozenBN
from tests.reference.fill_rule import fill_module

IMAGES = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
NORMS = (nn.modules.batchnorm._BatchNorm, FrozenBN)
VARIANTS = {
    "basic blocks": {},
    "bottlenecks": {"depth": "50x", "ibn": True},
    "SE and non-local": {"ibn": True, "se": True, "non_local": True},
    "GhostBN": {"ibn": True, "norm": "GhostBN"},
    "syncBN": {"ibn": True, "norm": "syncBN"},
    "FrozenBN": {"ibn": True, "norm": "FrozenBN"},
}


def build(**options) -> ReIDModel:
    """A model of one branch with two stripes and a reduction, filled with what is not the start."""
    backbone = resnet(**{"depth": "18x", **options})
    model = ReIDModel(backbone, [[1, 2]], lambda c: EmbeddingHead(c, 0, embedding_dim=8))
    fill_module(model)
    return model.eval()


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_features_differ_by_rounding(variant):
    model = build(**VARIANTS[variant]).double()
    before = copy.deepcopy(model.state_dict())
    folded = fold_norms(model)
    features = model(IMAGES)
    torch.testing.assert_close(folded(IMAGES), features, rtol=1e-10, atol=1e-10)
    assert not any(isinstance(module, NORMS) for module in folded.modules())
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@torch.no_grad()
def test_features_in_single_precision():
    model = build(ibn=True)
    features = model(IMAGES)
    error = (fold_norms(model)(IMAGES) - features).abs().max() / features.abs().max()
    assert error < 1e-5


def test_the_copy_is_for_inference_and_in_the_layout_of_the_model():
    model = build().train().to(memory_format=torch.channels_last)
    folded = fold_norms(model)
    assert model.training and not any(module.training for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    weights = [module.weight for module in folded.modules() if isinstance(module, nn.Conv2d)]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


class NormWithActivation(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


@torch.no_grad()
def test_only_plain_norms_behind_plain_convolutions():
    """The first norm here has no convolution before it, the second does more than a norm."""
    layers = [nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), NormWithActivation(4)]
    model = nn.Sequential(*layers, nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)).eval()
    model[4].running_mean.normal_()
    folded = fold_norms(model)
    assert [type(layer) for layer in folded[:3]] == [type(layer) for layer in layers]
    assert type(folded[4]) is nn.Identity
    torch.testing.assert_close(folded(IMAGES / 255), model(IMAGES / 255))


def test_nothing_to_fold_is_told_when_the_model_is_built(cfg):
    cfg.TEST.FOLD_NORMS = True
    cfg.MODEL.BACKBONE.PRETRAIN = False
    build_model(cfg, 2)
    cfg.MODEL.BACKBONE.NORM = "GN"
    with pytest.raises(ValueError, match=r"TEST\.FOLD_NORMS is True, but this model has no batch"):
        build_model(cfg, 2)
