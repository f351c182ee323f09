"""Small layers: the pools, IBN, the BNNeck's norm and the margins of the classifiers.

Names and numerics are FastReID's, so that its configs and checkpoints keep their meaning.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def full_precision(x: Tensor) -> Tensor:
    """Return ``x`` as float32 if it is half precision, else unchanged.

    Exponentials of scaled logits and squared distances leave the range or the resolution of
    float16, so whatever feeds a loss goes through this.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class Flatten(nn.Module):
    """All positions of the map as one long vector: ``[B, C, H, W]`` to ``[B, C*H*W, 1, 1]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``[B, C, H, W]``."""
        return x.flatten(1)[:, :, None, None]


class GlobalAvgPool(nn.AdaptiveAvgPool2d):
    """Mean over positions: ``[B, C, H, W]`` to ``[B, C, 1, 1]``."""

    def __init__(self) -> None:
        super().__init__(1)


class GlobalMaxPool(nn.AdaptiveMaxPool2d):
    """Maximum over positions: ``[B, C, H, W]`` to ``[B, C, 1, 1]``."""

    def __init__(self) -> None:
        super().__init__(1)


class GeneralizedMeanPooling(nn.Module):
    """GeM, ``mean(x**p)**(1/p)``: ``[B, C, H, W]`` to ``[B, C, 1, 1]``.

    Source: Radenovic et al., Fine-tuning CNN image retrieval with no human annotation.

    Args:
        p: the exponent; 1 is the mean, infinity the maximum.
        eps: activations are clamped at this from below, which keeps the power real.
    """

    p: float | Tensor

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = p
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``[B, C, H, W]``."""
        return x.clamp(min=self.eps).pow(self.p).mean((2, 3), keepdim=True).pow(1.0 / self.p)


class GeneralizedMeanPoolingP(GeneralizedMeanPooling):
    """GeM whose exponent is learnt, starting from ``p``."""

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__(p, eps)
        del self.p
        self.p = nn.Parameter(torch.full((1,), p))


class FastGlobalAvgPool(nn.Module):
    """The same as :class:`GlobalAvgPool`; a name that FastReID's configs use."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``[B, C, H, W]``."""
        return x.mean((2, 3), keepdim=True)


class AdaptiveAvgMaxPool(nn.Module):
    """Average plus maximum over positions: ``[B, C, H, W]`` to ``[B, C, 1, 1]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``[B, C, H, W]``."""
        return x.mean((2, 3), keepdim=True) + x.amax((2, 3), keepdim=True)


class ClipGlobalAvgPool(nn.Module):
    """Mean over positions, clamped to 0..1: ``[B, C, H, W]`` to ``[B, C, 1, 1]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``[B, C, H, W]``."""
        return x.mean((2, 3), keepdim=True).clamp(0.0, 1.0)


POOLS: dict[str, Callable[[], nn.Module]] = {
    "Identity": nn.Identity,
    "Flatten": Flatten,
    "GlobalAvgPool": GlobalAvgPool,
    "GlobalMaxPool": GlobalMaxPool,
    "GeneralizedMeanPooling": GeneralizedMeanPooling,
    "GeneralizedMeanPoolingP": GeneralizedMeanPoolingP,
    "FastGlobalAvgPool": FastGlobalAvgPool,
    "AdaptiveAvgMaxPool": AdaptiveAvgMaxPool,
    "ClipGlobalAvgPool": ClipGlobalAvgPool,
}


class IBN(nn.Module):
    """Instance norm on the first half of the channels, batch norm on the rest (IBN-a).

    Source: Pan et al., Two at once: enhancing learning and generalization capacities via IBN-Net.
    The submodules are called IN and BN as in the published checkpoints.

    Args:
        channels: of the map; the instance norm takes ``channels // 2``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.split = channels // 2
        self.IN = nn.InstanceNorm2d(self.split, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.split)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, ``[B, C, H, W]``."""
        return torch.cat([self.IN(x[:, : self.split]), self.BN(x[:, self.split :])], dim=1)


class BNNeck(nn.BatchNorm2d):
    """Batch norm whose bias stays 0: metric losses act before it, classifiers after it.

    Source: Luo et al., Bag of tricks and a strong baseline for deep person re-identification.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.bias.requires_grad_(False)


def linear(logits: Tensor, targets: Tensor, scale: float, margin: float) -> Tensor:
    """Scale the logits; no margin.

    Args:
        logits: ``[B, classes]``; inner products here, cosines in the other three functions.
        targets: class of each row, ``[B]``; a row with -1 belongs to none and gets no margin.
        scale: what the result is multiplied by.
        margin: how much harder the row's own class is made; unused here.
    """
    return logits * scale


def cos_softmax(logits: Tensor, targets: Tensor, scale: float, margin: float) -> Tensor:
    """CosFace: take ``margin`` off the target's cosine. Arguments as in :func:`linear`."""
    return torch.where(_own_class(logits, targets), logits - margin, logits) * scale


def arc_softmax(logits: Tensor, targets: Tensor, scale: float, margin: float) -> Tensor:
    """ArcFace: add ``margin`` to the target's angle. Arguments as in :func:`linear`.

    The clamp keeps the gradient finite where a cosine is 1 or -1.
    """
    sine = (1.0 - logits.square()).clamp(min=1e-12).sqrt()
    turned = logits * math.cos(margin) - sine * math.sin(margin)
    return torch.where(_own_class(logits, targets), turned, logits) * scale


def circle_softmax(logits: Tensor, targets: Tensor, scale: float, margin: float) -> Tensor:
    """Circle loss for classes: each cosine weighted by its distance from its optimum.

    Arguments as in :func:`linear`. Source: Sun et al., Circle loss.
    """
    own = (1.0 + margin - logits.detach()).clamp(min=0.0) * (logits - (1.0 - margin))
    other = (logits.detach() + margin).clamp(min=0.0) * (logits - margin)
    return torch.where(_own_class(logits, targets), own, other) * scale


def _own_class(logits: Tensor, targets: Tensor) -> Tensor:
    """True at each row's target, ``[B, classes]``."""
    return targets[:, None] == torch.arange(logits.shape[1], device=logits.device)


CLASSIFIERS: dict[str, Callable[[Tensor, Tensor, float, float], Tensor]] = {
    "Linear": linear,
    "CosSoftmax": cos_softmax,
    "ArcSoftmax": arc_softmax,
    "CircleSoftmax": circle_softmax,
}
