"""The person methods: what they are made of, one step, and features, also in half precision."""

import math

import pytest
import torch

from openanimals.config import get_cfg
from openanimals.modeling import build_losses, build_model

NL = {"MODEL.BACKBONE.WITH_NL": True}
CIRCLE = {
    "MODEL.HEADS.POOL_LAYER": "GeneralizedMeanPoolingP",
    "MODEL.HEADS.NECK_FEAT": "after",
    "MODEL.HEADS.CLS_LAYER": "CircleSoftmax",
    "MODEL.HEADS.SCALE": 64.0,
    "MODEL.HEADS.MARGIN": 0.35,
    "MODEL.LOSSES.TRI.MARGIN": 0.0,
    "MODEL.LOSSES.TRI.HARD_MINING": True,
}
METHODS = {
    "AGW": {
        **NL,
        "MODEL.HEADS.POOL_LAYER": "GeneralizedMeanPooling",
        "MODEL.LOSSES.TRI.MARGIN": 0.0,
    },
    "SBS": {**NL, **CIRCLE},
    "MGN": {
        **CIRCLE,
        "MODEL.HEADS.EMBEDDING_DIM": 256,
        "MODEL.HEADS.BRANCHES": [[1], [1, 2], [1, 3]],
    },
}
TARGETS = torch.tensor([0, 0, 1, 1, 2, 2])


def method_cfg(name: str, depth: str, channels: int):
    keys = {
        "MODEL.BACKBONE.DEPTH": depth,
        "MODEL.BACKBONE.FEAT_DIM": channels,
        "MODEL.HEADS.BRANCHES": [[1]],
        "MODEL.HEADS.WITH_BNNECK": True,
        "MODEL.LOSSES.NAME": ("CrossEntropyLoss", "TripletLoss"),
        "MODEL.LOSSES.CE.EPSILON": 0.1,
        **METHODS[name],
    }
    cfg = get_cfg()
    cfg.merge_from_list([part for pair in keys.items() for part in pair])
    return cfg


@pytest.mark.parametrize(
    ("name", "autocast"), [*((name, False) for name in METHODS), ("AGW", True), ("SBS", True)]
)
def test_one_step_and_features(name, autocast):
    cfg = method_cfg(name, "18x", 512)
    torch.manual_seed(0)
    model = build_model(cfg, 3)
    images = torch.randint(0, 256, (6, 3, 96, 32), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = model(images, TARGETS)
    values = build_losses(cfg)(output, TARGETS)
    sum(values.values()).backward()
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
        assert parameter.requires_grad != key.endswith("neck.bias")
        assert parameter.grad is None or parameter.grad.isfinite().all(), key
    exponents = [key for key, _ in model.named_parameters() if key.endswith("pool.p")]
    assert len(exponents) == {"AGW": 0, "SBS": 1, "MGN": 8}[name]
    model.eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), torch.no_grad():
        features = model(images)
    assert features.shape == (6, 8 * 256 if name == "MGN" else 512)
    assert features.isfinite().all()


@torch.no_grad()
def test_cosines_keep_their_resolution_in_half_precision():
    """In bfloat16 no two logits between 32 and 64 could be nearer than 0.25."""
    head = build_model(method_cfg("SBS", "18x", 512), 50).heads["b1"]
    feature_map = torch.rand(6, 512, 3, 3).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        given = head(feature_map, TARGETS).logits
    torch.testing.assert_close(given, head(feature_map.float(), TARGETS).logits)


RESNET = 23_508_032  # of a ResNet-50 without classifier
TAIL = 5_585_920 + 14_964_736  # of it the third stage without its first block, and the fourth
NECK = 2 * 2048
# Three convolutions to one channel, one back, a norm; two of 512 and three of 1024 channels.
NON_LOCAL = 2 * (7 * 512 + 3) + 3 * (7 * 1024 + 3)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("AGW", RESNET + NON_LOCAL + NECK),
        ("SBS", RESNET + NON_LOCAL + NECK + 1),
        ("MGN", RESNET + 2 * TAIL + 8 * (2048 * 256 + 2 * 256 + 1)),
    ],
)
def test_number_of_parameters(name, count):
    with torch.device("meta"):
        model = build_model(method_cfg(name, "50x", 2048), 0)
    assert sum(math.prod(parameter.shape) for parameter in model.parameters()) == count
