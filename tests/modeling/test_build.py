"""From a config to a model, with parts of our own in it."""

import pytest
import torch
from torch import nn

from openanimals.modeling import (
    BACKBONE_REGISTRY,
    REID_HEADS_REGISTRY,
    ReIDModel,
    build_model,
    check_sizes,
    naming_the_size,
)
from openanimals.modeling.layers.attention import NonLocal, SqueezeExcitation
from openanimals.modeling.layers.norms import GhostBN
from openanimals.modeling.weights import WeightsError
from openanimals.utils.errors import UserError
from tests.tiny import tiny


def test_arbase_of_a_config(cfg):
    cfg.MODEL.HEADS.BRANCHES = [[1], [1, 2], [1, 3]]
    cfg.MODEL.HEADS.EMBEDDING_DIM = 32
    cfg.MODEL.HEADS.POOL_LAYER = "GeneralizedMeanPoolingP"
    cfg.MODEL.PIXEL_MEAN = [127.0, 127.0, 127.0]
    with torch.device("meta"):
        model = build_model(cfg, 7)
        output = model(torch.empty(2, 3, 96, 96), torch.empty(2, dtype=torch.long))
    assert [*output.logits] == ["b1", "b2", "b3", "b21", "b22", "b31", "b32", "b33"]
    assert output.logits["b33"].shape == (2, 7)
    assert output.features["b3_stripes"].shape == (2, 3 * 512)  # before the neck: as pooled
    assert model.eval()(torch.empty(1, 3, 96, 96, device="meta")).shape == (1, 8 * 32)
    assert build_model(cfg, 0).pixel_mean.flatten().tolist() == [127.0, 127.0, 127.0]


def test_pretrained_weights_reach_every_branch(cfg, tmp_path):
    source = build_model(cfg, 0)
    prefixes = ("stem.", "tails.b1.")
    state = {
        key.removeprefix(prefix): value
        for prefix in prefixes
        for key, value in source.state_dict().items()
        if key.startswith(prefix)
    }
    torch.save(state, tmp_path / "resnet18.pth")
    cfg.MODEL.HEADS.BRANCHES = [[1], [1, 2]]
    cfg.MODEL.BACKBONE.PRETRAIN_PATH = str(tmp_path / "resnet18.pth")
    key = "layer4.1.conv2.weight"
    untrained = build_model(cfg, 0)  # PRETRAIN is False
    assert not torch.equal(untrained.state_dict()[f"tails.b1.{key}"], state[key])
    cfg.MODEL.BACKBONE.PRETRAIN = True
    model = build_model(cfg, 0)
    for branch in ("b1", "b2"):
        assert torch.equal(model.state_dict()[f"tails.{branch}.{key}"], state[key])


def test_without_network_the_error_names_file_and_keys(cfg, monkeypatch, tmp_path):
    def offline(*args, **options):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    cfg.MODEL.BACKBONE.PRETRAIN = True
    cfg.MODEL.BACKBONE.WITH_IBN = True
    with pytest.raises(WeightsError, match=r"v1.0/resnet18_ibn_a-\w+.pth.*PRETRAIN_PATH"):
        build_model(cfg, 0)


def test_wrong_feat_dim_says_the_right_one(cfg):
    cfg.MODEL.BACKBONE.FEAT_DIM = 2048
    with pytest.raises(ValueError, match="set MODEL.BACKBONE.FEAT_DIM to 512"):
        build_model(cfg, 3)


@pytest.mark.parametrize(
    ("section", "name", "message"),
    [
        ("BACKBONE", "build_resnet_backbon", "unknown backbone .*'build_resnet_backbone'"),
        ("HEADS", "EmbedingHead", "unknown head .*'EmbeddingHead'"),
    ],
)
def test_unknown_names(cfg, section, name, message):
    cfg.MODEL[section].NAME = name
    with pytest.raises(ValueError, match=message):
        build_model(cfg, 3)


def test_norms_and_attention_of_a_config(cfg):
    cfg.MODEL.BACKBONE.NORM, cfg.MODEL.HEADS.NORM = "GN", "GhostBN"
    cfg.MODEL.BACKBONE.WITH_SE = cfg.MODEL.BACKBONE.WITH_NL = True
    with torch.device("meta"):
        model = build_model(cfg, 3)
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(GhostBN) == 1 and isinstance(model.heads["b1"].neck, GhostBN)
    assert kinds.count(SqueezeExcitation) == 8 and kinds.count(NonLocal) == 2
    assert torch.nn.BatchNorm2d not in kinds and torch.nn.GroupNorm in kinds


def test_group_norm_is_not_published(cfg):
    cfg.MODEL.BACKBONE.PRETRAIN, cfg.MODEL.BACKBONE.NORM = True, "GN"
    with pytest.raises(ValueError, match=r"NORM is GN.*PRETRAIN_PATH to a file trained with GN"):
        build_model(cfg, 3)


@pytest.mark.parametrize(
    ("key", "value"), [("WITH_IBN", True), ("WITH_SE", True), ("WITH_NL", True), ("NORM", "GN")]
)
def test_what_a_timm_model_cannot_have_is_refused(cfg, key, value):
    cfg.MODEL.BACKBONE.NAME = "timm/mobilenetv3_small_050"
    default = cfg.MODEL.BACKBONE[key]
    cfg.MODEL.BACKBONE[key] = value
    with pytest.raises(
        ValueError, match=f"BACKBONE.{key} {value} .*to {default} with timm/mobilenetv3_small_050"
    ):
        build_model(cfg, 3)


def test_timm_of_a_config(cfg):
    pytest.importorskip("timm")
    cfg.MODEL.BACKBONE.NAME = "timm/mobilenetv3_small_050"
    cfg.MODEL.BACKBONE.FEAT_DIM = 288
    model = build_model(cfg, 3).eval()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 288)


def test_a_backbone_and_a_head_of_our_own(cfg, monkeypatch):
    for registry in (BACKBONE_REGISTRY, REID_HEADS_REGISTRY):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    @BACKBONE_REGISTRY.register("my_backbone")
    def my_backbone(cfg):
        return tiny(cfg)

    @REID_HEADS_REGISTRY.register("MyHead")
    def my_head(cfg, in_channels, num_classes):
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FEAT_DIM = "my_backbone", 8
    cfg.MODEL.HEADS.NAME = "MyHead"
    cfg.MODEL.HEADS.BRANCHES = [[1], [1, 3]]
    assert build_model(cfg, 3).eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 5 * 8)


def test_building_a_model_computes_nothing(cfg, monkeypatch):
    monkeypatch.setattr(ReIDModel, "forward", None)
    assert build_model(cfg, 3).training


def test_sizes_are_tried_without_computing(cfg):
    model, seen = build_model(cfg, 3), []
    model.stem.conv1.register_forward_hook(lambda _, inputs, output: seen.append(output))
    before = {
        name: (id(value), value.clone()) for name, value in model.state_dict(keep_vars=True).items()
    }
    cfg.INPUT.SIZE_TEST = [96, 64]
    check_sizes(cfg, model)
    assert [(x.device.type, *x.shape[2:]) for x in seen] == [("meta", 48, 32), ("meta", 128, 64)]
    for name, value in model.state_dict(keep_vars=True).items():
        assert before[name][0] == id(value) and torch.equal(before[name][1], value)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("key", "crop"),
    [("INPUT.SIZE_TEST", False), ("INPUT.SIZE_TRAIN", False), ("INPUT.CROP.SIZE", True)],
)
def test_a_size_that_cannot_be_cut_names_its_key(cfg, key, crop):
    cfg.MODEL.HEADS.BRANCHES, cfg.INPUT.CROP.ENABLED = [[1, 3]], crop
    cfg.merge_from_list([key, [32, 64]])
    with pytest.raises(UserError, match=rf"{key} is \[32, 64\]: a feature map of 2 rows cannot"):
        check_sizes(cfg, build_model(cfg, 3))


def test_a_failure_is_blamed_on_the_size_only_where_that_is_the_cause(cfg):
    cfg.MODEL.HEADS.BRANCHES = [[1, 3]]
    model = build_model(cfg, 0).eval()
    with pytest.raises(RuntimeError, match="out of memory"), naming_the_size(cfg, model):
        raise RuntimeError("out of memory")
    cfg.INPUT.SIZE_TEST = [32, 64]
    with pytest.raises(UserError, match="SIZE_TEST is .* 2 rows"), naming_the_size(cfg, model):
        model(torch.zeros(1, 3, 32, 64))


def test_a_layer_that_needs_values_is_tried_with_an_image(cfg):
    class Brightness(nn.Module):
        def forward(self, x):
            return x + float(x.mean()) if x.shape[2] > 32 else x[:, :2]

    model = build_model(cfg, 3)
    model.stem = nn.Sequential(Brightness(), model.stem)
    check_sizes(cfg, model)
    cfg.INPUT.SIZE_TRAIN = [32, 64]
    with pytest.raises(UserError, match=r"SIZE_TRAIN is \[32, 64\]: .*channels"):
        check_sizes(cfg, model)
