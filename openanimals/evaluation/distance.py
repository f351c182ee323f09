"""Distances between features: all of them, a block at a time; the nearest; those of some pairs.

Two equal gallery images are equally far from every query, which leaves their order to the ranking's
rule for ties; :mod:`openanimals.evaluation.tiles` has the products, and says why.

A ``device`` is ``"cpu"`` or a CUDA device; features are moved there part by part. (Apple's MPS has
no float64.)
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from openanimals.evaluation import tiles
from openanimals.evaluation.tiles import (
    Features,
    as_tensor,
    check_same_length,
    metric_named,
    squared_lengths,
    tiled_blocks,
    unlike_features,
)

KEYED = 2**18  # distances sorted out at a time: in a cache, not in fresh memory
GATHERED = 2**18  # numbers of single features gathered at once: 2 MiB, which a cache holds


def distance_blocks(
    query: Features,
    gallery: Features,
    metric: str = "cosine",
    *,
    rows: int | None = None,
    first: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the distances of consecutive blocks of queries to the whole gallery.

    Args:
        query: features `[Q, D]`, of any type of number.
        gallery: features `[G, D]`; none at all, `[0, D]`, are fine.
        metric: ``"cosine"`` (1 - cosine of the whole vectors, 0 to 2) or ``"euclidean"`` (the
            squared Euclidean distance, as FastReID has it; it ranks like the plain one).
        rows: the most queries in a block; by default so many that memory stays bounded. The
            distances are the same whatever it is.
        first: number of the first gallery row in messages, where this is a shard of a gallery.
        device: where to compute.

    Yields:
        The block's query rows, and their distances `[rows, G]` in float32.

    Raises:
        ValueError: the metric is unknown, there are no queries, the features have different
            lengths, or one of them is not finite.
    """
    if not len(query):
        raise unlike_features(query, "query")
    one = query, squared_lengths(query, "query")
    other = gallery, squared_lengths(gallery, "gallery", first)
    check_same_length(query, gallery)
    for where, block in tiled_blocks(one, other, metric_named(metric), rows, device):
        yield where, block.cpu().numpy()
        del block  # before the next one is made


def nearest(
    features: Features,
    k: int,
    metric: str = "cosine",
    *,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Find each feature's nearest among all of them, itself included.

    Args:
        features: `[N, D]`, finite.
        k: how many; all, where there are fewer.
        metric: as for :func:`distance_blocks`.
        device: where to compute.

    Returns:
        Their rows `[N, k]`, nearest first and equally near ones by row, and distances `[N, k]`.
    """
    k, count = min(k, len(features)), len(features)
    lengths = squared_lengths(features, "image")
    found = torch.full((count, k), torch.iinfo(torch.int64).max, device=device)
    for start in range(0, count, tiles.QUERY_TILE):
        # A distance counts for both its images and is computed once: a tile of images to all from
        # its first on. Tiles stay in their place, so the columns may begin before it.
        rows, corner = slice(start, start + tiles.QUERY_TILE), start - start % tiles.GALLERY_TILE
        one, other = ((features[part], lengths[part]) for part in (rows, slice(corner, None)))
        for _, block in tiled_blocks(one, other, metric_named(metric), None, device):
            own = block[:, start - corner :]
            _keep_nearest(found[rows], own, start)
            _keep_nearest(found[rows.stop :], own[:, tiles.QUERY_TILE :].T, start)
            del block, own  # before the next ones are made
    found = found.cpu()
    return (found & 0xFFFFFFFF).numpy(), (found >> 32).int().view(torch.float32).numpy()


def _keep_nearest(found: Tensor, distances: Tensor, first: int) -> None:
    """Take images from the row ``first`` on among the nearest found so far `[N, k]`, in place.

    An entry has a distance's bits above the row's: one integer, no two alike, so that `topk` cannot
    choose among ties. The bits of floats that are not negative are ordered like the floats.
    """
    k, images = found.shape[1], distances.shape[1]
    rows = first + torch.arange(images, device=found.device)
    for part in range(0, len(found), max(1, KEYED // images)):
        wanted = slice(part, part + max(1, KEYED // images))
        keyed = distances[wanted].contiguous().view(torch.int32).long() << 32 | rows
        found[wanted] = torch.cat([found[wanted], keyed], 1).topk(k, largest=False).values


def pair_distances(
    features: Features,
    first: np.ndarray,
    second: np.ndarray,
    metric: str = "cosine",
    *,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Return the distances of some pairs of features; sums are taken in float64.

    Args:
        features: `[N, D]`, finite.
        first: a row of each pair `[P]`.
        second: its other row `[P]`.
        metric: as for :func:`distance_blocks`.
        device: where to compute.

    Returns:
        `[P]` in float32.
    """
    between = metric_named(metric).between
    parts = [np.empty(0, dtype=np.float32)]
    share = max(1, GATHERED // features.shape[1])
    for start in range(0, len(first), share):
        one, other = (
            as_tensor(features[side[start : start + share]]).to(device, torch.float64)  # [share, D]
            for side in (first, second)
        )
        dots, *lengths = ((a * b).sum(-1) for a, b in ((one, other), (one, one), (other, other)))
        parts.append(between(dots, *lengths).cpu().numpy())
    return np.concatenate(parts)


def checked(query: np.ndarray, gallery: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return whole features as tensors on the CPU: in float64 if they are, else in float32.

    Raises:
        ValueError: they have no rows or different lengths, or one of them is not finite.
    """
    tensors = []
    for what, features in (("query", query), ("gallery", gallery)):
        if not len(features):
            raise unlike_features(features, what)
        squared_lengths(features, what)
        tensor = as_tensor(features)
        tensors.append(tensor if tensor.dtype == torch.float64 else tensor.float())
    check_same_length(query, gallery)
    return tensors[0], tensors[1]
