"""IBN: half of the channels by instance norm, half by another norm, in the layout of the map.

PyTorch's instance norm copies a channels-last map into the other layout, forward and backward, and
its norms are many times slower on half of such a map than on a map of its own.
"""

from typing import Any

import torch
from torch import Tensor, nn

from openanimals.modeling.layers.layout import (
    POSITIONS,
    full_precision,
    join_channels,
    split_channels,
)
from openanimals.modeling.layers.norms import make_norm


class _Normalise(torch.autograd.Function):
    """Instance norm. Of its maps only the input is kept, in its precision, and none in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        wide = full_precision(x)
        mean = wide.mean(POSITIONS, keepdim=True)  # [B, C, 1, 1]
        deviation = wide - mean
        factor = (deviation.square().mean(POSITIONS, keepdim=True) + eps).rsqrt()
        ctx.save_for_backward(x, mean, factor, weight)
        scale, shift = factor * weight[:, None, None], bias[:, None, None]
        return torch.addcmul(shift, deviation, scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, factor, weight = ctx.saved_tensors
        gradient = full_precision(gradients[0])
        normal = (full_precision(x) - mean) * factor
        mean_gradient = gradient.mean(POSITIONS, keepdim=True)
        mean_product = (gradient * normal).mean(POSITIONS, keepdim=True)
        # x also moves its mean and its variance, which takes these two parts out.
        inner = (gradient - mean_gradient).addcmul_(normal, mean_product, value=-1)
        positions = x.shape[2:].numel()
        return (
            inner.mul_(factor * weight[:, None, None]).to(x.dtype),
            mean_product.sum((0, 2, 3)) * positions,
            mean_gradient.sum((0, 2, 3)) * positions,
            None,
        )


class InstanceNorm(nn.InstanceNorm2d):
    """PyTorch's instance norm with scale and shift, in the memory layout of its input.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, ``[B, C, H, W]``; half precision is computed in float32."""
        return _Normalise.apply(x, self.weight, self.bias, self.eps)


class IBN(nn.Module):
    """Instance norm on the first half of the channels, batch norm on the rest (IBN-a).

    Source: Pan et al., Two at once: enhancing learning and generalization capacities via IBN-Net.
    The submodules are called IN and BN as in the published checkpoints.

    Args:
        channels: of the map; the instance norm takes ``channels // 2``.
        norm: of the rest, one of :data:`~openanimals.modeling.layers.norms.NORMS`.
    """

    def __init__(self, channels: int, norm: str = "BN") -> None:
        super().__init__()
        self.split = channels // 2, channels - channels // 2
        self.IN = InstanceNorm(self.split[0])
        self.BN = make_norm(norm, self.split[1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, ``[B, C, H, W]``."""
        first, rest = split_channels(x, self.split)
        return join_channels(self.IN(first), self.BN(rest))
