"""Backbones: functions that give a stem that all branches share and a tail for each to own."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from openanimals.utils.registry import Registry


class Backbone(NamedTuple):
    """A network cut in two; ``tail(stem(images))`` is its feature map.

    Attributes:
        stem: from normalised images ``[B, 3, H, W]`` to the shared map. ``nn.Identity`` where a
            network cannot be cut: it can serve one branch only.
        tail: from the shared map to the feature map ``[B, channels, h, w]``.
        channels: of the feature map.
    """

    stem: nn.Module
    tail: nn.Module
    channels: int


BACKBONE_REGISTRY: Registry[Callable[[Any], Backbone]] = Registry("backbone")
"""Functions ``f(cfg) -> Backbone`` by the name ``MODEL.BACKBONE.NAME``.

Each reads the keys of ``MODEL.BACKBONE`` that it can honour, and refuses what it cannot.
"""
