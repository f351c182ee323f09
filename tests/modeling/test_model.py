"""Branches, stripes, freezing: the shape of ReIDModel."""

import copy

import pytest
import torch
from torch import nn

from openanimals.modeling import Backbone, ReIDModel
from tests.tiny import tiny

ARBASE_HEADS = ["b1", "b2", "b3", "b21", "b22", "b31", "b32", "b33"]
IMAGES = torch.randint(0, 256, (4, 3, 96, 64), dtype=torch.uint8)
TARGETS = torch.tensor([0, 1, 2, 2])


def test_training_gives_features_by_granularity_and_logits_by_head(tiny_model):
    output = tiny_model()(IMAGES, TARGETS)
    assert list(output.logits) == ARBASE_HEADS
    assert all(logits.shape == (4, 5) for logits in output.logits.values())
    widths = {name: feature.shape[1] for name, feature in output.features.items()}
    assert widths == {"b1": 8, "b2": 8, "b3": 8, "b2_stripes": 16, "b3_stripes": 24}


@torch.no_grad()
def test_test_feature_is_every_head_on_its_own_stripe(tiny_model):
    model = tiny_model().eval()
    pixels = (IMAGES - model.pixel_mean) / model.pixel_std
    maps = {name: tail(model.stem(pixels)) for name, tail in model.tails.items()}  # 12 rows
    rows = {
        "b1": slice(None), "b2": slice(None), "b3": slice(None),
        "b21": slice(0, 6), "b22": slice(6, 12),
        "b31": slice(0, 4), "b32": slice(4, 8), "b33": slice(8, 12),
    }  # fmt: skip
    expected = []
    for name in ARBASE_HEADS:
        pooled = maps[name[:2]][:, :, rows[name]].mean((2, 3), keepdim=True)
        expected.append(model.heads[name].neck(pooled)[:, :, 0, 0])
    torch.testing.assert_close(model(IMAGES), torch.cat(expected, dim=1))


@pytest.mark.parametrize(("stripes", "transpose"), [("rows", False), ("cols", True)])
@torch.no_grad()
def test_stripes_of_sizes_that_do_not_divide(tiny_model, stripes, transpose):
    """7 lines in 3 stripes are 3, 3 and 1."""
    model = tiny_model([[3]], stripes=stripes).eval()
    model.tails["b1"] = model.stem = nn.Identity()
    model.heads.update({name: nn.Flatten() for name in ("b11", "b12", "b13")})
    model.pixel_mean.zero_()
    model.pixel_std.fill_(1.0)
    images = torch.arange(2 * 3 * 7 * 1.0).view(2, 3, 7, 1)
    parts = [images[:, :, :3], images[:, :, 3:6], images[:, :, 6:]]
    given = model(images.transpose(2, 3) if transpose else images)
    assert torch.equal(given, torch.cat([part.flatten(1) for part in parts], dim=1))


@pytest.mark.parametrize("height", [8, 16])  # 2 rows make 2 of 3 stripes, as do 1 row and 1 stripe
def test_too_few_rows_is_an_error(tiny_model, height):
    with pytest.raises(ValueError, match=rf"{height // 8} rows cannot be cut into \d stripes"):
        tiny_model().eval()(torch.zeros(1, 3, height, 64))


@torch.no_grad()
def test_pixels_are_normalised_inside_and_not_in_place(tiny_model):
    model = tiny_model([[1]]).eval()
    as_float = IMAGES.float()
    before = as_float.clone()
    assert torch.equal(model(as_float), model(IMAGES))
    assert torch.equal(as_float, before)
    assert not any("pixel" in key for key in model.state_dict())


def test_branches_start_equal_and_part_ways(tiny_model):
    model = tiny_model()
    weights = [tail[0].weight for tail in model.tails.values()]
    assert all(torch.equal(weights[0], weight) for weight in weights)
    assert len({weight.data_ptr() for weight in weights}) == 3


def test_parts_of_one_branch_and_of_several(tiny_model):
    one, several = tiny_model([[1]]), tiny_model()
    assert list(one.parts()) == ["backbone", "b1_head", "heads"]
    assert one.parts()["backbone"] == (one.stem, one.tails["b1"])
    heads = [f"{name}_head" for name in ARBASE_HEADS]
    assert list(several.parts()) == ["backbone", "b1", "b2", "b3", *heads, "heads"]
    assert several.parts()["backbone"] == (several.stem,)


def test_frozen_parts_stand_still_and_the_others_do_not(tiny_model):
    model = tiny_model()
    optimizer = torch.optim.Adam(model.parameters(), weight_decay=0.1)
    model(IMAGES, TARGETS).logits["b1"].sum().backward()  # leaves a gradient behind
    model.freeze(["backbone", "b1", "b21_head"])
    model.train()
    before = copy.deepcopy(model.state_dict())
    output = model(IMAGES, TARGETS)
    sum(logits.square().sum() for logits in output.logits.values()).backward()
    optimizer.step()
    changed = {
        key.rsplit(".", 2)[0] if "heads" not in key else ".".join(key.split(".")[:2])
        for key, value in model.state_dict().items()
        if not torch.equal(value, before[key])
    }
    # "b1" is the tail and not, as a prefix would have it, b1_head as well.
    heads = {f"heads.{name}" for name in ARBASE_HEADS if name != "b21"}
    assert changed == heads | {"tails.b2", "tails.b3"}


def test_unfreeze_restores_all_but_the_neck_bias(tiny_model):
    model = tiny_model()
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    model.freeze(["backbone", "heads"])
    assert not model.stem[1].training and not model.heads["b1"].neck.training
    assert model.heads["b1"].training
    model.freeze(["b1"])  # replaces what was frozen
    assert model.stem[1].training and not model.tails["b1"][1].training
    model.unfreeze()
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    assert all(module.training for module in model.modules())
    model.eval()
    model.unfreeze()
    assert not any(module.training for module in model.modules())


def test_unknown_part_names_the_closest(tiny_model):
    with pytest.raises(ValueError, match="FREEZE_LAYERS names 'b1_heads' .did you mean 'b1_head'"):
        tiny_model().freeze(["b1_heads"])


@pytest.mark.parametrize("branches", [[], [[]], [[0]], [[1, 1]], [[2, 3]], [[10]], [[1]] * 10])
def test_branches_that_cannot_be_named(tiny_model, branches):
    with pytest.raises(ValueError, match="MODEL.HEADS.BRANCHES is"):
        tiny_model(branches)


def test_a_backbone_without_stem_has_one_branch():
    stem, tail, channels = tiny(None)
    backbone = Backbone(nn.Identity(), nn.Sequential(stem, tail), channels)
    ReIDModel(backbone, [[1, 2]], lambda _: nn.Identity())
    with pytest.raises(ValueError, match="no stem that they could share; use one branch"):
        ReIDModel(backbone, [[1], [2]], lambda _: nn.Identity())
