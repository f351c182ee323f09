"""From a model and images to features, and from features to a Result."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from openanimals.evaluation.distance import distance_blocks
from openanimals.evaluation.expansion import Expansion, expand
from openanimals.evaluation.metrics import Ranking, Result, rank_queries
from openanimals.evaluation.protocol import Labels, Pairs
from openanimals.evaluation.rerank import Rerank, rerank_blocks
from openanimals.evaluation.roc import Verification


def extract_features(
    model: nn.Module,
    batches: Iterable[Any],
    device: torch.device | str,
    *,
    flip: bool = False,
) -> np.ndarray:
    """Run a model over images.

    Args:
        model: takes images `[B, 3, H, W]` in 0..255 and returns features `[B, D]`. It is put in
            eval mode; afterwards each of its modules is in the mode that it was in.
        batches: uint8 tensors `[B, 3, H, W]`, or objects with such a tensor as ``images``.
        device: where the model is.
        flip: whether to average the features of each image and of its mirror image.

    Returns:
        Features `[N, D]` in float32, in the order of the images and not normalised.

    Raises:
        ValueError: there are no images.
    """
    device = torch.device(device)
    features = []
    with _eval_mode(model), torch.inference_mode():
        for batch in batches:
            images = getattr(batch, "images", batch).to(device, non_blocking=True)
            output = model(images).float()
            if flip:
                output = (output + model(images.flip(3)).float()) / 2
            features.append(output.cpu().numpy())
    if not features:
        raise ValueError("there are no images to extract features from")
    return np.concatenate(features)


def evaluate(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    query_identities: Labels,
    gallery_identities: Labels,
    query_cameras: Labels | None = None,
    gallery_cameras: Labels | None = None,
    *,
    encounters: tuple[Labels, Labels] | None = None,
    sides: tuple[Labels, Labels] | None = None,
    metric: str = "cosine",
    expansion: Expansion | None = None,
    rerank: Rerank | None = None,
    roc: bool = False,
    max_rank: int = 50,
    top: int = 10,
    device: torch.device | str = "cpu",
) -> Result:
    """Search the gallery for each query and judge the rankings.

    Queries are taken a block at a time, so memory stays bounded however large the two sets are.

    Args:
        query_features: `[Q, D]`.
        gallery_features: `[G, D]`.
        query_identities: `[Q]` labels.
        gallery_identities: `[G]` labels.
        query_cameras: `[Q]` labels, or None where the protocol uses no cameras
            (:func:`openanimals.evaluation.protocol.uses_cameras`).
        gallery_cameras: `[G]` labels, or None.
        encounters: `[Q]` and `[G]` labels: gallery images of a query's individual from its
            encounter are left out of its ranking.
        sides: `[Q]` and `[G]` labels: a query is ranked against images of its own side only.
        metric: ``"cosine"`` or ``"euclidean"`` (squared).
        expansion: replace all features by means of similar ones first, or None.
        rerank: mix the Jaccard distance of neighbourhoods into the distances, or None.
        roc: also report how well a threshold on the distance verifies. Takes 4 bytes a pair.
        max_rank: length of the CMC curve.
        top: how many of each query's nearest gallery rows to keep.
        device: where distances are computed, ``"cpu"`` or a CUDA device.

    Raises:
        ValueError: lengths do not fit, features are not finite, or no query has a match.

    Example:
        >>> features = np.eye(3)
        >>> evaluate(features[:2], features, ["ada", "bo"], ["ada", "cy", "bo"]).rank(1)
        50.0
    """
    for what, features, identities in (
        ("query", query_features, query_identities),
        ("gallery", gallery_features, gallery_identities),
    ):
        if len(features) != len(identities):
            raise ValueError(f"{len(features)} {what} features for {len(identities)} identities")
    pairs = Pairs(
        query_identities,
        gallery_identities,
        query_cameras,
        gallery_cameras,
        encounters=encounters,
        sides=sides,
    )
    query, gallery = query_features, gallery_features
    if expansion is not None:
        query, gallery = expand(query, gallery, expansion, device=device)
    blocks = distance_blocks(query, gallery, metric, device=device)
    if rerank is not None:
        blocks = rerank_blocks(blocks, query, gallery, metric, rerank, device=device)
    rankings, verification = [], Verification()
    for rows, distances in blocks:
        masks = pairs.block(rows)
        rankings.append(rank_queries(distances, *masks, top=top))
        if roc:
            verification.add(distances, *masks)
    return Result(
        ranking=Ranking(*map(np.concatenate, zip(*rankings, strict=True))),
        query_identities=np.array(query_identities, dtype=object),
        gallery_identities=np.array(gallery_identities, dtype=object),
        metric=_describe(metric, expansion, rerank),
        max_rank=max_rank,
        roc=verification.summary() if roc else {},
    )


def _describe(metric: str, expansion: Expansion | None, rerank: Rerank | None) -> str:
    extras = {"expanded": expansion, "re-ranked": rerank}
    return ", ".join([metric, *(name for name, used in extras.items() if used is not None)])


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    # Module by module, since `model.train()` would also wake the BatchNorm of frozen layers.
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
