"""What makes one vector of a feature map, by the names of ``MODEL.HEADS.POOL_LAYER``.

Names and numerics are FastReID's, so that its configs and checkpoints keep their meaning.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from openanimals.modeling.layers.precision import full_precision

LEAST = 1e-6  # activations are clamped at this from below, which keeps powers real


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return x.mean((2, 3), keepdim=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Divided before it is spread over the positions, and spread as a view.
        return (gradients[0] / ctx.shape[2:].numel()).expand(ctx.shape)


def mean(x: Tensor) -> Tensor:
    """Return the mean over positions, ``[B, C, H, W]`` to ``[B, C, 1, 1]``."""
    return _Mean.apply(x)


class Flatten(nn.Module):
    """All positions of the map as one long vector: ``[B, C, H, W]`` to ``[B, C*H*W, 1, 1]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``[B, C, H, W]``."""
        return x.flatten(1)[:, :, None, None]


class GlobalAvgPool(nn.Module):
    """Mean over positions: ``[B, C, H, W]`` to ``[B, C, 1, 1]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``[B, C, H, W]``."""
        return mean(x)


class GeneralizedMeanPooling(nn.Module):
    """GeM, ``mean(x**p)**(1/p)``: ``[B, C, H, W]`` to ``[B, C, 1, 1]``.

    Source: Radenovic et al., Fine-tuning CNN image retrieval with no human annotation.

    Args:
        p: the exponent; 1 is the mean, infinity the maximum.
    """

    p: float | Tensor

    def __init__(self, p: float = 3.0) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``[B, C, H, W]``; float32 if that is half precision, in which LEAST**p is 0."""
        x = full_precision(x)
        return mean(x.clamp(min=LEAST).pow(self.p)).pow(1.0 / self.p)


class GeneralizedMeanPoolingP(GeneralizedMeanPooling):
    """GeM whose exponent is learnt, starting from ``p``."""

    def __init__(self, p: float = 3.0) -> None:
        super().__init__()
        del self.p
        self.p = nn.Parameter(torch.full((1,), p))


class AdaptiveAvgMaxPool(nn.Module):
    """Average plus maximum over positions: ``[B, C, H, W]`` to ``[B, C, 1, 1]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``[B, C, H, W]``."""
        return mean(x) + x.amax((2, 3), keepdim=True)


class ClipGlobalAvgPool(nn.Module):
    """Mean over positions, clamped to 0..1: ``[B, C, H, W]`` to ``[B, C, 1, 1]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``[B, C, H, W]``."""
        return mean(x).clamp(0.0, 1.0)


POOLS: dict[str, Callable[[], nn.Module]] = {
    "Identity": nn.Identity,
    "Flatten": Flatten,
    "GlobalAvgPool": GlobalAvgPool,
    "GlobalMaxPool": partial(nn.AdaptiveMaxPool2d, 1),
    "GeneralizedMeanPooling": GeneralizedMeanPooling,
    "GeneralizedMeanPoolingP": GeneralizedMeanPoolingP,
    "FastGlobalAvgPool": GlobalAvgPool,  # a name that FastReID's configs use
    "AdaptiveAvgMaxPool": AdaptiveAvgMaxPool,
    "ClipGlobalAvgPool": ClipGlobalAvgPool,
}
