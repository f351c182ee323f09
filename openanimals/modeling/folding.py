"""Batch norms folded into the convolutions before them: fewer passes over the maps at inference.

A batch norm in eval mode is a factor and a shift of each channel, and so is what it leaves if both
go into the convolution's weights and bias: features differ by rounding only. Instance norms, and
group norms, follow each image and stay.
"""

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from openanimals.modeling.heads import EmbeddingHead
from openanimals.modeling.layers.norms import IBN, FrozenBN, GhostBN, SyncBN
from openanimals.utils.errors import UserError

Model = TypeVar("Model", bound=nn.Module)

# These and not their subclasses: timm has some that end in an activation.
_FOLDABLE = (nn.BatchNorm2d, SyncBN, GhostBN, FrozenBN)


def fold_norms(model: Model) -> Model:
    """Return a copy of a model for inference, with its batch norms folded.

    Folded are those of our ResNets, also the half of an IBN, BNNecks behind a reduction, and in
    other networks those that follow a convolution in a plain ``nn.Sequential``.

    Raises:
        ValueError: there are none.
    """
    check(model)
    folded = copy.deepcopy(model).requires_grad_(False)
    for parent, conv_name, norm_name in list(_pairs(folded)):
        conv, norm = getattr(parent, conv_name), getattr(parent, norm_name)
        if isinstance(norm, IBN):
            _fold(conv, norm.BN, first=norm.split[0])
            setattr(parent, norm_name, _InstanceHalf(norm))
        else:
            _fold(conv, norm, first=0)
            setattr(parent, norm_name, nn.Identity())
    return folded.eval()


def check(model: nn.Module) -> None:
    """Raise unless a model has batch norms to fold.

    Raises:
        ValueError: it has none.
    """
    if not any(_pairs(model)):
        raise UserError(
            "TEST.FOLD_NORMS is True, but this model has no batch norm that could be folded into "
            "a convolution before it; set it to False"
        )


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Parents, and names therein, of convolutions and of the norms that alone see their maps."""
    for module in model.modules():
        names: list[tuple[str, str]] = []
        if isinstance(module, BasicBlock | Bottleneck):
            names = [(f"conv{number}", f"bn{number}") for number in (1, 2, 3)]
        elif isinstance(module, EmbeddingHead):
            names = [("reduction", "neck")]
        elif type(module).forward is nn.Sequential.forward:
            names = list(pairwise(name for name, _ in module.named_children()))
        for conv, norm in names:
            found = getattr(module, norm, None)
            kind = type(found.BN if isinstance(found, IBN) else found)
            if type(getattr(module, conv, None)) is nn.Conv2d and kind in _FOLDABLE:
                yield module, conv, norm


def _fold(conv: nn.Conv2d, norm: Any, first: int) -> None:
    """Give a convolution the factors and shifts of a norm on its channels from ``first`` on."""
    weight, shift, mean, variance = (
        values.double() for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    factor = weight * (variance + norm.eps).rsqrt()
    bias = torch.zeros(conv.out_channels, dtype=factor.dtype, device=factor.device)
    if conv.bias is not None:
        bias += conv.bias
    bias[first:] = (bias[first:] - mean) * factor + shift
    conv.weight[first:] *= factor[:, None, None, None]
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)


class _InstanceHalf(nn.Module):
    """An IBN whose other half is folded. It changes its input, which nothing else sees."""

    def __init__(self, ibn: IBN) -> None:
        super().__init__()
        self.channels, self.IN = ibn.split[0], ibn.IN

    def forward(self, x: Tensor) -> Tensor:
        half = x[:, : self.channels]
        half.copy_(self.IN(half))
        return x
