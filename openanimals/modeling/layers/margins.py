"""What a classifier does to its logits, by the names of ``MODEL.HEADS.CLS_LAYER``.

Names and numerics are FastReID's, so that its configs and checkpoints keep their meaning.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from openanimals.utils.registry import Registry

CLASSIFIER_REGISTRY: Registry[Callable[[Tensor, Tensor, float, float], Tensor]] = Registry(
    "classifier (MODEL.HEADS.CLS_LAYER)"
)
"""Functions ``f(logits, targets, scale, margin) -> logits``; all but "Linear" are given cosines."""


@CLASSIFIER_REGISTRY.register("Linear")
def linear(logits: Tensor, targets: Tensor, scale: float, margin: float) -> Tensor:
    """Scale the logits; no margin.

    Args:
        logits: ``[B, classes]``; inner products here, cosines in the other three functions.
        targets: class of each row, ``[B]``; a row with -1 belongs to none and gets no margin.
        scale: what the result is multiplied by.
        margin: how much harder the row's own class is made; unused here.
    """
    return logits * scale


@CLASSIFIER_REGISTRY.register("CosSoftmax")
def cos_softmax(logits: Tensor, targets: Tensor, scale: float, margin: float) -> Tensor:
    """CosFace: take ``margin`` off the target's cosine. Arguments as in :func:`linear`."""
    return torch.where(_own_class(logits, targets), logits - margin, logits) * scale


@CLASSIFIER_REGISTRY.register("ArcSoftmax")
def arc_softmax(logits: Tensor, targets: Tensor, scale: float, margin: float) -> Tensor:
    """ArcFace: add ``margin`` to the target's angle. Arguments as in :func:`linear`.

    The clamp keeps the gradient finite where a cosine is 1 or -1.
    """
    sine = (1.0 - logits.square()).clamp(min=1e-12).sqrt()
    turned = logits * math.cos(margin) - sine * math.sin(margin)
    return torch.where(_own_class(logits, targets), turned, logits) * scale


@CLASSIFIER_REGISTRY.register("CircleSoftmax")
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
