"""What turns a branch's feature map, or a stripe of it, into a feature and into class outputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from openanimals.modeling.layers.margins import CLASSIFIER_REGISTRY
from openanimals.modeling.layers.norms import make_neck
from openanimals.modeling.layers.pools import POOLS
from openanimals.modeling.layers.precision import full_precision, no_autocast
from openanimals.utils.errors import UserError
from openanimals.utils.registry import Registry, check_name

REID_HEADS_REGISTRY: Registry[Callable[[Any, int, int], nn.Module]] = Registry("head")
"""Functions ``f(cfg, in_channels, num_classes) -> nn.Module`` by the name ``MODEL.HEADS.NAME``."""


class HeadOutput(NamedTuple):
    """What a head gives in training.

    Attributes:
        feature: for metric losses, ``[B, D]``.
        logits: for cross-entropy, scaled and with the margin, ``[B, classes]``.
    """

    feature: Tensor
    logits: Tensor


class EmbeddingHead(nn.Module):
    """Pool, optional reduction, optional BNNeck, classifier.

    In eval mode ``head(map)`` is the feature after the neck, ``[B, D]``; in training
    ``head(map, targets)`` is a :class:`HeadOutput`.

    Args:
        in_channels: channels of the map.
        num_classes: identities to tell apart; 0 builds no classifier, for evaluation only.
        embedding_dim: width after a 1x1 convolution without bias; 0 means no such layer.
        pool: a name of :data:`~openanimals.modeling.layers.pools.POOLS`.
        bnneck: normalise before the classifier.
        norm: of the neck, a name of :data:`~openanimals.modeling.layers.norms.NORMS`.
        neck_feat: feature for metric losses: "before" (as pooled) or "after" (what is tested).
        classifier: a name of :data:`~openanimals.modeling.layers.margins.CLASSIFIER_REGISTRY`. All
            but "Linear" work on cosines.
        scale: factor of the class outputs.
        margin: of the classifier.

    Raises:
        ValueError: an unknown pool, norm, neck_feat or classifier.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        embedding_dim: int = 0,
        pool: str = "GlobalAvgPool",
        bnneck: bool = True,
        norm: str = "BN",
        neck_feat: str = "before",
        classifier: str = "Linear",
        scale: float = 1.0,
        margin: float = 0.0,
    ) -> None:
        super().__init__()
        check_name("MODEL.HEADS.POOL_LAYER", pool, POOLS)
        check_name("MODEL.HEADS.NECK_FEAT", neck_feat, ("before", "after"))
        self.in_channels = in_channels
        self.out_channels = embedding_dim or in_channels
        self.pool_name = pool
        self.neck_feat = neck_feat
        self.cosine = classifier != "Linear"
        self.scale = scale
        self.margin = margin
        self.scaled = CLASSIFIER_REGISTRY.get(classifier)

        self.pool = POOLS[pool]()
        self.reduction: nn.Module = nn.Identity()
        if embedding_dim:
            self.reduction = nn.Conv2d(in_channels, embedding_dim, 1, bias=False)
            nn.init.kaiming_normal_(self.reduction.weight, mode="fan_out")
        self.neck = make_neck(norm, self.out_channels) if bnneck else nn.Identity()
        self.classifier: nn.Linear | None = None
        if num_classes:
            self.classifier = nn.Linear(self.out_channels, num_classes, bias=False)
            nn.init.normal_(self.classifier.weight, std=0.01)

    def forward(self, feature_map: Tensor, targets: Tensor | None = None) -> Tensor | HeadOutput:
        """Return features ``[B, D]`` (eval) or a :class:`HeadOutput` (training).

        Args:
            feature_map: ``[B, in_channels, H, W]``.
            targets: class of each row, ``[B]``; training only.

        Raises:
            ValueError: the pool does not leave one vector of ``in_channels``, or training
                without targets or classifier.
        """
        pooled = self.pool(feature_map)  # [B, in_channels, 1, 1]
        if pooled.shape[1:] != (self.in_channels, 1, 1):
            raise UserError(
                f"MODEL.HEADS.POOL_LAYER {self.pool_name!r} turns a map of {self.in_channels} "
                f"channels and {feature_map.shape[2]}x{feature_map.shape[3]} positions into "
                f"{list(pooled.shape[1:])}; expected [{self.in_channels}, 1, 1]"
            )
        before = pooled.flatten(1)
        after = self.neck(self.reduction(pooled)).flatten(1)  # [B, out_channels]
        if not self.training:
            return after
        if targets is None or self.classifier is None:
            raise UserError("training needs targets and a head with num_classes > 0")

        weight = self.classifier.weight
        if self.cosine:
            # With SCALE 64, a step between two cosines in bfloat16 would be 0.25.
            with no_autocast(after.device):
                logits = F.linear(F.normalize(full_precision(after)), F.normalize(weight))
        else:
            logits = F.linear(after, weight)
        return HeadOutput(
            feature={"before": before, "after": after}[self.neck_feat],
            logits=self.scaled(full_precision(logits), targets, self.scale, self.margin),
        )
