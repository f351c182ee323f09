"""Which matches of two photographs agree on one map of the one onto the other.

Every match of two upright keypoints is a hypothesis of its own: a shift and a ratio of sizes. The
one with the heaviest inliers wins, without drawing lots, and a homography of its inliers, weighted
as they are, tells the final ones. (Crall et al., "HotSpotter", WACV 2013.)
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from openanimals.matching.lnbnn import KeypointTable, Matches, photograph_scores

MOST = 2**20  # comparisons of two matches at once, 8 MiB an array
OPEN = 1e-10  # of the largest eigenvalue: a second map fits as well
SCALE = 2.0  # factor by which sizes of keypoints may differ, once mapped
LEAST = 4  # matches that may agree by more than chance


class Pairs(NamedTuple):
    """Matches of P pairs of photographs, padded to the most of them, M.

    Attributes:
        query_xy: places `[P, M, 2]`, float64, in pixels.
        query_scale: `[P, M]`, float64, in pixels.
        gallery_xy: places `[P, M, 2]`, float64.
        gallery_scale: `[P, M]`, float64.
        weights: `[P, M]`, float64; 0 where there is no match.
        diagonals: of the gallery photographs `[P]`, in pixels.
    """

    query_xy: np.ndarray
    query_scale: np.ndarray
    gallery_xy: np.ndarray
    gallery_scale: np.ndarray
    weights: np.ndarray
    diagonals: np.ndarray

    def select(self, which: np.ndarray) -> "Pairs":
        """Return some of the pairs."""
        return Pairs(*(part[which] for part in self))


def shortlisted(matches: Matches, queries: int, gallery: int, length: int) -> Matches:
    """Keep the matches of each query's best photographs, by the sum of their weights."""
    scores = photograph_scores(matches, queries, gallery)
    if length < gallery:
        # Equal scores are kept together, or it would depend on the order of photographs.
        least = np.partition(scores, gallery - length, axis=1)[:, gallery - length]
    else:
        least = np.zeros(queries)
    return matches.select(scores[matches.query, matches.gallery] >= least[matches.query])


def check_matches(
    matches: Matches,
    query: KeypointTable,
    gallery: KeypointTable,
    *,
    place: float = 0.1,
    homography: int = 7,
) -> Matches:
    """Keep the matches that agree with the best hypothesis of their pair of photographs.

    Args:
        matches: sorted by photographs, see :func:`openanimals.matching.lnbnn.lnbnn`.
        query: the keypoints of the queries.
        gallery: those of the gallery.
        place: how far a query's keypoint may be mapped from its match, as a part of the diagonal of
            the gallery photograph.
        homography: inliers from which on a homography is fitted to them; 0: never.

    Returns:
        The inliers; none of pairs with fewer than 4.
    """
    keep = np.zeros(len(matches.weights), dtype=bool)
    for slots, pairs in _padded(matches, query, gallery):
        inliers = _best_hypotheses(pairs, place)
        if homography:
            which = np.flatnonzero(inliers.sum(1) >= max(homography, LEAST))
            inliers[which] = _homography(pairs.select(which), inliers[which], place)
        inliers[inliers.sum(1) < LEAST] = False
        keep[slots[inliers]] = True
    return matches.select(keep)


def _padded(
    matches: Matches, query: KeypointTable, gallery: KeypointTable
) -> Iterator[tuple[np.ndarray, Pairs]]:
    """Yield rows of matches `[P, M]` and what is there, for pairs of about as many matches."""
    code = matches.query * len(gallery.diagonals) + matches.gallery
    starts = np.flatnonzero(np.diff(code, prepend=-1))
    counts = np.diff(starts, append=len(code))
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] >= LEAST]
    while len(order):
        sizes = counts[order]
        fits = np.arange(1, len(order) + 1) * sizes**2 <= MOST
        some = order[: max(1, int(fits.sum()))]  # fits is true up to a place, and then false
        order = order[len(some) :]
        column = np.arange(counts[some[-1]])
        there = column < counts[some][:, None]
        slots = starts[some][:, None] + np.where(there, column, 0)
        ours, theirs = matches.query_keypoints[slots], matches.gallery_keypoints[slots]
        yield (
            slots,
            Pairs(
                query.xy[ours].astype(np.float64),
                query.scale[ours].astype(np.float64),
                gallery.xy[theirs].astype(np.float64),
                gallery.scale[theirs].astype(np.float64),
                np.where(there, matches.weights[slots], 0.0),
                gallery.diagonals[matches.gallery[slots[:, 0]]],
            ),
        )


def _best_hypotheses(pairs: Pairs, place: float) -> np.ndarray:
    """Return the inliers of each pair's heaviest hypothesis, bool `[P, M]`."""
    ratio = pairs.gallery_scale / pairs.query_scale
    size = np.log(ratio)
    agree = np.abs(size[:, :, None] - size[:, None, :]) <= np.log(SCALE)  # [P, hypothesis, match]
    error = np.zeros(agree.shape)
    for axis in (0, 1):
        x, y = pairs.query_xy[:, :, axis], pairs.gallery_xy[:, :, axis]
        shift = y - ratio * x
        error += (ratio[:, :, None] * x[:, None, :] + (shift[:, :, None] - y[:, None, :])) ** 2
    agree &= error <= (place * pairs.diagonals[:, None, None]) ** 2
    agree &= (pairs.weights > 0)[:, None, :]
    total = (agree @ pairs.weights[:, :, None])[:, :, 0]
    total[pairs.weights <= 0] = -1.0
    best = total.argmax(1)
    return np.take_along_axis(agree, best[:, None, None], axis=1)[:, 0]


def _homography(pairs: Pairs, inliers: np.ndarray, place: float) -> np.ndarray:
    """Fit a homography to each pair's inliers and return all matches that agree with it."""
    weights = np.where(inliers, pairs.weights, 0.0)
    weights /= weights.sum(1, keepdims=True)
    x, query_unit = _normalised(pairs.query_xy, weights)
    y, gallery_unit = _normalised(pairs.gallery_xy, weights)
    ones = np.ones((*x.shape[:2], 1))
    points = np.concatenate([x, ones], axis=2)  # [P, M, 3]
    nothing = np.zeros_like(points)
    normal = np.zeros((len(x), 9, 9))
    for axis, parts in enumerate(([points, nothing], [nothing, points])):
        row = np.concatenate([*parts, -y[:, :, axis, None] * points], axis=2)  # [P, M, 9]
        normal += np.swapaxes(row * weights[:, :, None], 1, 2) @ row
    values, vectors = np.linalg.eigh(normal)
    matrix = vectors[:, :, 0].reshape(-1, 3, 3)
    mapped = points @ np.swapaxes(matrix, 1, 2)
    depth = mapped[:, :, 2]
    # Points on both sides of the horizon cannot be seen together: the sign of most weight holds.
    depth = depth * np.sign((depth * weights).sum(1, keepdims=True))
    mapped = mapped * np.sign((mapped[:, :, 2] * weights).sum(1))[:, None, None]
    ahead = depth > 1e-6
    depth = np.where(ahead, depth, 1.0)
    error = ((mapped[:, :, :2] / depth[:, :, None] - y) ** 2).sum(2) * gallery_unit[:, None] ** 2
    # A homography enlarges areas at a place by det / depth^3.
    area = np.abs(np.linalg.det(matrix))[:, None] / depth**3
    size = np.log(np.maximum(area, 1e-300)) / 2 + np.log(gallery_unit / query_unit)[:, None]
    size -= np.log(pairs.gallery_scale / pairs.query_scale)
    good = ahead & (error <= (place * pairs.diagonals[:, None]) ** 2)
    good &= (np.abs(size) <= np.log(SCALE)) & (pairs.weights > 0)
    # Points on one line, or in one place, leave the map open; their hypothesis holds.
    return np.where((values[:, 1] > OPEN * values[:, -1])[:, None], good, inliers)


def _normalised(xy: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shift and scale places `[P, M, 2]` to a weighted mean of 0 and a spread of 1."""
    centred = xy - (weights[:, :, None] * xy).sum(1, keepdims=True)
    spread = np.sqrt((weights * (centred**2).sum(2)).sum(1) / 2)
    unit = np.maximum(spread, 1e-3)
    return centred / unit[:, None, None], unit
