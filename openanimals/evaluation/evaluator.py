"""From a model and images to features, and from features or scores to a Result."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from openanimals.evaluation.by_individual import ByIndividual
from openanimals.evaluation.distance import Features, distance_blocks
from openanimals.evaluation.inputs import as_features
from openanimals.evaluation.metrics import Ranking, Result
from openanimals.evaluation.pca import reduce_dimensions
from openanimals.evaluation.protocols import Labels, Pair, Protocol, as_labels
from openanimals.evaluation.query_expansion import QueryExpansion, expand
from openanimals.evaluation.ranking import rank_queries
from openanimals.evaluation.rerank import Rerank, rerank_blocks
from openanimals.evaluation.results_io import FeatureSet
from openanimals.evaluation.roc import Pairs, pairs, verification
from openanimals.evaluation.score_blocks import MatcherBlocks, ScoreBlocks, Scores, checked_blocks
from openanimals.utils.errors import UserError
from openanimals.utils.image_range import check_images

GIVEN = "given scores"  # what is ranked by, where it is no distance of features


def extract_features(
    model: nn.Module,
    batches: Iterable[Any],
    device: torch.device | str,
    *,
    flip: bool = False,
    dtype: torch.dtype | None = None,
    told: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Run a model over images.

    Args:
        model: takes images `[B, 3, H, W]` in 0..255 and returns features `[B, D]`. It is put in
            eval mode, and CUDA takes the same kernels in every process and run; afterwards modules
            and kernels are as they were.
        batches: uint8 tensors `[B, 3, H, W]`, or objects with such a tensor as ``images``.
        device: where the model is.
        flip: whether to average the features of each image and of its mirror image.
        dtype: what the model computes in, by autocast; None: in its own type.
        told: called after each batch with the number of its images, or None.

    Returns:
        Features `[N, D]` in float32, in the order of the images and not normalised.

    Raises:
        UserError: there are no images, or they have other than three channels.
    """
    device = torch.device(device)
    features: list[np.ndarray] = []
    precision = torch.autocast(device.type, dtype, enabled=dtype not in (None, torch.float32))
    with _eval_mode(model), torch.inference_mode(), precision:
        for batch in batches:
            images = getattr(batch, "images", batch)
            if images.dtype != torch.uint8 or images.shape[1:-2] != (3,):
                check_images(model, images)
            images = images.to(device, non_blocking=True)
            output = model(images).float()
            if flip:
                output = (output + model(images.flip(3)).float()) / 2
            features.append(output.cpu().numpy())
            if told:
                told(len(images))
    if not features:
        raise UserError("there are no images to extract features from")
    return np.concatenate(features)


def evaluate(
    query_features: Features | FeatureSet | None = None,
    gallery_features: Features | FeatureSet | None = None,
    query_identities: Labels | None = None,
    gallery_identities: Labels | None = None,
    query_cameras: Labels | None = None,
    gallery_cameras: Labels | None = None,
    *,
    scores: Scores | None = None,
    encounters: Pair | None = None,
    viewpoints: Pair | None = None,
    metric: str | None = None,
    expansion: QueryExpansion | None = None,
    rerank: Rerank | None = None,
    by_individual: bool = False,
    roc: bool = False,
    max_rank: int = 50,
    top: int = 10,
    device: torch.device | str = "cpu",
) -> Result:
    """Search the gallery for each query and judge the rankings.

    Queries are taken a block at a time, and features converted a tile at a time, so the memory that
    this takes besides the features is that of a few hundred distances for each gallery image.

    Args:
        query_features: `[Q, D]`, of any type of number, in whatever is like an array; may be mapped
            from a file. Or a FeatureSet, whose table then gives the identities and counted cameras
            that are not given here.
        gallery_features: `[G, D]`, the same.
        query_identities: `[Q]` labels: text, numbers or dates, in whatever is like an array.
        gallery_identities: `[G]` labels.
        query_cameras: `[Q]` labels, or None where the protocol uses no cameras.
        gallery_cameras: `[G]` labels, or None.
        scores: distances, small where images are alike, in place of features: an array `[Q, G]`,
            or an iterable of consecutive query rows and their distances `[rows, G]`.
        encounters: `[Q]` and `[G]` labels: gallery images of a query's individual from its
            encounter are left out of its ranking.
        viewpoints: `[Q]` and `[G]` labels: a query is ranked against images from its own viewpoint
            only.
        metric: ``"cosine"``, the default, or ``"euclidean"`` (squared).
        expansion: replace all features by means of similar ones first, or None.
        rerank: mix the Jaccard distance of neighbourhoods into the distances, or None.
        by_individual: rank individuals, each by its nearest photograph, instead of photographs.
        roc: also report how well a threshold on the distance verifies. Takes 4 bytes a pair.
        max_rank: length of the CMC curve.
        top: how many of each query's nearest gallery rows to keep.
        device: where distances are computed, ``"cpu"`` or a CUDA device.

    Raises:
        UserError: lengths do not fit, labels are of another kind, features or scores are not
            finite, scores come with what only features have, FeatureSets are of two models, or no
            query has a match.

    Example:
        >>> features = np.eye(3)
        >>> evaluate(features[:2], features, ["ada", "bo"], ["ada", "cy", "bo"]).rank(1)
        50.0
    """
    query, query_identities, query_cameras = _part(
        "query", query_features, query_identities, query_cameras
    )
    gallery, gallery_identities, gallery_cameras = _part(
        "gallery", gallery_features, gallery_identities, gallery_cameras
    )
    if isinstance(query_features, FeatureSet) and isinstance(gallery_features, FeatureSet):
        query_features.check_same_model(gallery_features)
    cameras = None
    if query_cameras is not None and gallery_cameras is not None:
        cameras = query_cameras, gallery_cameras
    elif query_cameras is not None or gallery_cameras is not None:
        given = "gallery" if query_cameras is None else "query"
        raise UserError(f"only the {given} has cameras; expected both sides or neither")
    identities = query_identities, gallery_identities
    sizes = len(query_identities), len(gallery_identities)
    protocol = Protocol(identities, cameras, encounters=encounters, viewpoints=viewpoints)
    if by_individual:
        protocol = ByIndividual(protocol)
    if scores is not None:
        if any(x is not None for x in (query, gallery, metric, expansion, rerank)):
            raise UserError(
                "scores are ranked as they are; expected no features, metric, expansion or rerank "
                "beside them"
            )
        blocks, ranked_by = checked_blocks(scores, *sizes), GIVEN
    elif query is None or gallery is None:
        raise UserError("nothing to rank by; expected features of both sides, or scores")
    else:
        blocks, ranked_by = feature_blocks(
            query, gallery, metric or "cosine", expansion, rerank, device=device
        )
    return judge(blocks, [protocol], ranked_by=ranked_by, roc=roc, max_rank=max_rank, top=top)[0]


def feature_blocks(
    query: Features,
    gallery: Features,
    metric: str = "cosine",
    expansion: QueryExpansion | None = None,
    rerank: Rerank | None = None,
    *,
    dimensions: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[ScoreBlocks, str]:
    """Return the distances of features as score blocks, and in words what they are.

    Args as for :func:`evaluate`; and ``dimensions`` that features are reduced to first, 0 for all.
    """
    words = [metric, *(str(how) for how in (expansion, rerank) if how is not None)]
    if dimensions:
        query, gallery = reduce_dimensions(query, gallery, dimensions, device=device)
        words.insert(0, f"PCA {dimensions}")
    if expansion is not None:
        query, gallery = expand(query, gallery, expansion, device=device)
    blocks = distance_blocks(query, gallery, metric, device=device)
    if rerank is not None:
        blocks = rerank_blocks(blocks, query, gallery, metric, rerank, device=device)
    return blocks, ", ".join(words)


def judge(
    blocks: MatcherBlocks,
    protocols: Sequence[Protocol],
    *,
    ranked_by: str = GIVEN,
    roc: bool = False,
    max_rank: int = 50,
    top: int = 10,
) -> list[Result]:
    """Rank the gallery for each query by score blocks, and judge the rankings by each protocol.

    The blocks are of all queries, in order; distances of removed images are made infinite in them.
    Where a matcher has its own distances of individuals, they stand third in its blocks.
    ``ranked_by`` says in words what they are, and the rest is as for :func:`evaluate`.

    Raises:
        UserError: no query has a match.
    """
    rankings: list[list[Ranking]] = [[] for _ in protocols]
    verified: list[list[Pairs]] = [[] for _ in protocols]
    for rows, distances, *named in blocks:
        for number, protocol in enumerate(protocols):
            if isinstance(protocol, ByIndividual):
                own = named[0].copy() if named else protocol.best(rows, distances)
            else:
                own = distances if protocol is protocols[-1] else distances.copy()
            if roc:
                verified[number].append(pairs(own, *protocol.masks(rows)))
            rankings[number].append(rank_queries(own, protocol.masks, first=rows.start, top=top))
        del distances, own  # before the next ones are made
    return [
        Result(
            ranking=Ranking(*map(np.concatenate, zip(*ranked, strict=True))),
            query_identities=protocol.identities[0],
            gallery_identities=protocol.identities[1],
            metric=ranked_by,
            max_rank=max_rank,
            protocol=protocol.rule,
            roc=verification(found) if roc else {},
        )
        for protocol, ranked, found in zip(protocols, rankings, verified, strict=True)
    ]


def _part(
    what: str,
    features: Features | FeatureSet | None,
    identities: Labels | None,
    cameras: Labels | None,
) -> tuple[Features | None, Labels, Labels | None]:
    """Return a side's features, identities and cameras; a FeatureSet's come from its table."""
    if isinstance(features, FeatureSet):
        identities = features.column("identity") if identities is None else identities
        cameras = features.column("counted_camera") if cameras is None else cameras
        features = features.features
    if identities is None:
        raise UserError(f"the {what} has no identities; expected one for each image")
    identities = as_labels(identities, f"{what} identities")
    if features is not None:
        features = as_features(features, f"{what} features")
        if len(features) != len(identities):
            raise UserError(f"{len(features)} {what} features for {len(identities)} identities")
    return features, identities, cameras


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    # Module by module, since `model.train()` would also wake the BatchNorm of frozen layers.
    modes = [(module, module.training) for module in model.modules()]
    cudnn = torch.backends.cudnn
    kernels = cudnn.benchmark, cudnn.deterministic
    model.eval()
    cudnn.benchmark, cudnn.deterministic = False, True  # whatever training was timed to take
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = kernels
        for module, training in modes:
            module.training = training
