"""Distances between query and gallery features, a block of queries at a time.

Sums are taken in float64 and rounded once to float32. So the distances do not depend on how the
work is cut into blocks or spread over threads, and two equal gallery images are equally far from
every query, which leaves their order to the ranking's rule for ties.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from openanimals.utils.registry import did_you_mean

GALLERY_ROWS = 1024  # gallery rows held in float64 at once: 128 MiB at ARBase's 16384 dimensions


def _cosine(query: Tensor, gallery: Tensor) -> Tensor:
    # The norm's lower bound makes a feature of zeros orthogonal to all others, instead of NaN.
    query, gallery = (F.normalize(features, eps=1e-12) for features in (query, gallery))
    # Rounded before the subtraction: after it, float32 would resolve the noise of equal features.
    return 1 - (query @ gallery.T).float()


def _squared_euclidean(query: Tensor, gallery: Tensor) -> Tensor:
    norms = query.square().sum(1)[:, None] + gallery.square().sum(1)
    return (norms - 2 * query @ gallery.T).clamp_(min=0).float()


METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": _cosine,
    "euclidean": _squared_euclidean,
}


def distance_blocks(
    query: np.ndarray, gallery: np.ndarray, metric: str = "cosine", *, rows: int = 1024
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the distances of consecutive blocks of queries to the whole gallery.

    Args:
        query: features `[Q, D]`, of any float type.
        gallery: features `[G, D]`.
        metric: ``"cosine"`` (1 - cosine of the whole vectors, 0 to 2) or ``"euclidean"`` (the
            squared Euclidean distance, as FastReID has it; it ranks like the plain one).
        rows: queries in a block. The distances are the same whatever it is.

    Yields:
        The block's query rows, and their distances `[rows, G]` in float32.

    Raises:
        ValueError: the metric is unknown, the features have no rows or different lengths, or one
            of them is not finite.
    """
    if metric not in METRICS:
        raise ValueError(
            f"unknown distance {metric!r}{did_you_mean(metric, METRICS)}; "
            f"known: {', '.join(METRICS)}"
        )
    queries, candidates = _checked("query", query), _checked("gallery", gallery)
    if queries.shape[1] != candidates.shape[1]:
        raise ValueError(
            f"query features have {queries.shape[1]} dimensions, "
            f"gallery features {candidates.shape[1]}; they must come from the same model"
        )
    between = METRICS[metric]
    for start in range(0, len(queries), rows):
        block = queries[start : start + rows].double()
        parts = [between(block, part.double()) for part in candidates.split(GALLERY_ROWS)]
        yield slice(start, start + len(block)), torch.cat(parts, dim=1).numpy()


def _checked(what: str, features: np.ndarray) -> Tensor:
    tensor = torch.as_tensor(np.asarray(features))
    if tensor.ndim != 2 or not tensor.numel():
        raise ValueError(
            f"{what} features have the shape {list(tensor.shape)}; "
            "expected [images, dimensions], at least one of each"
        )
    broken = (~tensor.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if broken:
        raise ValueError(
            f"{len(broken)} of {len(tensor)} {what} features are not finite (first: row "
            f"{broken[0]}); nothing can be ranked by them"
        )
    return tensor
