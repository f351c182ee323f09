"""ResNets against torchvision's, and where they are cut."""

import pytest
import torch
import torchvision
from torch import nn

from openanimals.modeling.backbones.resnet import resnet
from openanimals.modeling.layers.attention import NonLocal, SqueezeExcitation
from openanimals.modeling.layers.norms import IBN, NORMS, make_norm
from openanimals.modeling.weights import ArchitectureError
from openanimals.utils.errors import UserError


@pytest.mark.parametrize(("depth", "name"), [("18x", "resnet18"), ("50x", "resnet50")])
@torch.no_grad()
def test_it_is_torchvisions_network_but_for_the_max_pool(depth, name, tmp_path):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    backbone = resnet(depth, last_stride=2, weights=tmp_path / "weights.pth")
    theirs.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    theirs.avgpool = theirs.fc = nn.Identity()
    images = torch.randn(1, 3, 64, 64)
    feature_map = backbone.tail.eval()(backbone.stem.eval()(images))
    assert feature_map.shape == (1, backbone.channels, 2, 2)
    assert torch.equal(feature_map.flatten(1), theirs(images))


@pytest.mark.parametrize(("stride", "size"), [(1, (24, 12)), (2, (12, 6))])
@pytest.mark.parametrize("depth", ["18x", "34x", "50x", "101x"])
def test_map_size_and_cut(depth, stride, size):
    with torch.device("meta"):
        backbone = resnet(depth, last_stride=stride)
        shared = backbone.stem(torch.empty(1, 3, 384, 192))
        assert shared.shape[2:] == (24, 12)
        assert backbone.tail(shared).shape == (1, backbone.channels, *size)
    assert {k.split(".")[1] for k in backbone.stem.state_dict() if "layer3" in k} == {"0"}
    assert next(iter(backbone.tail.state_dict())) == "layer3.1.conv1.weight"


def places(backbone, kind) -> list[str]:
    """Names of the modules of a kind, torchvision's."""
    return [
        name
        for part in backbone[:2]
        for name, module in part.named_modules()
        if isinstance(module, kind)
    ]


@pytest.mark.parametrize("depth", ["18x", "50x"])
def test_ibn_is_the_first_norm_of_the_blocks_of_three_stages(depth):
    with torch.device("meta"):
        backbone = resnet(depth, ibn=True)
    counts = (3, 4, 6) if depth == "50x" else (2, 2, 2)
    blocks = [f"layer{s}.{i}.bn1" for s, count in enumerate(counts, 1) for i in range(count)]
    assert places(backbone, IBN) == blocks


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [
        ("18x", ["layer2.1_nl", "layer3.1_nl"]),
        ("34x", ["layer2.3_nl", "layer3.5_nl"]),
        ("50x", ["layer2.2_nl", "layer2.3_nl", *(f"layer3.{i}_nl" for i in (3, 4, 5))]),
        ("101x", ["layer2.2_nl", "layer2.3_nl", *(f"layer3.{i}_nl" for i in range(14, 23))]),
    ],
)
def test_where_non_local_blocks_stand(depth, blocks):
    with torch.device("meta"):
        backbone = resnet(depth, non_local=True)
        plain = resnet(depth)
    assert places(backbone, NonLocal) == blocks
    stage = list(dict(backbone.tail.named_children())["layer3"]._modules)
    assert stage.index(f"{blocks[-1][7:-3]}_nl") == stage.index(blocks[-1][7:-3]) + 1
    for part, other in zip(backbone[:2], plain[:2], strict=True):
        assert [k for k in part.state_dict() if "_nl." not in k] == list(other.state_dict())


@pytest.mark.parametrize("depth", ["18x", "50x"])
@torch.no_grad()
def test_squeeze_and_excitation_scales_the_residual(depth):
    torch.manual_seed(0)
    stem = resnet(depth, se=True).stem.eval()
    with torch.device("meta"):
        assert len(places(resnet(depth, se=True), SqueezeExcitation)) == (
            8 if depth == "18x" else 16
        )
    block, x = stem.layer2[1], torch.randn(2, 128 if depth == "18x" else 512, 6, 5)
    seen = {}
    for name, layer in (("in", block.se), ("add", block.relu)):
        layer.register_forward_pre_hook(lambda _, x, name=name: seen.update({name: x[0].clone()}))
    y = block(x)
    last = block.bn2 if depth == "18x" else block.bn3
    assert last(torch.zeros_like(x)).shape == seen["in"].shape
    torch.testing.assert_close(seen["add"], x + block.se(seen["in"].clone()))
    assert torch.equal(y, seen["add"].relu())


@pytest.mark.parametrize("ibn", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_is_the_one_asked_for(norm, ibn):
    backbone = resnet("18x", norm=norm, ibn=ibn, non_local=True)
    kind = type(make_norm(norm, 32))
    # One of the stem, two a block, one in each of three shortcuts, one in each non-local block.
    assert len(places(backbone, kind)) == 1 + 16 + 3 + 2
    # Some are kinds of BatchNorm2d, and so found among them.
    others = tuple({type(make_norm(other, 32)) for other in NORMS} - set(kind.__mro__))
    assert not places(backbone, others)
    feature_map = backbone.tail(backbone.stem(torch.randn(2, 3, 64, 32)))
    assert feature_map.shape == (2, 512, 4, 2) and feature_map.isfinite().all()


@pytest.mark.parametrize("norm", [name for name in NORMS if name != "GN"])
def test_every_batch_norm_takes_published_weights(norm, tmp_path):
    state = torchvision.models.resnet18().state_dict()
    for key, value in state.items():
        if "running" in key:
            value.uniform_(1.0, 2.0)
    torch.save(state, tmp_path / "resnet18.pth")
    backbone = resnet("18x", norm=norm, se=True, non_local=True, weights=tmp_path / "resnet18.pth")
    loaded = {**backbone.stem.state_dict(), **backbone.tail.state_dict()}
    for key, value in state.items():
        if not key.startswith("fc.") and not key.endswith("num_batches_tracked"):
            assert torch.equal(loaded[key], value), key


def test_group_norm_takes_weights_of_group_norm_only(tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "bn.pth")
    with pytest.raises(ArchitectureError, match="not expected: bn1.running_mean"):
        resnet("18x", norm="GN", weights=tmp_path / "bn.pth")
    trained = torchvision.models.resnet18(norm_layer=lambda channels: nn.GroupNorm(32, channels))
    torch.save(trained.state_dict(), tmp_path / "gn.pth")
    backbone = resnet("18x", norm="GN", weights=tmp_path / "gn.pth")
    assert torch.equal(backbone.stem.conv1.weight, trained.conv1.weight)


def test_frozen_non_local_blocks_are_told(caplog):
    with torch.device("meta"):
        resnet("18x", norm="FrozenBN", non_local=True)
    assert "WITH_NL: with NORM FrozenBN" in caplog.text


def test_a_depth_that_there_is_not_is_refused():
    with pytest.raises(UserError, match="depth is '50' .did you mean '50x'"):
        resnet("50")
