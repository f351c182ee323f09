"""Models and configs around the tiny backbone, whose map is 1/8 of the image."""

import pytest
import torch

from openanimals.config import get_cfg
from openanimals.modeling import EmbeddingHead, ReIDModel
from tests.tiny import tiny


@pytest.fixture
def tiny_model():
    """Build a ReIDModel of 8 channels and 5 classes."""

    def build(branches=((1,), (1, 2), (1, 3)), num_classes=5, **options) -> ReIDModel:
        torch.manual_seed(0)
        head_options = {key: options.pop(key) for key in list(options) if key != "stripes"}
        return ReIDModel(
            tiny(None),
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
