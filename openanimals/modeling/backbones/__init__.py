"""Backbones: each is a function that returns a :class:`Backbone`."""

from openanimals.modeling.backbones.backbone import BACKBONE_REGISTRY, Backbone

__all__ = ["BACKBONE_REGISTRY", "Backbone"]
