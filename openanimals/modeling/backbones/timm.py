"""Any model of timm as a backbone: cut in two where it is a chain of layers, else whole."""

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openanimals.modeling.backbones import timm_weights
from openanimals.modeling.backbones.backbone import Backbone
from openanimals.modeling.meta import Origins, on_meta
from openanimals.utils.errors import UserError

_CUT_STRIDE = 16  # where ResNet-50 is cut as well: after the first block of its third stage
_PROBE = 128  # pixels; a map at stride 32 still has a few


def timm_backbone(
    name: str,
    *,
    last_stride: int = 1,
    image_size: tuple[int, int] = (224, 224),
    pooled: bool = False,
    pretrained: bool = False,
    weights: str | Path | None = None,
) -> Backbone:
    """Build a timm model and cut it in two if it can be cut.

    A network whose ``forward_features`` is the plain chain of its children is cut after the first
    block that reaches stride 16; keys are timm's after ``stem.`` and ``tail.``. Whether it is
    such a chain is not looked up but tried, on the meta device. Any other network (transformers,
    and the odd convolutional one) has no stem, so it serves one branch only. Its feature map is
    what ``forward_features`` gives if that is ``[B, C, h, w]``, else timm's pooled feature as
    ``[B, C, 1, 1]``.

    Args:
        name: as in ``timm.list_models()``, or ``hf-hub:<owner>/<model>``, or
            ``local-dir:<folder>`` with a copy of such a model.
        last_stride: 1 takes the stride out of the block that goes from 1/16 to 1/32 of the image;
            2 leaves the network as it is.
        image_size: (height, width), for the networks that must know it.
        pooled: do not cut; give timm's pooled feature (its class token or mean, and what norms
            follow) as ``[B, C, 1, 1]``, as frozen descriptors are meant to be used.
        pretrained: start from trained weights: ``weights`` if given, else timm's own.
        weights: a ``.pth``, ``.bin`` or ``.safetensors`` file with the names that timm knows, or
            ``hf-hub:<owner>/<model>`` for the file of that model.

    Raises:
        ValueError: timm is not installed or has no such model, or the last stride cannot be 1.
        WeightsError: the weights cannot be had or are of another network.
    """
    if last_stride not in (1, 2):
        raise UserError(f"MODEL.BACKBONE.LAST_STRIDE is {last_stride!r}; it can be 1 or 2")
    network = timm_weights.create(name, pretrained, weights)
    if hasattr(network, "set_input_size"):  # its position embedding has a size
        network.set_input_size(img_size=image_size)
    network.eval()
    with on_meta(network):
        backbone = (None if pooled else _cut(network)) or _whole(network, image_size, pooled)
        if last_stride == 1:
            _keep_stride_16(name, backbone, image_size)
    for part in (backbone.stem, backbone.tail):
        part.train()
    return backbone


def _images(size: tuple[int, int] = (_PROBE, _PROBE)) -> Tensor:
    return torch.empty(1, 3, *size, device="meta")


def _cut(network: Any) -> Backbone | None:
    """Cut the network if it is a chain that reaches stride 16 before its end."""
    images = _images()
    chain = _as_chain(network, images)
    if chain is None:
        return None
    stem, tail = _split(chain, images, _PROBE)
    if not list(tail.parameters()):
        return None
    return Backbone(stem, tail, tail(stem(images)).shape[1])


def _as_chain(network: Any, images: Tensor) -> nn.Sequential | None:
    """The first children of the network that, one after the other, are ``forward_features``."""
    children: OrderedDict[str, nn.Module] = OrderedDict()
    try:
        with Origins() as origins:
            target = origins.of(network.forward_features(images.clone()))
            x = images.clone()
            for name, child in network.named_children():
                x = child(x)
                children[name] = child
                if origins.of(x) == target:
                    return nn.Sequential(children)
    except Exception:
        # A child that is no link of a chain can fail in any way when it is called like one.
        return None
    return None


def _split(chain: nn.Sequential, x: Tensor, pixels: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut after the block that reaches stride 16, opening nested chains around it.

    Args:
        chain: to be cut.
        x: its input.
        pixels: width of the image that ``x`` comes from.
    """
    links = list(chain.named_children())
    for position, (name, child) in enumerate(links):
        before, x = x, child(x)
        if _stride(pixels, x) < _CUT_STRIDE:
            continue
        first, rest = [(name, child)], []
        inner = _open(child, before)
        if inner is not None:
            inner_stem, inner_tail = _split(inner, before, pixels)
            first = [(name, inner_stem)]
            rest = [(name, inner_tail)] if len(inner_tail) else []
        return (
            nn.Sequential(OrderedDict([*links[:position], *first])),
            nn.Sequential(OrderedDict([*rest, *links[position + 1 :]])),
        )
    return chain, nn.Sequential()


def _open(child: nn.Module, x: Tensor) -> nn.Sequential | None:
    """The chain inside a stage; None for a block, which stays in one piece.

    A stage is a ``Sequential``, or a module that holds one and does nothing but chain.
    """
    holds_one = any(isinstance(inner, nn.Sequential) for inner in child.children())
    if not (holds_one or isinstance(child, nn.Sequential)):
        return None
    chain = nn.Sequential(OrderedDict(child.named_children()))
    try:
        with Origins() as origins:
            same = origins.of(chain(x.clone())) == origins.of(child(x.clone()))
        return chain if same else None
    except Exception:
        return None  # as in _as_chain


def _stride(pixels: int, x: Tensor) -> int:
    """The power of two nearest to how many pixels a column of the map stands for."""
    return 2 ** round(math.log2(pixels / x.shape[-1]))


class _Whole(nn.Module):
    """A network that is not cut, with a feature map whatever its features look like."""

    def __init__(self, network: Any, pooled: bool) -> None:
        super().__init__()
        self.network = network
        self.pooled = pooled

    def forward(self, images: Tensor) -> Tensor:
        features = self.network.forward_features(images)
        is_map = features.ndim == 4 and features.shape[1] == self.network.num_features
        if is_map and not self.pooled:
            return features
        return self.network.forward_head(features, pre_logits=True)[:, :, None, None]


def _whole(network: nn.Module, image_size: tuple[int, int], pooled: bool) -> Backbone:
    tail = _Whole(network, pooled)
    return Backbone(nn.Identity(), tail, tail(_images(image_size)).shape[1])


def _keep_stride_16(name: str, backbone: Backbone, image_size: tuple[int, int]) -> None:
    """Take the strides out of a tail that starts at 1/16, or say that it cannot be done.

    A 2x2 convolution, as in ConvNeXt, then makes the map one row and one column smaller.
    """
    if not isinstance(backbone.stem, nn.Identity):
        for module in backbone.tail.modules():
            if getattr(module, "stride", 1) not in (2, (2, 2)):
                continue
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
            elif isinstance(module, nn.AvgPool2d | nn.MaxPool2d):
                if module.kernel_size in (2, (2, 2)):
                    module.kernel_size = 1
                module.stride = 1
    forward: Any = nn.Sequential(backbone.stem, backbone.tail)
    if isinstance(backbone.tail, _Whole):
        forward = backbone.tail.network.forward_features
    try:
        feature_map = forward(_images(image_size))
        none = feature_map.ndim != 4 or feature_map.shape[-1] == 1  # tokens, or already pooled
        reached = none or _stride(image_size[1], feature_map) <= 16
        cause = f"its map is {feature_map.shape[-2]}x{feature_map.shape[-1]}"
    except RuntimeError as error:
        reached, cause = False, str(error)
    if not reached:
        raise UserError(
            f"MODEL.BACKBONE.LAST_STRIDE 1 is not possible with timm/{name} (images of "
            f"{image_size[0]}x{image_size[1]}: {cause}); set MODEL.BACKBONE.LAST_STRIDE to 2"
        )
