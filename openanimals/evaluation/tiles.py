"""Matrix products of features in tiles that stay in their place, and what metrics make of them.

A matrix product rounds differently when it is cut differently. So every product here is one of
QUERY_TILE queries and GALLERY_TILE gallery images, on a grid that starts at row 0 of the two whole
sets and is filled up with zeros at its end. How many queries are at hand at once, how many threads
there are, and which process has which tiles cannot change a bit of a distance.

Features may be of any type of number, in memory or mapped from a file: they are converted, checked
and moved a tile at a time.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from openanimals.utils.errors import UserError
from openanimals.utils.registry import did_you_mean

QUERY_TILE, GALLERY_TILE = 256, 1024  # 8 MiB of gallery at 2048 dimensions, 64 MiB at 16384
BLOCK_PAIRS = 2**22  # distances at hand at once, 16 MiB; but never less than a tile of queries
LENGTHS = 64  # at a time: torch makes a copy in float64
ROUNDING = 2.0**-44  # of sums of 16384 products in float64, with plenty to spare

Features = np.ndarray | Tensor


class Metric(NamedTuple):
    """How distances follow from products.

    Attributes:
        between: dot products, and the squared lengths of queries and of gallery images in float64
            that broadcast against them, to distances in float32.
        dtype: the least type of the products.
    """

    between: Callable[[Tensor, Tensor, Tensor], Tensor]
    dtype: torch.dtype


def _cosine(dots: Tensor, query: Tensor, gallery: Tensor) -> Tensor:
    # The lower bound makes a feature of zeros orthogonal to all others, instead of NaN.
    one, other = (
        squared.sqrt().clamp(min=1e-12).reciprocal().to(dots.dtype) for squared in (query, gallery)
    )
    dots *= one * other  # at once: the same from either to the other
    # Rounded before the subtraction: after it, float32 would resolve the noise of equal features.
    return (1 - dots.float()).clamp_(min=0)


def _squared_euclidean(dots: Tensor, query: Tensor, gallery: Tensor) -> Tensor:
    # What two equal features leave is rounding, which depends on where in a tile they stand.
    lengths = query + gallery
    distances = dots.mul_(-2).add_(lengths)
    return distances.masked_fill_(distances < ROUNDING * lengths, 0).float()


METRICS = {
    "cosine": Metric(_cosine, torch.float32),
    # A small difference of large sums, of which float32 would leave little.
    "euclidean": Metric(_squared_euclidean, torch.float64),
}


def metric_named(name: str) -> Metric:
    """Return a metric.

    Raises:
        ValueError: there is none of the name.
    """
    if name not in METRICS:
        raise UserError(
            f"unknown distance {name!r}{did_you_mean(name, METRICS)}; known: {', '.join(METRICS)}"
        )
    return METRICS[name]


def squared_lengths(features: Features, what: str, first: int = 0) -> Tensor:
    """Return the squared lengths of features, having checked them.

    Args:
        features: `[N, D]`.
        what: names them in messages.
        first: the number of the first row in messages.

    Returns:
        `[N]` in float64.

    Raises:
        ValueError: the features have no dimensions, or one of them is not finite, also where only
            its square is not in float32.
    """
    if features.ndim != 2 or not features.shape[1]:
        raise unlike_features(features, what)
    found = torch.empty(len(features), dtype=torch.float64)
    for start in range(0, len(features), LENGTHS):
        part = slice(start, start + LENGTHS)
        tile = as_tensor(features[part])
        tile = tile if tile.is_floating_point() else tile.double()
        found[part] = torch.linalg.vector_norm(tile, dim=1, dtype=torch.float64).square()
    broken = (~found.float().isfinite()).nonzero().flatten().tolist()
    if broken:
        raise UserError(
            f"{len(broken)} of {len(features)} {what} features are not finite (first: row "
            f"{first + broken[0]}); nothing can be ranked by them"
        )
    return found


def check_same_length(query: Features, gallery: Features) -> None:
    """Raise unless features have equally many dimensions.

    Raises:
        ValueError: they have not.
    """
    if query.shape[1] != gallery.shape[1]:
        raise UserError(
            f"query features have {query.shape[1]} dimensions, "
            f"gallery features {gallery.shape[1]}; they must come from the same model"
        )


def unlike_features(features: Features, what: str) -> UserError:
    """Return the error for an array that has no features in it."""
    return UserError(
        f"{what} features have the shape {list(features.shape)}; "
        "expected [images, dimensions], at least one of each"
    )


def as_tensor(features: Features) -> Tensor:
    """Return features as a tensor; a copy only of what torch cannot share."""
    if isinstance(features, Tensor):
        return features
    return torch.from_numpy(np.require(features, requirements=["C", "W"]))


def tiled_blocks(
    query: tuple[Features, Tensor],
    gallery: tuple[Features, Tensor],
    metric: Metric,
    rows: int | None,
    device: torch.device | str,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield the distances of consecutive blocks of queries to the whole gallery.

    Args:
        query: features `[Q, D]` and their squared lengths `[Q]`.
        gallery: features `[G, D]` and their squared lengths `[G]`.
        metric: makes distances of products.
        rows: the most queries in a block; None: so many that memory stays bounded.
        device: where to compute, ``"cpu"`` or a CUDA device.

    Yields:
        The block's query rows, and their distances `[rows, G]` in float32, on the device.
    """
    wide = any(as_tensor(side[:1]).dtype == torch.float64 for side, _ in (query, gallery))
    like = torch.empty(0, dtype=torch.float64 if wide else metric.dtype, device=device)
    widest = max(gallery[0].shape)
    rows = rows or QUERY_TILE * max(1, BLOCK_PAIRS // (QUERY_TILE * widest))
    tiles = -(-rows // QUERY_TILE)
    for start in range(0, len(query[0]), tiles * QUERY_TILE):
        block = _distances(query, gallery, metric, range(start, start + tiles * QUERY_TILE), like)
        for begin in range(0, len(block), rows):
            part = block[begin : begin + rows]
            yield slice(start + begin, start + begin + len(part)), part
            del part
        del block  # before the next one is made


def _distances(
    query: tuple[Features, Tensor],
    gallery: tuple[Features, Tensor],
    metric: Metric,
    wanted: range,
    like: Tensor,
) -> Tensor:
    """Return the distances `[rows, G]` of the wanted queries, whole tiles of them."""
    own, other = (squared.to(like.device) for _, squared in (query, gallery))
    own = own[wanted.start : wanted.stop]
    grid = range(0, len(own), QUERY_TILE)
    queries = [_tile(query[0], wanted.start + row, QUERY_TILE, like) for row in grid]
    block = torch.empty((len(own), len(other)), device=like.device)
    for column in range(0, len(other), GALLERY_TILE):
        columns = slice(column, column + GALLERY_TILE)
        images = _tile(gallery[0], column, GALLERY_TILE, like)
        for row, tile in zip(grid, queries, strict=True):
            part = block[row : row + QUERY_TILE, columns]
            height, width = part.shape
            dots = (images @ tile.mT)[:width, :height]  # faster than queries by images
            part.copy_(metric.between(dots, own[row : row + height], other[columns, None]).mT)
    return block


def _tile(features: Features, start: int, size: int, like: Tensor) -> Tensor:
    """Return rows from ``start`` on, filled up with zeros `[size, D]`; type and device of like."""
    part = as_tensor(features[start : start + size]).to(like)
    return part if len(part) == size else F.pad(part, (0, 0, 0, size - len(part)))
