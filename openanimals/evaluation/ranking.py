"""From distances to rankings: exactly, and without ranking what nobody asks for.

A right image's rank is one more than the number of images before it: nearer ones, and equally near
ones of earlier rows. So it is enough to sort the distances without their rows, and only those up to
the furthest right image's, and to look the right images up there.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from openanimals.evaluation.metrics import Ranking

QUERIES = 32  # that a thread takes at a time
COLUMNS = 2**15  # of the gallery, likewise

# Given rows of queries, which gallery images show their individual and which are removed from their
# ranking, each `[rows, G]`; None where none is removed.
Masks = Callable[[slice], tuple[np.ndarray, np.ndarray | None]]


class _Hits(NamedTuple):
    """The right images of some queries, one entry each, in the order of the queries."""

    query: np.ndarray
    row: np.ndarray
    distance: np.ndarray


def rank_queries(distances: np.ndarray, masks: Masks, *, first: int = 0, top: int = 10) -> Ranking:
    """Rank the gallery for each query and judge the rankings, with all threads.

    Args:
        distances: `[Q, G]` of consecutive queries, finite. Equal ones are ranked by gallery row.
            Those of removed images are made infinite, where they lie.
        masks: tells which images are right and which are removed.
        first: the row that the masks know the first of these queries by.
        top: how many of the nearest gallery rows to keep.

    Returns:
        One entry a query. Galleries may be smaller than ``top``.
    """

    def judge(start: int) -> tuple[_Hits, np.ndarray, np.ndarray]:
        own = distances[start : start + QUERIES]
        matches, removed = masks(slice(first + start, first + start + len(own)))
        hits = _find(own, matches, removed)
        left = np.full(len(own), own.shape[1])
        left -= 0 if removed is None else np.count_nonzero(removed, axis=1)
        return hits._replace(query=start + hits.query), 1 + _count_before(own, hits), left

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # numpy works without the GIL
        judged = list(threads.map(judge, range(0, len(distances), QUERIES)))
    query = np.concatenate([hits.query for hits, *_ in judged])
    ranks, left = (np.concatenate(part) for part in list(zip(*judged, strict=True))[1:])
    rows, near = _nearest(distances, top)
    return Ranking(
        *_measures(query, ranks, left),
        top=np.where(np.isinf(near), -1, rows),
        top_distances=np.where(np.isinf(near), np.nan, near),
    )


def _find(distances: np.ndarray, matches: np.ndarray, removed: np.ndarray | None) -> _Hits:
    """Return the hits of some queries, having put what is removed at infinity."""
    if removed is not None:
        distances[removed] = np.inf
        matches = matches & ~removed
    width = max(1, distances.shape[1])
    query, row = np.divmod(np.flatnonzero(matches), width)  # faster than `nonzero`
    return _Hits(query, row, distances[query, row])


def _count_before(distances: np.ndarray, hits: _Hits) -> np.ndarray:
    """Return how many images stand before each hit of some queries."""
    borders = np.searchsorted(hits.query, np.arange(len(distances) + 1))
    own = [slice(*ends) for ends in pairwise(borders)]
    furthest = np.array([hits.distance[hit].max(initial=-np.inf) for hit in own], distances.dtype)
    before, upto = np.zeros((2, len(hits.query)), dtype=np.int64)
    for start in range(0, distances.shape[1], COLUMNS):
        near = _at_most(distances[:, start : start + COLUMNS], furthest)
        for nearer, hit in zip(near, own, strict=True):
            nearer.sort()
            before[hit] += nearer.searchsorted(hits.distance[hit], "left")
            upto[hit] += nearer.searchsorted(hits.distance[hit], "right")
    for tied in np.flatnonzero(upto - before > 1):  # one is the hit itself
        earlier = distances[hits.query[tied], : hits.row[tied]]
        before[tied] += np.count_nonzero(earlier == hits.distance[tied])
    return before


def _at_most(distances: np.ndarray, limits: np.ndarray) -> list[np.ndarray]:
    """Return of each row what is not beyond its limit, in memory of its own."""
    found = np.flatnonzero(distances <= limits[:, None])
    ends = np.searchsorted(found, np.arange(1, len(distances)) * distances.shape[1])
    return np.split(distances.ravel().take(found), ends)


def _nearest(distances: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the nearest images and their distances `[Q, top]`, in order."""
    nearest = torch.from_numpy(distances).topk(min(top + 1, distances.shape[1]), largest=False)
    near, rows = (values.numpy() for values in nearest)
    # Which of equally near images `topk` takes, and in what order, is its own affair.
    for query in np.flatnonzero((near[:, 1:] == near[:, :-1]).any(axis=1)):
        own = np.flatnonzero(distances[query] <= near[query, -1])
        own = own[np.argsort(distances[query, own], kind="stable")]
        rows[query] = own[: rows.shape[1]]
    rows = rows[:, :top]
    return rows, np.take_along_axis(distances, rows, axis=1)


def _measures(
    query: np.ndarray, ranks: np.ndarray, left: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return average precision, inverse negative penalty, first rank and chance of each query.

    Args:
        query: the query of each hit `[H]`, ascending.
        ranks: the rank of each hit `[H]`.
        left: the images in each query's ranking `[Q]`.
    """
    queries = len(left)
    ranks = ranks[np.lexsort((ranks, query))]
    starts, stops = (np.searchsorted(query, np.arange(queries), side) for side in ("left", "right"))
    total, matched = stops - starts, stops > starts
    found = np.arange(1, len(ranks) + 1) - starts[query]  # hits up to and with each rank
    precision = np.bincount(query, found / ranks, minlength=queries)
    first, last = np.zeros(queries, np.int64), np.zeros(queries, np.int64)
    first[matched], last[matched] = ranks[starts[matched]], ranks[stops[matched] - 1]
    with np.errstate(invalid="ignore"):  # no match: 0 / 0 is the NaN that we want
        return precision / total, total / last, first, total / left
