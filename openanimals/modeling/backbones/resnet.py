"""ResNet of torchvision's blocks, with what the published methods add: IBN-a, non-local, SE."""

from collections import OrderedDict
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from openanimals.modeling.backbones import Backbone
from openanimals.modeling.layers.attention import NonLocal, SqueezeExcitation
from openanimals.modeling.layers.norms import IBN, make_norm
from openanimals.modeling.weights import load_pretrained
from openanimals.utils.registry import check_name

logger = getLogger(__name__)


class SEBasicBlock(BasicBlock):
    """torchvision's block with squeeze-and-excitation before the addition. Arguments as there."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.se = SqueezeExcitation(self.conv2.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's map, ``[B, C, H, W]``."""
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.se(self.bn2(self.conv2(residual)))
        return self.relu(residual + (x if self.downsample is None else self.downsample(x)))


class SEBottleneck(Bottleneck):
    """torchvision's block with squeeze-and-excitation before the addition. Arguments as there."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.se = SqueezeExcitation(self.conv3.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's map, ``[B, C, H, W]``."""
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.se(self.bn3(self.conv3(residual)))
        return self.relu(residual + (x if self.downsample is None else self.downsample(x)))


_WITH_SE = {BasicBlock: SEBasicBlock, Bottleneck: SEBottleneck}

_DEPTHS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "18x": (BasicBlock, [2, 2, 2, 2]),
    "34x": (BasicBlock, [3, 4, 6, 3]),
    "50x": (Bottleneck, [3, 4, 6, 3]),
    "101x": (Bottleneck, [3, 4, 23, 3]),
}

# Behind how many of the last blocks of the second and third stage a non-local block stands.
# FastReID has none in the small networks, where its key is without effect.
_NON_LOCAL = {"18x": (1, 1), "34x": (1, 1), "50x": (2, 3), "101x": (2, 9)}


def resnet(
    depth: str = "50x",
    *,
    last_stride: int = 1,
    norm: str = "BN",
    ibn: bool = False,
    se: bool = False,
    non_local: bool = False,
    weights: Path | None = None,
) -> Backbone:
    """Build a ResNet, cut after the first block of its third stage.

    It differs from torchvision's in the max pool of the stem, which has no padding and rounds
    up, as in FastReID. Keys are torchvision's after ``stem.`` and ``tail.``: the block
    ``layer3.0`` is the stem's last, ``layer3.1`` the tail's first. A non-local block stands in its
    stage under its block's number, ``layer3.3_nl``.

    Args:
        depth: "18x", "34x", "50x" or "101x".
        last_stride: stride of the last stage: 1 (map at 1/16 of the image) or 2 (1/32).
        norm: a name of :data:`~openanimals.modeling.layers.norms.NORMS`.
        ibn: use :class:`~openanimals.modeling.layers.norms.IBN` as the first norm of every block
            of the first three stages.
        se: add :class:`~openanimals.modeling.layers.attention.SqueezeExcitation` to every block.
        non_local: add :class:`~openanimals.modeling.layers.attention.NonLocal` behind the last
            blocks of the second and third stage: 2 and 3 of a "50x", 2 and 9 of a "101x", else 1
            and 1.
        weights: a file of pre-trained weights with torchvision's keys; None starts from random.
            It fits every batch norm alike, and GN only if it was trained with GN. What ``se`` and
            ``non_local`` add starts from random where the file lacks it.

    Raises:
        ArchitectureError: the weights are of another network.
        UserError: there is no such depth or norm.
    """
    check_name("depth", depth, _DEPTHS)
    block, counts = _DEPTHS[depth]
    make = partial(make_norm, norm)
    network = ResNet(_WITH_SE[block] if se else block, counts, norm_layer=make)
    del network.avgpool, network.fc
    network.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
    if ibn:
        for stage in (network.layer1, network.layer2, network.layer3):
            for residual in stage:
                residual.bn1 = IBN(residual.conv1.out_channels, norm)
    if non_local:
        if norm == "FrozenBN":
            logger.warning(
                "MODEL.BACKBONE.WITH_NL: with NORM FrozenBN, non-local blocks start and stay "
                "without effect unless MODEL.WEIGHTS brings trained ones"
            )
        second, third = _NON_LOCAL[depth]
        width = block.expansion
        network.layer2 = _with_non_local(network.layer2, second, 128 * width, norm)
        network.layer3 = _with_non_local(network.layer3, third, 256 * width, norm)
    if last_stride == 1:
        for module in network.layer4[0].modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
    if weights is not None:
        load_pretrained(network, weights, classifiers=("fc",), new=("*.se", "*_nl"))

    stem = OrderedDict(network.named_children())
    tail = OrderedDict(layer3=network.layer3[1:], layer4=stem.pop("layer4"))
    stem["layer3"] = network.layer3[:1]
    return Backbone(nn.Sequential(stem), nn.Sequential(tail), 512 * block.expansion)


def _with_non_local(stage: nn.Sequential, count: int, channels: int, norm: str) -> nn.Sequential:
    """Put a non-local block behind each of the last blocks; the blocks keep their names."""
    children: OrderedDict[str, nn.Module] = OrderedDict()
    for number, block in enumerate(stage):
        children[str(number)] = block
        if number >= len(stage) - count:
            children[f"{number}_nl"] = NonLocal(channels, norm)
    return nn.Sequential(children)
