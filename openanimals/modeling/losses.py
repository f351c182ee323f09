"""Losses: functions on a batch, the registry that names them in a config, and their sum.

Numerics are FastReID's where its checkpoints and numbers depend on them, but nothing here waits
for the device: conditions are masks, never Python branches on values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openanimals.modeling.layers.precision import full_precision, no_autocast
from openanimals.modeling.model import ModelOutput
from openanimals.utils import distributed
from openanimals.utils.errors import UserError
from openanimals.utils.registry import Registry


@dataclass(frozen=True)
class LossTerm:
    """A named, scaled loss and what it looks at.

    Attributes:
        name: of the term in the log, for instance ``loss_cls``.
        on: "logits" (once a head) or "features" (once a granularity).
        function: from (``[B, D]`` or ``[B, classes]``, targets ``[B]``) to a scalar. If it learns,
            it is an ``nn.Module``, the same for all heads or granularities.
        scale: factor of the mean over heads or granularities.
        gather: whether it looks at the images of all processes, not of its own alone.
    """

    name: str
    on: Literal["logits", "features"]
    function: Callable[[Tensor, Tensor], Tensor]
    scale: float = 1.0
    gather: bool = False


LOSS_REGISTRY: Registry[Callable[[Any], LossTerm]] = Registry("loss")
"""Functions ``f(cfg) -> LossTerm`` by the names in ``MODEL.LOSSES.NAME``."""


class Losses(nn.Module):
    """All loss terms, with the weights of those that learn.

    Args:
        terms: each with a name of its own.

    Raises:
        ValueError: two have the same name.
    """

    def __init__(self, terms: Sequence[LossTerm]) -> None:
        super().__init__()
        self.terms = tuple(terms)
        names = [term.name for term in terms]
        if len(set(names)) < len(names):
            raise UserError(f"MODEL.LOSSES.NAME gives two terms of one name: {', '.join(names)}")
        learning = {t.name: t.function for t in terms if isinstance(t.function, nn.Module)}
        self.functions = nn.ModuleDict(learning)  # which makes them part of this module

    def forward(self, output: ModelOutput, targets: Tensor) -> dict[str, Tensor]:
        """Return each term's scaled mean over heads or granularities; their sum is the loss.

        Half-precision inputs are computed in float32, outside autocast.

        Args:
            output: of the model.
            targets: class of each image, ``[B]``.
        """
        losses = {}
        with no_autocast(targets.device):
            for term in self.terms:
                inputs = [full_precision(x) for x in getattr(output, term.on).values()]
                classes = targets
                if term.gather:
                    inputs = [distributed.gather_rows(x) for x in inputs]
                    classes = distributed.gather_rows(targets)
                values = [term.function(x, classes) for x in inputs]
                losses[term.name] = term.scale * torch.stack(values).mean()
        return losses


def cross_entropy(logits: Tensor, targets: Tensor, eps: float = 0.0, alpha: float = 0.2) -> Tensor:
    """Cross-entropy with FastReID's label smoothing.

    A row's target has probability 1 - eps, each *other* class eps / (classes - 1). The mean is
    over the rows whose loss is not exactly 0.

    Args:
        logits: ``[B, classes]``.
        targets: ``[B]``.
        eps: smoothing; below 0 it is adaptive, ``alpha`` times the row's predicted probability
            of its target (a constant to the gradient).
        alpha: of the adaptive smoothing.
    """
    log_p = F.log_softmax(logits, dim=1)
    log_p_target = log_p.gather(1, targets[:, None]).squeeze(1)  # [B]
    smoothing = eps if eps >= 0 else alpha * log_p_target.detach().exp()
    others = (log_p.sum(1) - log_p_target) / max(logits.shape[1] - 1, 1)
    rows = -(1.0 - smoothing) * log_p_target - smoothing * others
    return rows.sum() / rows.detach().count_nonzero().clamp(min=1)


def focal(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss: cross-entropy in which a row counts less the surer its target is.

    Source: Lin et al., Focal loss for dense object detection; softmax over the classes instead
    of a sigmoid for each, as in FastReID.

    Args:
        logits: ``[B, classes]``.
        targets: ``[B]``.
        alpha: factor of the whole; the same for all classes.
        gamma: power of 1 - p of the target; 0 is alpha times the cross-entropy.
    """
    log_p = F.log_softmax(logits, dim=1).gather(1, targets[:, None])  # [B, 1]
    return (-alpha * (1.0 - log_p.exp()).pow(gamma) * log_p).mean()


def triplet(
    features: Tensor,
    targets: Tensor,
    margin: float = 0.3,
    norm_feat: bool = False,
    hard_mining: bool = True,
) -> Tensor:
    """Triplet loss with batch-hard or softmax-weighted mining.

    Sources: Hermans et al., In defense of the triplet loss; Ye et al., Deep learning for person
    re-identification (weighted).

    Args:
        features: ``[B, D]``.
        targets: ``[B]``. A row is its own positive, so singletons count with distance 0.
        margin: how much farther the negative should be; 0 means the soft margin
            ``log(1 + exp(d_ap - d_an))``, and margin 0.3 in a batch where the exponential
            overflows the dtype.
        norm_feat: compare ``2 - 2 cos`` instead of Euclidean distances.
        hard_mining: the farthest positive and the nearest negative of each row; else the means
            of all, weighted by the softmax of their (negated) distances.
    """
    if norm_feat:
        unit = F.normalize(features)
        distances = 2.0 - 2.0 * unit @ unit.T
    else:
        distances = _euclidean(features)
    positive, negative = _pairs(targets)
    if hard_mining:
        farthest = torch.where(positive, distances, 0.0).amax(1)  # [B]
        nearest = torch.where(negative, distances, _FAR).amin(1)
    else:
        farthest = _softmax_mean(distances, distances, positive)
        nearest = _softmax_mean(distances, -distances, negative)

    gap = farthest - nearest
    hinge = F.relu(gap + (margin if margin > 0 else 0.3)).mean()
    if margin > 0:
        return hinge
    overflows = gap.detach().exp().isinf().any()
    return torch.where(overflows, hinge, F.softplus(gap).mean())


def circle(features: Tensor, targets: Tensor, margin: float = 0.25, gamma: float = 128.0) -> Tensor:
    """Circle loss on the pairs of a batch (Sun et al., 2020); features ``[B, D]``."""
    cosines, positive, negative = _cosine_pairs(features, targets)
    pull = (1.0 + margin - cosines.detach()).clamp(min=0.0) * (1.0 - margin - cosines)
    push = (cosines.detach() + margin).clamp(min=0.0) * (cosines - margin)
    return _pair_loss(gamma * pull, gamma * push, positive, negative)


def cosface(
    features: Tensor, targets: Tensor, margin: float = 0.25, gamma: float = 128.0
) -> Tensor:
    """CosFace loss on the pairs of a batch; features ``[B, D]``."""
    cosines, positive, negative = _cosine_pairs(features, targets)
    return _pair_loss(-gamma * cosines, gamma * (cosines + margin), positive, negative)


_FAR = 1e9  # stands for the distance of a negative where a row has none


def _pairs(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Masks of pairs of the same and of different classes, ``[B, B]`` each."""
    same = targets[:, None] == targets[None, :]
    return same, ~same


def _euclidean(features: Tensor) -> Tensor:
    """Distances between all rows, ``[B, B]``, with a finite gradient where they are 0."""
    squares = features.square().sum(1)
    squared = squares[:, None] + squares[None, :] - 2.0 * features @ features.T
    return squared.clamp(min=1e-12).sqrt()


def _softmax_mean(distances: Tensor, exponents: Tensor, mask: Tensor) -> Tensor:
    """Mean of each row's masked distances, weighted by exp of their exponents.

    The exponents are shifted by their maximum over the masked row *with zeros for the others*,
    and 1e-6 is added to the normaliser, so the weights of far negatives sum to less than 1.
    FastReID does the same, and its AGW numbers depend on it.
    """
    # Masked before exp: an infinity that is only masked afterwards has a NaN gradient.
    exponents = torch.where(mask, exponents, 0.0)
    shift = exponents.amax(1, keepdim=True)
    weights = torch.where(mask, (exponents - shift).exp(), 0.0)
    weights = weights / (weights.sum(1, keepdim=True) + 1e-6)
    return (weights * distances).sum(1)


def _cosine_pairs(features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines ``[B, B]`` and the masks of positive (diagonal excluded) and negative pairs."""
    unit = F.normalize(features)
    positive, negative = _pairs(targets)
    itself = torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    return unit @ unit.T, positive & ~itself, negative


def _pair_loss(pull: Tensor, push: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Mean over rows of softplus(lse(pull over positives) + lse(push over negatives))."""
    # A large finite number: with -inf a row without pairs would have a NaN gradient.
    nothing = -1e8
    pulled = torch.where(positive, pull, nothing).logsumexp(1)
    pushed = torch.where(negative, push, nothing).logsumexp(1)
    return F.softplus(pulled + pushed).mean()
