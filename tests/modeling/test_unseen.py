"""What a model is given and would not use: what gradients tell, it says before anything is run."""

import re

import pytest
import torch

from openanimals.config import load
from openanimals.modeling import build_model
from openanimals.utils.errors import UserError

pytest.importorskip("timm")


def built(name, channels, pool="GlobalAvgPool", size=(64, 64)):
    keys = {
        "MODEL.BACKBONE.NAME": f"timm/{name}",
        "MODEL.BACKBONE.FEAT_DIM": channels,
        "MODEL.BACKBONE.LAST_STRIDE": 2,
        "MODEL.HEADS.POOL_LAYER": pool,
        "INPUT.SIZE_TRAIN": list(size),
        "INPUT.SIZE_TEST": list(size),
    }
    torch.manual_seed(0)
    return build_model(load(None, [part for pair in keys.items() for part in pair]), 0).eval()


GEM, LEARNT, CLIP = "GeneralizedMeanPooling", "GeneralizedMeanPoolingP", "ClipGlobalAvgPool"


@pytest.mark.parametrize(
    ("name", "channels", "pool", "erases"),
    [
        ("test_vit", 64, GEM, True),
        ("test_vit", 64, LEARNT, True),
        ("test_vit", 64, "GlobalAvgPool", False),
        ("test_convnext", 64, CLIP, True),
        ("test_convnext", 64, "GlobalMaxPool", False),
        ("resnet10t", 512, GEM, False),
        ("test_efficientnet", 256, LEARNT, False),  # as MiewID
    ],
)
@torch.no_grad()
def test_a_pool_that_erases_the_negative_half_of_features(caplog, name, channels, pool, erases):
    model = built(name, channels, pool)
    assert (f"POOL_LAYER {pool} erases" in caplog.text) == erases
    if erases:
        feature_map = model.tails["b1"](model.stem(torch.randn(2, 3, 64, 64)))
        assert (feature_map < 0).float().mean() > 0.3


@pytest.mark.parametrize(
    ("name", "channels", "size", "advice"),
    [
        ("test_convnext", 64, (64, 96), None),
        ("test_convnext", 64, (66, 96), "the last 2 rows and 0 columns"),
        ("test_convnext", 64, (64, 125), r"the last 0 rows and \d+ columns.*such as \[64, 128\]"),
        ("resnet10t", 512, (67, 93), None),
    ],
)
def test_pixels_that_are_never_seen_are_told(caplog, name, channels, size, advice):
    model = built(name, channels, size=size)
    images = torch.randn(1, 3, *size, requires_grad=True)
    model.tails["b1"](model.stem(images)).square().sum().backward()
    seen = images.grad[0].abs().sum(0) > 0
    told = [record.getMessage() for record in caplog.records]
    assert bool(seen[-1].any() and seen[:, -1].any()) == (advice is None) == (not told)
    assert not advice or re.search(advice, told[0])


@pytest.mark.parametrize("shape", [(2, 1, 48, 32), (2, 4, 48, 32), (2, 48, 32, 3), (3, 48, 32)])
def test_images_of_other_than_three_channels_are_refused(tiny_model, shape):
    with pytest.raises(UserError, match=r"expected RGB, \[B, 3, H, W\]"):
        tiny_model().eval()(torch.zeros(shape))


@pytest.mark.parametrize("training", [False, True])
def test_images_that_are_scaled_already_are_warned_of_once(tiny_model, caplog, training):
    model, images = tiny_model().train(training), torch.randint(0, 256, (4, 3, 48, 32))
    targets = torch.zeros(4, dtype=torch.int64)
    for fine in (images.byte(), images.float(), torch.zeros(4, 3, 48, 32)):
        model(fine, targets)
        assert not caplog.records
    for wrong in (images / 255, (images / 255 - 0.45) / 0.22, images > 127):
        model = tiny_model().train(training)
        for _ in range(2):
            model(wrong, targets)
        assert caplog.text.count("multiply them by 255") == 1
        caplog.clear()
