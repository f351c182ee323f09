"""Distances between features: all of them, a block at a time; the nearest; those of some pairs.

A matrix product rounds differently when it is cut differently. So every product here is one of
QUERY_TILE queries and GALLERY_TILE gallery images, on a grid that starts at row 0 of the two whole
sets and is filled up with zeros at its end. How many queries are at hand at once, and how many
threads there are, cannot change a bit of a distance; and two equal gallery images are equally far
from every query, which leaves their order to the ranking's rule for ties.

Features may be of any type of number, in memory or mapped from a file: they are converted, checked
and moved a tile at a time. A ``device`` is ``"cpu"`` or a CUDA device. (Apple's MPS has no
float64.)
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from openanimals.evaluation.inputs import Features
from openanimals.evaluation.score_blocks import BLOCK_PAIRS, ScoreBlocks
from openanimals.utils.errors import UserError
from openanimals.utils.registry import did_you_mean

QUERY_TILE, GALLERY_TILE = 256, 1024  # 8 MiB of gallery at 2048 dimensions, 64 MiB at 16384
LENGTHS = 64  # at a time: torch makes a copy in float64
ROUNDING = 2.0**-44  # of sums of 16384 products in float64, with plenty to spare
KEYED = 2**18  # distances sorted out at a time: in a cache, not in fresh memory
NEAR = 2.0**-12  # a cosine distance in float64, below which its noise would show in float32
GATHERED = 2**18  # numbers of single features gathered at once: 2 MiB, which a cache holds

# Dot products, and the squared lengths of queries and of gallery images in float64 that broadcast
# against them, to distances in float32.
Between = Callable[[Tensor, Tensor, Tensor], Tensor]


def _cosine(dots: Tensor, query: Tensor, gallery: Tensor) -> Tensor:
    # The lower bound makes a feature of zeros orthogonal to all others, instead of NaN.
    one, other = (
        squared.sqrt().clamp(min=1e-12).reciprocal().to(dots.dtype) for squared in (query, gallery)
    )
    dots *= one * other  # at once: the same from either to the other
    # Rounded before the subtraction: after it, float32 would resolve the noise of equal features.
    return (1 - dots.float()).clamp_(min=0)


def _fine_cosine(dots: Tensor, query: Tensor, gallery: Tensor) -> Tensor:
    # Of features in float64, which have an order also where float32 finds them all alike.
    one, other = (squared.sqrt().clamp(min=1e-12).reciprocal() for squared in (query, gallery))
    return (1 - dots.mul_(one * other)).clamp_(min=0).float()


def _sharpen(distances: Tensor, one: Tensor, other: Tensor) -> None:
    """Replace small cosine distances `[N, M]`, which are noise, by those that differences give.

    Args:
        distances: of features in float64, changed in place.
        one: the features `[N, D]`.
        other: the other ones `[M, D]`.
    """
    near = distances < NEAR
    if near.any():
        apart = torch.cdist(_unit(one), _unit(other), compute_mode="donot_use_mm_for_euclid_dist")
        distances[near] = apart[near].square().div(2).float()


def _unit(features: Tensor) -> Tensor:
    return features / torch.linalg.vector_norm(features, dim=1, keepdim=True)


def _squared_euclidean(dots: Tensor, query: Tensor, gallery: Tensor) -> Tensor:
    # What two equal features leave is rounding, which depends on where in a tile they stand.
    lengths = query + gallery
    distances = dots.mul_(-2).add_(lengths)
    return distances.masked_fill_(distances < ROUNDING * lengths, 0).float()


# How distances follow from products, by the type of the products.
METRICS: dict[str, dict[torch.dtype, Between]] = {
    "cosine": {torch.float32: _cosine, torch.float64: _fine_cosine},
    # A small difference of large sums, of which float32 would leave little.
    "euclidean": {torch.float64: _squared_euclidean},
}


def metric_named(name: str, *features: Features) -> tuple[Between, torch.dtype]:
    """Return how a metric makes distances of features, and the type of its products.

    Raises:
        UserError: there is none of the name.
    """
    if name not in METRICS:
        raise UserError(
            f"unknown distance {name!r}{did_you_mean(name, METRICS)}; known: {', '.join(METRICS)}"
        )
    narrow = torch.float32 in METRICS[name] and not any(map(is_wide, features))
    dtype = torch.float32 if narrow else torch.float64
    return METRICS[name][dtype], dtype


def is_wide(features: Features) -> bool:
    """Tell whether features are in float64."""
    return as_tensor(features[:1]).dtype == torch.float64


def squared_lengths(features: Features, what: str) -> Tensor:
    """Return the squared lengths of features, having checked them.

    Args:
        features: `[N, D]`.
        what: names them in messages.

    Returns:
        `[N]` in float64.

    Raises:
        UserError: the features have no dimensions, or one of them is not finite, also where only
            its square is not in float32.
    """
    if features.ndim != 2 or not features.shape[1] or (what == "query" and not len(features)):
        raise UserError(
            f"{what} features have the shape {list(features.shape)}; "
            "expected [images, dimensions], at least one of each"
        )
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
            f"{broken[0]}); nothing can be ranked by them"
        )
    return found


def checked_lengths(query: Features, gallery: Features) -> tuple[Tensor, Tensor]:
    """Return the squared lengths of both `[Q]`, `[G]`, having checked that they can be compared.

    Raises:
        UserError: there are no queries, the features have different lengths, or one of them is not
            finite.
    """
    lengths = squared_lengths(query, "query"), squared_lengths(gallery, "gallery")
    if query.shape[1] != gallery.shape[1]:
        raise UserError(
            f"query features have {query.shape[1]} dimensions, "
            f"gallery features {gallery.shape[1]}; they must come from the same model"
        )
    return lengths


def as_tensor(features: Features) -> Tensor:
    """Return features as a tensor; a copy only of what torch cannot share."""
    if isinstance(features, Tensor):
        return features
    known = np.float64 if features.dtype == np.longdouble else features.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(features, known, requirements=["C", "W"]))


def distance_blocks(
    query: Features,
    gallery: Features,
    metric: str = "cosine",
    *,
    device: torch.device | str = "cpu",
) -> ScoreBlocks:
    """Yield the distances of consecutive blocks of queries to the whole gallery.

    Args:
        query: features `[Q, D]`, of any type of number.
        gallery: features `[G, D]`; none at all, `[0, D]`, are fine.
        metric: ``"cosine"`` (1 - cosine of the whole vectors, 0 to 2) or ``"euclidean"`` (the
            squared Euclidean distance, as FastReID has it; it ranks like the plain one).
        device: where to compute.

    Yields:
        The block's query rows, so many that memory stays bounded, and their distances `[rows, G]`
        in float32.

    Raises:
        UserError: the metric is unknown, there are no queries, the features have different
            lengths, or one of them is not finite.
    """
    own, other = checked_lengths(query, gallery)
    for rows, block in _tiled_blocks((query, own), (gallery, other), metric, device):
        yield rows, block.cpu().numpy()
        del block  # before the next one is made


def _tiled_blocks(
    query: tuple[Features, Tensor],
    gallery: tuple[Features, Tensor],
    metric: str,
    device: torch.device | str,
) -> Iterator[tuple[slice, Tensor]]:
    """Do what :func:`distance_blocks` does, given features and their squared lengths `[N]`.

    Yields:
        The block's query rows, and their distances `[rows, G]` in float32, on the device.
    """
    between, dtype = metric_named(metric, query[0], gallery[0])
    like = torch.empty(0, dtype=dtype, device=device)
    step = QUERY_TILE * max(1, BLOCK_PAIRS // (QUERY_TILE * max(gallery[0].shape)))
    for start in range(0, len(query[0]), step):
        rows = slice(start, min(start + step, len(query[0])))
        yield rows, _distances(query, gallery, between, rows, like)


def _distances(
    query: tuple[Features, Tensor],
    gallery: tuple[Features, Tensor],
    between: Between,
    rows: slice,
    like: Tensor,
) -> Tensor:
    """Return the distances `[rows, G]` of some queries, whole tiles of them."""
    own, other = (squared.to(like.device) for _, squared in (query, gallery))
    own = own[rows]
    grid = range(0, len(own), QUERY_TILE)
    queries = [_tile(query[0], rows.start + row, QUERY_TILE, like) for row in grid]
    block = torch.empty((len(own), len(other)), device=like.device)
    for column in range(0, len(other), GALLERY_TILE):
        columns = slice(column, column + GALLERY_TILE)
        images = _tile(gallery[0], column, GALLERY_TILE, like)
        for row, tile in zip(grid, queries, strict=True):
            part = block[row : row + QUERY_TILE, columns]
            height, width = part.shape
            dots = (images @ tile.mT)[:width, :height]  # faster than queries by images
            part.copy_(between(dots, own[row : row + height], other[columns, None]).mT)
            if between is _fine_cosine:
                _sharpen(part, tile[:height], images[:width])
    return block


def _tile(features: Features, start: int, size: int, like: Tensor) -> Tensor:
    """Return rows from ``start`` on, filled up with zeros `[size, D]`; type and device of like."""
    part = as_tensor(features[start : start + size]).to(like)
    return part if len(part) == size else F.pad(part, (0, 0, 0, size - len(part)))


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
    for start in range(0, count, QUERY_TILE):
        # A distance counts for both its images and is computed once: a tile of images to all from
        # its first on. Tiles stay in their place, so the columns may begin before it.
        rows, corner = slice(start, start + QUERY_TILE), start - start % GALLERY_TILE
        one, other = ((features[part], lengths[part]) for part in (rows, slice(corner, None)))
        for _, block in _tiled_blocks(one, other, metric, device):
            own = block[:, start - corner :]
            _keep_nearest(found[rows], own, start)
            _keep_nearest(found[rows.stop :], own[:, QUERY_TILE:].T, start)
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
    between, _ = metric_named(metric, features)
    parts = [np.empty(0, dtype=np.float32)]
    share = max(1, GATHERED // features.shape[1])
    for start in range(0, len(first), share):
        one, other = (
            as_tensor(features[side[start : start + share]]).to(device, torch.float64)  # [share, D]
            for side in (first, second)
        )
        dots, *lengths = ((a * b).sum(-1) for a, b in ((one, other), (one, one), (other, other)))
        found = between(dots, *lengths)
        if between is _fine_cosine:
            near = found < NEAR
            apart = _unit(one[near]) - _unit(other[near])
            found[near] = apart.square().sum(-1).div(2).float()
        parts.append(found.cpu().numpy())
    return np.concatenate(parts)


def joined(query: Features, gallery: Features) -> Tensor:
    """Return all features `[Q + G, D]` on the CPU: in float64 if one side is, else in float32.

    Raises:
        UserError: see :func:`checked_lengths`.
    """
    checked_lengths(query, gallery)
    dtype = torch.float64 if is_wide(query) or is_wide(gallery) else torch.float32
    return torch.cat([as_tensor(side).to(dtype) for side in (query, gallery)])
