"""From a model and images to features, and from features to a Result."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from openanimals.evaluation.distance import distance_blocks
from openanimals.evaluation.metrics import Ranking, Result, rank_queries
from openanimals.evaluation.protocol import Labels, Pairs

BLOCK_PAIRS = 2**22  # pairs ranked at once: about 200 MiB of working memory


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
    metric: str = "cosine",
    max_rank: int = 50,
    top: int = 10,
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
        metric: ``"cosine"`` or ``"euclidean"`` (squared).
        max_rank: length of the CMC curve.
        top: how many of each query's nearest gallery rows to keep.

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
    pairs = Pairs(query_identities, gallery_identities, query_cameras, gallery_cameras)
    block_rows = max(1, BLOCK_PAIRS // max(1, len(gallery_features)))
    blocks = [
        rank_queries(distances, *pairs.block(rows), top=top)
        for rows, distances in distance_blocks(
            query_features, gallery_features, metric, rows=block_rows
        )
    ]
    return Result(
        ranking=Ranking(*map(np.concatenate, zip(*blocks, strict=True))),
        query_identities=np.array(query_identities, dtype=object),
        gallery_identities=np.array(gallery_identities, dtype=object),
        metric=metric,
        max_rank=max_rank,
    )


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
