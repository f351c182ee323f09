"""Norms by the names of ``MODEL.BACKBONE.NORM`` and ``MODEL.HEADS.NORM``, the BNNeck, and IBN.

Names, numerics and state keys are FastReID's, so that its configs and checkpoints keep their
meaning. All keep the memory layout of their maps, forward and backward: PyTorch's instance norm
copies a channels-last map into the other layout, and its norms are many times slower on half of
such a map than on a map of its own.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openanimals.modeling.layers.precision import full_precision
from openanimals.utils import distributed
from openanimals.utils.errors import UserError
from openanimals.utils.registry import check_name


def layout_of(x: Tensor) -> torch.memory_format:
    """Return the memory layout of a map ``[B, C, H, W]``, also of a part of one."""
    last = x.stride(1) == 1 and x.shape[1] > 1
    return torch.channels_last if last else torch.contiguous_format


class GhostBN(nn.BatchNorm2d):
    """Batch norm on parts of the batch, as if it were smaller: image i is in part i % splits.

    The running statistics follow the means over the parts. FastReID's class has one part unless
    told otherwise, which no key of it does: plain batch norm. Here there are two.

    Source: Hoffer et al., Train longer, generalize better.

    Args:
        channels: of the map.
        splits: number of parts.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, channels: int, splits: int = 2) -> None:
        super().__init__(channels)
        self.splits = splits

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, ``[B, C, H, W]``.

        Raises:
            ValueError: in training, the batch cannot be cut into equal parts.
        """
        if not self.training:
            return super().forward(x)
        batch, channels, height, width = x.shape
        if batch % self.splits:
            raise UserError(
                f"NORM GhostBN cuts a batch into {self.splits} parts, which {batch} images do not "
                "make: change SOLVER.IMS_PER_BATCH (of each process), or take BN"
            )
        mean, var, weight, bias = (
            values.repeat(self.splits)
            for values in (self.running_mean, self.running_var, self.weight, self.bias)
        )
        # One row of this view holds an image of each part, so a channel of it is a part's channel.
        parts = x.reshape(-1, self.splits * channels, height, width)
        y = F.batch_norm(parts, mean, var, weight, bias, True, self.momentum, self.eps)
        self.running_mean.copy_(mean.view(self.splits, channels).mean(0))
        self.running_var.copy_(var.view(self.splits, channels).mean(0))
        self.num_batches_tracked += 1
        return y.reshape(x.shape).contiguous(memory_format=layout_of(x))


class SyncBN(nn.BatchNorm2d):
    """Batch norm on the images of all processes, of which each has some; PyTorch's is on CUDA only.

    The gradient is that of the sum of all processes' losses, as DistributedDataParallel wants it.

    Args:
        channels: of the map.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, ``[B, C, H, W]``."""
        if not self.training or distributed.world_size() == 1:
            return super().forward(x)
        wide = full_precision(x)
        mean = wide.mean((0, 2, 3))
        var = (wide - mean[:, None, None]).square().mean((0, 2, 3))
        # Filled on the device, which a number that is sent there would make the process wait for.
        count = torch.full((1,), x.numel() / len(mean), dtype=mean.dtype, device=mean.device)
        told = distributed.gather_rows(torch.cat([count, mean, var])[None])  # [processes, 1 + 2 C]
        counts, means, variances = told.split([1, len(mean), len(mean)], dim=1)
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        var = (counts * (variances + (means - mean).square())).sum(0) / total
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * total / (total - 1), self.momentum)
            self.num_batches_tracked += 1
        factor = self.weight * (var + self.eps).rsqrt()
        y = (wide - mean[:, None, None]) * factor[:, None, None] + self.bias[:, None, None]
        return y.to(x.dtype)


class FrozenBN(nn.Module):
    """Batch norm whose statistics, scale and shift are constants, loaded with the weights.

    Args:
        channels: of the map.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, ``[B, C, H, W]``."""
        statistics = self.running_mean, self.running_var
        return F.batch_norm(x, *statistics, self.weight, self.bias, eps=self.eps)


_GROUPS = 32


def _group_norm(channels: int) -> nn.GroupNorm:
    if channels % _GROUPS:
        raise UserError(
            f"NORM GN has {_GROUPS} groups, and {channels} channels are no multiple of that: take "
            "another norm, or (in the heads) a MODEL.HEADS.EMBEDDING_DIM that is"
        )
    return nn.GroupNorm(_GROUPS, channels)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "syncBN": SyncBN,
    "GhostBN": GhostBN,
    "FrozenBN": FrozenBN,
    "GN": _group_norm,
}


def make_norm(name: str, channels: int) -> nn.Module:
    """Return a norm for maps ``[B, channels, H, W]``.

    Args:
        name: one of :data:`NORMS`.
        channels: of the map; for GN a multiple of 32.

    Raises:
        UserError: no norm has this name, or channels that it cannot have.
    """
    check_name("norm", name, NORMS)
    return NORMS[name](channels)


def make_neck(norm: str, channels: int) -> nn.Module:
    """Return a BNNeck: a norm whose bias stays 0. Metric losses act before it, classifiers after.

    Source: Luo et al., Bag of tricks and a strong baseline for deep person re-identification.

    Args:
        norm: one of :data:`NORMS`.
        channels: of the feature.
    """
    neck: Any = make_norm(norm, channels)
    neck.bias.requires_grad_(False)
    return neck


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


class _Normalise(torch.autograd.Function):
    """Instance norm. Of its maps only the input is kept, in its precision, and none in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = wide.mean((2, 3), keepdim=True)  # [B, C, 1, 1]
        deviation = wide - mean
        factor = (deviation.square().mean((2, 3), keepdim=True) + eps).rsqrt()
        ctx.save_for_backward(x, mean, factor, weight)
        scale, shift = factor * weight[:, None, None], bias[:, None, None]
        return torch.addcmul(shift, deviation, scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, factor, weight = ctx.saved_tensors
        gradient = full_precision(gradients[0])
        normal = (full_precision(x) - mean) * factor
        mean_gradient = gradient.mean((2, 3), keepdim=True)
        mean_product = (gradient * normal).mean((2, 3), keepdim=True)
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
