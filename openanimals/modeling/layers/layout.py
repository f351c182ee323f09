"""Maps in memory: where half precision ends, and taking them apart without laying them out anew.

PyTorch's gradients of these operations are right, but in another memory layout than the map's, or
in pieces of the map's size that are only added up afterwards.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

POSITIONS = (2, 3)  # the dimensions of [B, C, H, W] that norms and pools take means over


def layout_of(x: Tensor) -> torch.memory_format:
    """Return the memory layout of a map ``[B, C, H, W]``, also of a part of one."""
    last = x.stride(1) == 1 and x.shape[1] > 1
    return torch.channels_last if last else torch.contiguous_format


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return x.mean(POSITIONS, keepdim=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Divided before it is spread over the positions, and spread as a view.
        return (gradients[0] / ctx.shape[2:].numel()).expand(ctx.shape)


def mean(x: Tensor) -> Tensor:
    """Return the mean over positions, ``[B, C, H, W]`` to ``[B, C, 1, 1]``."""
    return _Mean.apply(x)


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int, dim: int) -> tuple[Tensor, ...]:
        ctx.shape, ctx.layout, ctx.dim = x.shape, layout_of(x), dim
        return x.chunk(count, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        whole = torch.empty(
            ctx.shape,
            dtype=gradients[0].dtype,
            device=gradients[0].device,
            memory_format=ctx.layout,
        )
        return torch.cat(gradients, ctx.dim, out=whole), None, None


def cut(x: Tensor, count: int, dim: int) -> tuple[Tensor, ...]:
    """Return views of a map, cut along a dimension like :func:`torch.chunk`."""
    return (x,) if count == 1 else _Cut.apply(x, count, dim)


def split_channels(x: Tensor, channels: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Return copies of parts of a map, by numbers of channels, in its layout."""
    layout = layout_of(x)
    return tuple(part.contiguous(memory_format=layout) for part in x.split(channels, dim=1))


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.channels = tuple(part.shape[1] for part in parts)
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return split_channels(gradients[0], ctx.channels)


def join_channels(*parts: Tensor) -> Tensor:
    """Return maps joined by their channels; each gets a gradient in memory of its own."""
    return _Join.apply(*parts)


def full_precision(x: Tensor) -> Tensor:
    """Return ``x`` as float32 if it is half precision, else unchanged.

    Exponentials of scaled logits, powers and squared distances leave the range or the resolution
    of float16, so whatever feeds a loss goes through this.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def no_autocast(device: torch.device) -> AbstractContextManager:
    """Return a context in which nothing is cast to half precision on a device."""
    if not torch.amp.is_autocast_available(device.type):  # the meta device
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
