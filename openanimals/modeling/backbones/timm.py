"""Any model of timm as a backbone: cut in two where it is a chain of layers, else whole."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from openanimals.modeling.backbones import Backbone, timm_weights
from openanimals.modeling.meta_device import on_meta
from openanimals.utils.errors import UserError

_CUT_STRIDE = 16  # where ResNet-50 is cut as well: after the first block of its third stage
_PROBE = 128  # pixels; a map at stride 32 still has a few


def timm_backbone(
    name: str,
    *,
    last_stride: int = 1,
    image_size: Sequence[int] = (224, 224),
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
    network = timm_weights.create(name, pretrained, weights)
    if hasattr(network, "set_input_size"):  # its position embedding has a size
        network.set_input_size(img_size=tuple(image_size))
    with on_meta(network):
        backbone = (None if pooled else _cut(network)) or _whole(network, image_size, pooled)
        if last_stride == 1:
            _keep_stride_16(name, backbone, image_size)
    return backbone


def _images(size: Sequence[int] = (_PROBE, _PROBE)) -> Tensor:
    return torch.empty(1, 3, *size, device="meta")


def _cut(network: Any) -> Backbone | None:
    """Cut the network if it is a chain that reaches stride 16 before its end."""
    try:
        seen = _Pass(network)
    except Exception:
        return None  # a network may need larger images
    chain = seen.run(network, seen.given)
    ends = [number for number, (_, _, call) in enumerate(chain, 1) if call.made == seen.made]
    if not ends:
        return None
    stem, tail = _split(chain[: ends[0]], seen)
    return Backbone(stem, tail, seen.channels) if list(tail.parameters()) else None


class _Call(NamedTuple):
    """A call of a module: which tensors it was given and made, and the width of the latter."""

    given: tuple[int, int]
    made: tuple[int, int]
    width: int


_Links = list[tuple[str, nn.Module, _Call]]


class _Pass:
    """What the modules of a network did in a pass through its ``forward_features``.

    Modules are links of a chain if each was given the very tensor that the one before made, and
    nothing had changed it in between.

    Attributes:
        given: stands for the images.
        made: stands for the features.
        channels: of the features.
    """

    def __init__(self, network: Any) -> None:
        self._calls: dict[nn.Module, list[_Call]] = {}
        self._kept: list[Any] = []  # so that no two tensors have the same id
        started: list[tuple[int, int]] = []

        def start(_: nn.Module, inputs: Any) -> None:
            started.append(self._tell(inputs[0] if len(inputs) == 1 else inputs))

        def end(module: nn.Module, _: Any, output: Any) -> None:
            width = output.shape[-1] if isinstance(output, Tensor) else 0
            call = _Call(started.pop(), self._tell(output), width)
            self._calls.setdefault(module, []).append(call)

        images = _images()
        self.given = self._tell(images)
        with register_module_forward_pre_hook(start), register_module_forward_hook(end):
            features = network.forward_features(images)
        self.made, self.channels = self._tell(features), features.shape[1]

    def _tell(self, x: Any) -> tuple[int, int]:
        """Tell a tensor from all others, and from itself after a change in place."""
        self._kept.append(x)
        return id(x), getattr(x, "_version", 0)

    def run(self, module: nn.Module, given: tuple[int, int]) -> _Links:
        """Return the first children of a module that are a chain, with their calls."""
        links: _Links = []
        for name, child in module.named_children():
            call = self._call(child, given)
            if call is None or call.given != given:
                break
            links.append((name, child, call))
            given = call.made
        return links

    def _call(self, module: nn.Module, given: tuple[int, int]) -> _Call | None:
        calls = self._calls.get(module, [])
        if not calls and isinstance(module, nn.Sequential):  # its modules were called one by one
            links = self.run(module, given)
            return links[-1][2]._replace(given=given) if len(links) == len(module) > 0 else None
        return calls[0] if len(calls) == 1 else None

    def inside(self, module: nn.Module, call: _Call) -> _Links | None:
        """Return the chain inside a stage; None for a block, which stays in one piece.

        A stage is a ``Sequential``, or a module that holds one and does nothing but chain.
        """
        children = list(module.children())
        if not any(isinstance(child, nn.Sequential) for child in (module, *children)):
            return None
        links = self.run(module, call.given)
        whole = len(links) == len(children) > 0 and links[-1][2].made == call.made
        return links if whole else None


def _split(links: _Links, seen: _Pass) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut after the block that reaches stride 16, opening nested chains around it."""
    modules = [(name, module) for name, module, _ in links]
    for position, (name, module, call) in enumerate(links):
        if _stride(_PROBE, call.width) < _CUT_STRIDE:
            continue
        first, rest = [(name, module)], []
        if inner := seen.inside(module, call):
            inner_stem, inner_tail = _split(inner, seen)
            first = [(name, inner_stem)]
            rest = [(name, inner_tail)] if len(inner_tail) else []
        return (
            nn.Sequential(OrderedDict([*modules[:position], *first])),
            nn.Sequential(OrderedDict([*rest, *modules[position + 1 :]])),
        )
    return nn.Sequential(OrderedDict(modules)), nn.Sequential()


def _stride(pixels: int, width: int) -> int:
    """The power of two nearest to how many pixels a column of the map stands for."""
    return 2 ** round(math.log2(pixels / width))


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


def _whole(network: nn.Module, image_size: Sequence[int], pooled: bool) -> Backbone:
    tail = _Whole(network, pooled)
    return Backbone(nn.Identity(), tail, tail(_images(image_size)).shape[1])


def _keep_stride_16(name: str, backbone: Backbone, image_size: Sequence[int]) -> None:
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
        reached = none or _stride(image_size[1], feature_map.shape[-1]) <= 16
        cause = f"its map is {feature_map.shape[-2]}x{feature_map.shape[-1]}"
    except RuntimeError as error:
        reached, cause = False, str(error)
    if not reached:
        raise UserError(
            f"MODEL.BACKBONE.LAST_STRIDE 1 is not possible with timm/{name} (images of "
            f"{image_size[0]}x{image_size[1]}: {cause}); set MODEL.BACKBONE.LAST_STRIDE to 2"
        )
