"""Backbones, heads, losses, and the one model that they make up."""

from openanimals.modeling.backbones import BACKBONE_REGISTRY, Backbone
from openanimals.modeling.build import (
    build_losses,
    build_model,
    check_sizes,
    class_weights,
    naming_the_size,
    unknown_names,
)
from openanimals.modeling.folding import fold_norms
from openanimals.modeling.heads import REID_HEADS_REGISTRY, EmbeddingHead
from openanimals.modeling.layers.margins import CLASSIFIER_REGISTRY
from openanimals.modeling.losses import LOSS_REGISTRY, Losses, LossTerm
from openanimals.modeling.model import ModelOutput, ReIDModel

__all__ = [
    "BACKBONE_REGISTRY",
    "CLASSIFIER_REGISTRY",
    "LOSS_REGISTRY",
    "REID_HEADS_REGISTRY",
    "Backbone",
    "EmbeddingHead",
    "LossTerm",
    "Losses",
    "ModelOutput",
    "ReIDModel",
    "build_losses",
    "build_model",
    "check_sizes",
    "class_weights",
    "fold_norms",
    "naming_the_size",
    "unknown_names",
]
