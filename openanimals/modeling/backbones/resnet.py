"""ResNet of torchvision's blocks, with IBN-a, as the published methods use it."""

from collections import OrderedDict
from pathlib import Path

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from openanimals.modeling.backbones.backbone import Backbone
from openanimals.modeling.layers import IBN
from openanimals.modeling.weights import load_pretrained
from openanimals.utils.registry import did_you_mean

_DEPTHS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "18x": (BasicBlock, [2, 2, 2, 2]),
    "34x": (BasicBlock, [3, 4, 6, 3]),
    "50x": (Bottleneck, [3, 4, 6, 3]),
    "101x": (Bottleneck, [3, 4, 23, 3]),
}


def resnet(
    depth: str = "50x",
    *,
    last_stride: int = 1,
    ibn: bool = False,
    weights: Path | None = None,
) -> Backbone:
    """Build a ResNet, cut after the first block of its third stage.

    It differs from torchvision's in the max pool of the stem, which has no padding and rounds
    up, as in FastReID. Keys are torchvision's after ``stem.`` and ``tail.``: the block
    ``layer3.0`` is the stem's last, ``layer3.1`` the tail's first.

    Args:
        depth: "18x", "34x", "50x" or "101x".
        last_stride: stride of the last stage: 1 (map at 1/16 of the image) or 2 (1/32).
        ibn: use :class:`~openanimals.modeling.layers.IBN` as the first norm of every block of the
            first three stages.
        weights: a file of pre-trained weights with torchvision's keys; None starts from random.

    Raises:
        ValueError: an unknown depth or last stride.
        ArchitectureError: the weights are of another network.
    """
    if depth not in _DEPTHS:
        raise ValueError(
            f"MODEL.BACKBONE.DEPTH is {depth!r}{did_you_mean(depth, _DEPTHS)}; "
            f"it can be {', '.join(_DEPTHS)}"
        )
    if last_stride not in (1, 2):
        raise ValueError(f"MODEL.BACKBONE.LAST_STRIDE is {last_stride!r}; it can be 1 or 2")
    block, counts = _DEPTHS[depth]
    network = ResNet(block, counts)
    del network.avgpool, network.fc
    network.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
    if ibn:
        for stage in (network.layer1, network.layer2, network.layer3):
            for residual in stage:
                residual.bn1 = IBN(residual.bn1.num_features)
    if last_stride == 1:
        for module in network.layer4[0].modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
    if weights is not None:
        load_pretrained(network, weights, classifiers=("fc",))

    stem = OrderedDict(network.named_children())
    tail = OrderedDict(layer3=network.layer3[1:], layer4=stem.pop("layer4"))
    stem["layer3"] = network.layer3[:1]
    return Backbone(nn.Sequential(stem), nn.Sequential(tail), 512 * block.expansion)
