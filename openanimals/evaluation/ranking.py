"""From distances to rankings: exactly, and without ranking what nobody asks for.

A right image's rank is one more than the number of images before it: nearer ones, and equally near
ones of earlier rows. So it is enough to sort the distances without their rows, and only those up to
the furthest right image's, and to look the right images up there. The counts of a gallery's parts
add up to those of the whole, so processes that have a part each tell one another the distances of
the right images, and then the counts.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from openanimals.evaluation.metrics import Ranking
from openanimals.utils import distributed

QUERIES = 32  # that a thread takes at a time
COLUMNS = 2**15  # of the gallery, likewise

T = TypeVar("T")
Masks = Callable[[slice, slice], tuple[np.ndarray, np.ndarray | None]]


class _Hits(NamedTuple):
    """The right images of some queries, one entry each, in the order of the queries."""

    query: np.ndarray
    row: np.ndarray
    distance: np.ndarray


def rank_queries(
    distances: np.ndarray, matches: np.ndarray, removed: np.ndarray | None = None, *, top: int = 10
) -> Ranking:
    """Rank the gallery for each query and judge the rankings.

    Args:
        distances: `[Q, G]`, finite. Equal ones are ranked by gallery row.
        matches: `[Q, G]`, True where the gallery image shows the query's individual.
        removed: `[Q, G]`, True where the gallery image is left out of the query's ranking.
        top: how many of the nearest gallery rows to keep.

    Returns:
        One entry a query. Galleries may be smaller than ``top``.
    """

    def masks(queries: slice, _: slice) -> tuple[np.ndarray, np.ndarray | None]:
        return matches[queries], None if removed is None else removed[queries]

    return rank_block(distances.copy(), masks, top=top)


def rank_block(
    distances: np.ndarray,
    masks: Masks,
    *,
    corner: tuple[int, int] = (0, 0),
    top: int = 10,
    shared: bool = False,
) -> Ranking:
    """Do what :func:`rank_queries` does, with all threads and, if wanted, all processes.

    Args:
        distances: `[Q, G]` of some queries to the gallery, or to this process's part of it. Those
            of removed images are made infinite.
        masks: returns the two masks of :func:`rank_queries` for some queries and gallery images.
        corner: the first query's row among all queries, and the first image's in the whole gallery.
        top: how many of the nearest gallery rows to keep.
        shared: whether all processes do this together, with the same queries and with consecutive
            parts of the gallery. All get the ranking of the whole.
    """
    gather = distributed.gather if shared else _alone
    first = corner[1]
    starts = range(0, len(distances), QUERIES)
    groups = [slice(start, min(start + QUERIES, len(distances))) for start in starts]
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # numpy works without the GIL
        own = threads.map(lambda queries: _find(distances, masks, queries, corner), groups)
        hits = _by_query(gather(_by_query(own)))
        before = threads.map(lambda queries: _count(distances, hits, queries, first), groups)
        ranks = 1 + np.sum(gather(np.concatenate(list(before))), axis=0)
    parts = gather(_nearest(distances, first, top))
    rows, near = (np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True))
    order = np.argsort(near, axis=1, kind="stable")[:, :top]  # equally near: by part, so by row
    rows, near = (np.take_along_axis(values, order, axis=1) for values in (rows, near))
    return Ranking(
        *_judge(hits.query, ranks, len(distances)),
        top=np.where(np.isinf(near), -1, rows),
        top_distances=np.where(np.isinf(near), np.nan, near),
    )


def _alone(value: T) -> list[T]:
    return [value]


def _by_query(parts: Iterable[_Hits]) -> _Hits:
    """Join parts; the hits of a query stay in the order of the parts, which is that of the rows."""
    hits = _Hits(*map(np.concatenate, zip(*parts, strict=True)))
    order = np.argsort(hits.query, kind="stable")
    return _Hits(*(values[order] for values in hits))


def _find(distances: np.ndarray, masks: Masks, queries: slice, corner: tuple[int, int]) -> _Hits:
    """Return the hits of some queries in a part, having put what is removed at infinity."""
    own = distances[queries]
    height, width = own.shape
    row, column = corner[0] + queries.start, corner[1]
    matches, removed = masks(slice(row, row + height), slice(column, column + width))
    if removed is not None:
        own[removed] = np.inf
        matches = matches & ~removed
    query, image = np.divmod(np.flatnonzero(matches), max(1, width))  # faster than `nonzero`
    return _Hits(queries.start + query, column + image, own[query, image])


def _count(distances: np.ndarray, hits: _Hits, queries: slice, first: int) -> np.ndarray:
    """Return how many images of a part stand before each hit of some queries."""
    rows = distances[queries]
    borders = np.searchsorted(hits.query, np.arange(queries.start, queries.stop + 1))
    hits = _Hits(*(values[borders[0] : borders[-1]] for values in hits))
    own = [slice(*ends) for ends in pairwise(borders - borders[0])]
    furthest = np.array([hits.distance[hit].max(initial=-np.inf) for hit in own], rows.dtype)
    before, upto = np.zeros((2, len(hits.query)), dtype=np.int64)
    for start in range(0, rows.shape[1], COLUMNS):
        near = _at_most(rows[:, start : start + COLUMNS], furthest)
        for nearer, hit in zip(near, own, strict=True):
            nearer.sort()
            before[hit] += nearer.searchsorted(hits.distance[hit], "left")
            upto[hit] += nearer.searchsorted(hits.distance[hit], "right")
    places = hits.row - first
    itself = (places >= 0) & (places < rows.shape[1])
    for tied in np.flatnonzero(upto - before > itself):
        row = distances[hits.query[tied], : max(0, places[tied])]
        before[tied] += np.count_nonzero(row == hits.distance[tied])
    return before


def _at_most(rows: np.ndarray, limits: np.ndarray) -> list[np.ndarray]:
    """Return of each row what is not beyond its limit, in memory of its own."""
    found = np.flatnonzero(rows <= limits[:, None])
    ends = np.searchsorted(found, np.arange(1, len(rows)) * rows.shape[1])
    return np.split(rows.ravel().take(found), ends)


def _nearest(distances: np.ndarray, first: int, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest images of a part and their distances `[Q, k]`, in order."""
    nearest = torch.from_numpy(distances).topk(min(top + 1, distances.shape[1]), largest=False)
    near, rows = (values.numpy() for values in nearest)
    # Which of equally near images `topk` takes, and in what order, is its own affair.
    for query in np.flatnonzero((near[:, 1:] == near[:, :-1]).any(axis=1)):
        own = np.flatnonzero(distances[query] <= near[query, -1])
        own = own[np.argsort(distances[query, own], kind="stable")]
        rows[query] = own[: rows.shape[1]]
    rows = rows[:, :top]
    return first + rows, np.take_along_axis(distances, rows, axis=1)


def _judge(
    query: np.ndarray, ranks: np.ndarray, queries: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return average precision, inverse negative penalty and first rank of each query `[Q]`.

    Args:
        query: the query of each hit `[H]`, ascending.
        ranks: the rank of each hit `[H]`.
        queries: how many there are.
    """
    ranks = ranks[np.lexsort((ranks, query))]
    starts, stops = (np.searchsorted(query, np.arange(queries), side) for side in ("left", "right"))
    total, matched = stops - starts, stops > starts
    found = np.arange(1, len(ranks) + 1) - starts[query]  # hits up to and with each rank
    precision = np.bincount(query, found / ranks, minlength=queries)
    first, last = np.zeros(queries, np.int64), np.zeros(queries, np.int64)
    first[matched], last[matched] = ranks[starts[matched]], ranks[stops[matched] - 1]
    with np.errstate(invalid="ignore"):  # no match: 0 / 0 is the NaN that we want
        return precision / total, total / last, first
