"""From a model and images to features, and from features to a Result."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from openanimals.evaluation import tiles
from openanimals.evaluation.distance import distance_blocks
from openanimals.evaluation.metrics import Ranking, Result
from openanimals.evaluation.protocols import Labels, Pairs
from openanimals.evaluation.query_expansion import Expansion, expand
from openanimals.evaluation.ranking import rank_block
from openanimals.evaluation.rerank import Rerank, rerank_blocks
from openanimals.evaluation.roc import Verification
from openanimals.utils import distributed
from openanimals.utils.errors import UserError


def extract_features(
    model: nn.Module,
    batches: Iterable[Any],
    device: torch.device | str,
    *,
    flip: bool = False,
    dtype: torch.dtype | None = None,
) -> np.ndarray:
    """Run a model over images.

    Args:
        model: takes images `[B, 3, H, W]` in 0..255 and returns features `[B, D]`. It is put in
            eval mode; afterwards each of its modules is in the mode that it was in.
        batches: uint8 tensors `[B, 3, H, W]`, or objects with such a tensor as ``images``.
        device: where the model is.
        flip: whether to average the features of each image and of its mirror image.
        dtype: what the model computes in, by autocast; None: in its own type.

    Returns:
        Features `[N, D]` in float32, in the order of the images and not normalised.

    Raises:
        ValueError: there are no images.
    """
    device = torch.device(device)
    features = []
    precision = torch.autocast(device.type, dtype, enabled=dtype not in (None, torch.float32))
    with _eval_mode(model), torch.inference_mode(), precision:
        for batch in batches:
            images = getattr(batch, "images", batch).to(device, non_blocking=True)
            output = model(images).float()
            if flip:
                output = (output + model(images.flip(3)).float()) / 2
            features.append(output.cpu().numpy())
    if not features:
        raise UserError("there are no images to extract features from")
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
    shard: slice | None = None,
    device: torch.device | str = "cpu",
) -> Result:
    """Search the gallery for each query and judge the rankings.

    Queries are taken a block at a time, and features converted a tile at a time, so the memory that
    this takes besides the features is that of a few hundred distances for each gallery image.

    Args:
        query_features: `[Q, D]`, of any type of number; may be mapped from a file.
        gallery_features: `[G, D]`, the same.
        query_identities: `[Q]` labels.
        gallery_identities: `[G]` labels.
        query_cameras: `[Q]` labels, or None where the protocol uses no cameras
            (:func:`openanimals.evaluation.protocols.uses_cameras`).
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
        shard: which rows of the gallery ``gallery_features`` are, where the processes share the
            work (:func:`openanimals.utils.distributed.shares` of GALLERY_TILE rows). Everything
            else is of the whole gallery, and the result is that of one process, bit for bit. None:
            all rows.
        device: where distances are computed, ``"cpu"`` or a CUDA device.

    Raises:
        ValueError: lengths do not fit, features are not finite, no query has a match, or a shard
            would have to do for what needs the whole gallery.

    Example:
        >>> features = np.eye(3)
        >>> evaluate(features[:2], features, ["ada", "bo"], ["ada", "cy", "bo"]).rank(1)
        50.0
    """
    part = slice(0, len(gallery_identities)) if shard is None else shard
    for what, features, count in (
        ("query", query_features, len(query_identities)),
        ("gallery", gallery_features, part.stop - part.start),
    ):
        if len(features) != count:
            raise UserError(f"{len(features)} {what} features for {count} identities")
    if shard is not None:
        if roc or expansion is not None or rerank is not None:
            raise UserError("ROC, expansion and re-ranking take the whole gallery, not a shard")
        held = sum(distributed.gather(part.stop - part.start))
        if held != len(gallery_identities):
            raise UserError(f"shards of {held} of {len(gallery_identities)} gallery images")
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
    # Processes that share the work must take the same queries at a time.
    rows = None if shard is None else tiles.QUERY_TILE
    blocks = distance_blocks(query, gallery, metric, rows=rows, first=part.start, device=device)
    if rerank is not None:
        blocks = rerank_blocks(blocks, query, gallery, metric, rerank, device=device)
    rankings, verification = [], Verification()
    for where, distances in blocks:
        if roc:
            verification.add(distances, *pairs.block(where))
        corner, shared = (where.start, part.start), shard is not None
        ranking = rank_block(distances, pairs.block, corner=corner, top=top, shared=shared)
        rankings.append(ranking)
        del distances  # before the next ones are made
    return Result(
        ranking=Ranking(*map(np.concatenate, zip(*rankings, strict=True))),
        query_identities=np.array(query_identities, dtype=object),
        gallery_identities=np.array(gallery_identities, dtype=object),
        metric=_describe(metric, expansion, rerank),
        max_rank=max_rank,
        roc=verification.summary() if roc else {},
    )


def _describe(metric: str, expansion: Expansion | None, rerank: Rerank | None) -> str:
    return ", ".join([metric, *(str(how) for how in (expansion, rerank) if how is not None)])


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
