"""A width-8 backbone, and models and configs around it."""

import pytest
import torch
from torch import nn

from openanimals.config import get_cfg
from openanimals.modeling import Backbone, EmbeddingHead, ReIDModel


def tiny_backbone() -> Backbone:
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    tail = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    return Backbone(stem, tail, 8)


@pytest.fixture
def tiny_model():
    """Build a ReIDModel of 8 channels and 5 classes."""

    def build(branches=((1,), (1, 2), (1, 3)), num_classes=5, **options) -> ReIDModel:
        torch.manual_seed(0)
        head_options = {key: options.pop(key) for key in list(options) if key != "stripes"}
        return ReIDModel(
            tiny_backbone(),
            branches,
            lambda channels: EmbeddingHead(channels, num_classes, **head_options),
            **options,
        )

    return build


@pytest.fixture
def cfg():
    """The defaults with ResNet-18 and one branch; not frozen."""
    cfg = get_cfg()
    cfg.merge_from_list(
        [
            *("MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.FEAT_DIM", 512),
            *("MODEL.HEADS.BRANCHES", [[1]], "MODEL.HEADS.WITH_BNNECK", True),
        ]
    )
    return cfg
