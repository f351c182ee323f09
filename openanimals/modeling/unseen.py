"""What a model is given and does not use: pixels at the edge, the negative half of its features."""

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from openanimals.modeling.layers.pools import ClipGlobalAvgPool, GeneralizedMeanPooling
from openanimals.modeling.meta_device import on_meta
from openanimals.modeling.model import ReIDModel

logger = logging.getLogger(__name__)

_CLIPS = (GeneralizedMeanPooling, ClipGlobalAvgPool)
_PASS_ON = ("Identity", "Drop", "Pool", "Flatten")  # in the names of layers that leave signs alone

Call = tuple[str, nn.Module, tuple[int, ...]]  # a layer's name, the layer, the shape it was given


def warn_of_unseen(model: ReIDModel, backbone: str, sizes: Mapping[str, Sequence[int]]) -> None:
    """Warn if images of a size lose pixels, or if a pooling erases what a backbone gives.

    Args:
        model: not changed; nothing is computed.
        backbone: its name.
        sizes: (height, width) by key. Those that the model cannot take tell nothing here.
    """
    for number, (key, size) in enumerate(sizes.items()):
        calls = _calls(model, size)
        if number == 0 and _is_signed(calls):
            clips = [type(m).__name__ for m in model.heads.modules() if isinstance(m, _CLIPS)]
            if clips:
                logger.warning(
                    "MODEL.HEADS.POOL_LAYER %s erases what is below 0, about half of the features "
                    "of %s, which end without an activation: set GlobalAvgPool, or Identity for "
                    "timm's own pooled feature",
                    clips[0],
                    backbone,
                )
        unit, lost = _patches(calls, size)
        if lost:
            fitting = [max(unit, round(length / unit) * unit) for length in size]
            logger.warning(
                "%s is %s, and %s reads images in patches: the last %d rows and %d columns of "
                "pixels are never seen; take multiples of %d, such as %s",
                *(key, size, backbone, *lost, unit, fitting),
            )


def _calls(model: ReIDModel, size: Sequence[int]) -> list[Call]:
    """Return the layers without parts, in the order in which the backbone calls them."""
    names = {module: name for name, module in model.named_modules()}
    calls: list[Call] = []

    def note(module: nn.Module, inputs: tuple, _: object) -> None:
        if module in names and inputs and not any(module.children()):
            calls.append((names[module], module, tuple(getattr(inputs[0], "shape", ()))))

    try:
        with on_meta(model), register_module_forward_hook(note):
            model.tails["b1"](model.stem(torch.empty(1, 3, *size, device="meta")))
    except Exception:  # a size that does not fit, or a layer that needs values
        return []
    return calls


def _is_signed(calls: list[Call]) -> bool:
    """Tell whether the last layer that computes is a norm or linear, so that half is negative."""
    kinds = [(type(layer).__name__, layer) for _, layer, _ in calls]
    computing = [(kind, layer) for kind, layer in kinds if not any(p in kind for p in _PASS_ON)]
    kind, last = computing[-1] if computing else ("", None)
    return "Norm" in kind or isinstance(last, nn.Linear | nn.Conv2d)


def _patches(calls: list[Call], size: Sequence[int]) -> tuple[int, tuple[int, int] | None]:
    """Return what a side must be a multiple of, and how many rows and columns are lost if any."""
    unit, lost = 1, [0, 0]
    for name, layer, shape in calls:
        if not isinstance(layer, nn.Conv2d) or "attn" in name:
            continue
        if layer.stride != layer.kernel_size or layer.padding not in ((0, 0), "valid"):
            continue
        unit *= max(layer.stride)
        for side in (0, 1):
            left_over = shape[2 + side] % layer.stride[side]
            lost[side] += left_over * size[side] // shape[2 + side]
    return unit, (lost[0], lost[1]) if any(lost) else None
