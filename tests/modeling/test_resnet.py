"""ResNets against torchvision's, and where they are cut."""

import pytest
import torch
import torchvision
from torch import nn

from openanimals.modeling.backbones.resnet import resnet
from openanimals.modeling.layers import IBN


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


@pytest.mark.parametrize("depth", ["18x", "50x"])
def test_ibn_is_the_first_norm_of_the_blocks_of_three_stages(depth):
    with torch.device("meta"):
        backbone = resnet(depth, ibn=True)
    places = [
        name
        for part in backbone[:2]
        for name, module in part.named_modules()
        if isinstance(module, IBN)
    ]
    counts = (3, 4, 6) if depth == "50x" else (2, 2, 2)
    blocks = [f"layer{s}.{i}.bn1" for s, count in enumerate(counts, 1) for i in range(count)]
    assert places == blocks


def test_wrong_keys():
    with pytest.raises(ValueError, match="DEPTH is '50' .did you mean '50x'"):
        resnet("50")
    with pytest.raises(ValueError, match="LAST_STRIDE is 3; it can be 1 or 2"):
        resnet("18x", last_stride=3)
