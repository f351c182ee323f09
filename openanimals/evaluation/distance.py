"""Distances between features, a block of them at a time.

Sums are taken in float64 and rounded once to float32. So the distances do not depend on how the
work is cut into blocks or spread over threads, and two equal gallery images are equally far from
every query, which leaves their order to the ranking's rule for ties.

A ``device`` is ``"cpu"`` or a CUDA device; features are moved there part by part. (Apple's MPS has
no float64.)
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from openanimals.utils.registry import did_you_mean

BLOCK_PAIRS = 2**22  # distances at hand at once: about 200 MiB of working memory, ranking included
GALLERY_ROWS = 1024  # gallery rows held in float64 at once: 128 MiB at ARBase's 16384 dimensions
GATHERED = 2**18  # numbers of single features gathered at once: 2 MiB, which a cache holds


def _cosine(query: Tensor, gallery: Tensor) -> Tensor:
    # The norm's lower bound makes a feature of zeros orthogonal to all others, instead of NaN.
    query, gallery = (F.normalize(x, dim=-1, eps=1e-12) for x in (query, gallery))
    # Rounded before the subtraction: after it, float32 would resolve the noise of equal features.
    return 1 - (query @ gallery.mT).float()


def _squared_euclidean(query: Tensor, gallery: Tensor) -> Tensor:
    norms = query.square().sum(-1)[..., None] + gallery.square().sum(-1)[..., None, :]
    return (norms - 2 * query @ gallery.mT).clamp_(min=0).float()


METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": _cosine,
    "euclidean": _squared_euclidean,
}


def distance_blocks(
    query: np.ndarray,
    gallery: np.ndarray,
    metric: str = "cosine",
    *,
    rows: int | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the distances of consecutive blocks of queries to the whole gallery.

    Args:
        query: features `[Q, D]`, of any type of number.
        gallery: features `[G, D]`.
        metric: ``"cosine"`` (1 - cosine of the whole vectors, 0 to 2) or ``"euclidean"`` (the
            squared Euclidean distance, as FastReID has it; it ranks like the plain one).
        rows: queries in a block; by default so many that memory stays bounded. The distances are
            the same whatever it is.
        device: where to compute.

    Yields:
        The block's query rows, and their distances `[rows, G]` in float32.

    Raises:
        ValueError: the metric is unknown, the features have no rows or different lengths, or one
            of them is not finite.
    """
    queries, candidates = checked(query, gallery)
    for where, block in _blocks(queries, candidates, metric, rows, device):
        yield where, block.cpu().numpy()


def nearest(
    features: Tensor,
    k: int,
    metric: str = "cosine",
    *,
    rows: int | None = None,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Find each feature's nearest among all of them, itself included.

    Args:
        features: `[N, D]`, finite.
        k: how many; all, where there are fewer.
        metric: as for :func:`distance_blocks`.
        rows: features in a block.
        device: where to compute.

    Returns:
        Their rows `[N, k]`, nearest first and equally near ones by row, and distances `[N, k]`.
    """
    k = min(k, len(features))
    # Small tensors kept from block to block would keep the blocks' memory from being used again.
    both = torch.empty((len(features), k), dtype=torch.int64)
    for where, block in _blocks(features, features, metric, rows, device):
        # A distance's bits above the row's: one integer, no two alike, so that `topk` cannot choose
        # among ties. The bits of floats that are not negative are ordered like the floats.
        own = block.view(torch.int32).long() << 32 | torch.arange(len(features), device=device)
        both[where] = own.topk(k, largest=False).values.cpu()
    return (both & 0xFFFFFFFF).numpy(), (both >> 32).int().view(torch.float32).numpy()


def pair_distances(
    features: Tensor,
    first: np.ndarray,
    second: np.ndarray,
    metric: str = "cosine",
    *,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Return the distances of some pairs of features.

    Args:
        features: `[N, D]`, finite.
        first: a row of each pair `[P]`.
        second: its other row `[P]`.
        metric: as for :func:`distance_blocks`.
        device: where to compute.

    Returns:
        `[P]` in float32.
    """
    parts = [np.empty(0, dtype=np.float32)]
    share = max(1, GATHERED // features.shape[1])
    for start in range(0, len(first), share):
        one, other = (
            features[side[start : start + share]].to(device).double()[:, None]  # [share, 1, D]
            for side in (first, second)
        )
        parts.append(_metric(metric)(one, other).flatten().cpu().numpy())
    return np.concatenate(parts)


def checked(query: np.ndarray, gallery: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return features as tensors on the CPU: in float64 if they are, else in float32.

    Raises:
        ValueError: they have no rows or different lengths, or one of them is not finite.
    """
    queries, candidates = _checked("query", query), _checked("gallery", gallery)
    if queries.shape[1] != candidates.shape[1]:
        raise ValueError(
            f"query features have {queries.shape[1]} dimensions, "
            f"gallery features {candidates.shape[1]}; they must come from the same model"
        )
    return queries, candidates


def _checked(what: str, features: np.ndarray) -> Tensor:
    tensor = torch.as_tensor(np.require(features, requirements=["C", "W"]))
    tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
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


def _metric(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    if name not in METRICS:
        raise ValueError(
            f"unknown distance {name!r}{did_you_mean(name, METRICS)}; known: {', '.join(METRICS)}"
        )
    return METRICS[name]


def _blocks(
    query: Tensor, gallery: Tensor, metric: str, rows: int | None, device: torch.device | str
) -> Iterator[tuple[slice, Tensor]]:
    """Yield the distances `[rows, G]` of blocks of queries, on the device."""
    between = _metric(metric)
    rows = rows or max(1, BLOCK_PAIRS // len(gallery))
    for start in range(0, len(query), rows):
        block = query[start : start + rows].to(device).double()
        parts = [between(block, part.to(device).double()) for part in gallery.split(GALLERY_ROWS)]
        yield slice(start, start + len(block)), torch.cat(parts, dim=1)
