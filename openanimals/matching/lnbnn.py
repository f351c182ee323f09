"""Local naive Bayes nearest neighbours: every descriptor of a query votes for what it resembles.

A descriptor's K nearest neighbours in the whole gallery get the distance by which they are nearer
than a normaliser, a neighbour further down that stands for the rest of the world. What many
animals share, and backgrounds, have normalisers just as near, and weigh nothing (McCann and Lowe,
CVPR 2012; Crall et al., "HotSpotter", WACV 2013).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from openanimals.matching.keypoints import NORM, Keypoints
from openanimals.matching.nearest import Neighbours
from openanimals.utils.errors import UserError
from openanimals.utils.registry import check_name

RULES = ("last", "name")
VOTES = ("nsum", "csum")


class KeypointTable(NamedTuple):
    """The keypoints of many photographs, one below the other.

    Attributes:
        photographs: the photograph of each keypoint `[N]`, ascending.
        xy: places `[N, 2]`, float32, in pixels.
        scale: `[N]`, float32, in pixels.
        weights: of their matches `[N]`, float32.
        descriptors: uint8 `[N, 128]`.
        diagonals: of each photograph `[P]`, float64, in pixels.
    """

    photographs: np.ndarray
    xy: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    descriptors: np.ndarray
    diagonals: np.ndarray

    def select(self, rows: np.ndarray) -> "KeypointTable":
        """Return the keypoints of some photographs, numbered from 0 in the order of the rows."""
        starts = np.searchsorted(self.photographs, np.arange(len(self.diagonals) + 1))
        spans = [np.arange(starts[row], starts[row + 1]) for row in rows]
        some = np.concatenate([np.empty(0, int), *spans])
        return KeypointTable(
            np.repeat(np.arange(len(rows)), [len(span) for span in spans]),
            self.xy[some],
            self.scale[some],
            self.weights[some],
            self.descriptors[some],
            self.diagonals[rows],
        )


class Matches(NamedTuple):
    """Pairs of a query's and a gallery's keypoint, sorted by photographs, then by keypoints.

    Attributes:
        query: the query photograph of each match `[M]`.
        gallery: the gallery photograph `[M]`.
        query_keypoints: row in the queries' KeypointTable `[M]`.
        gallery_keypoints: row in the gallery's `[M]`.
        weights: float64 `[M]`, above 0.
    """

    query: np.ndarray
    gallery: np.ndarray
    query_keypoints: np.ndarray
    gallery_keypoints: np.ndarray
    weights: np.ndarray

    def select(self, which: np.ndarray) -> "Matches":
        """Return some of the matches: those of a mask `[M]`, or rows in an order of their own."""
        return Matches(*(part[which] for part in self))


def as_table(keypoints: Sequence[Keypoints]) -> KeypointTable:
    """Put the keypoints of photographs below one another."""
    counts = [len(own.xy) for own in keypoints]
    return KeypointTable(
        np.repeat(np.arange(len(counts)), counts),
        np.concatenate([np.zeros((0, 2), np.float32), *(own.xy for own in keypoints)]),
        np.concatenate([np.zeros(0, np.float32), *(own.scale for own in keypoints)]),
        np.concatenate([np.zeros(0, np.float32), *(own.weight for own in keypoints)]),
        np.concatenate([np.zeros((0, 128), np.uint8), *(own.descriptors for own in keypoints)]),
        np.array([np.hypot(*own.size) for own in keypoints], dtype=np.float64),
    )


def lnbnn(
    query: KeypointTable,
    gallery: KeypointTable,
    candidates: np.ndarray,
    individuals: np.ndarray,
    *,
    k: int = 4,
    normalisers: int = 1,
    rule: str = "last",
    index: Neighbours | None = None,
) -> Matches:
    """Match the descriptors of queries with those of their candidates.

    Args:
        query: keypoints of Q photographs.
        gallery: keypoints of G photographs.
        candidates: bool `[Q, G]`: which photographs each query may see. All others are not there
            for it, neither as matches nor as normalisers.
        individuals: a number for each photograph of the gallery `[G]`.
        k: how many neighbours a descriptor votes for.
        normalisers: how many neighbours beyond these the normaliser is chosen from.
        rule: which of them: ``"last"``, or by ``"name"`` the first of an individual that is not
            among the k, and the last where there is none.
        index: of the gallery's descriptors; None: an exact one, made here.

    Returns:
        The matches that weigh more than 0. A descriptor with k neighbours or fewer, that is without
        a normaliser, matches nothing.

    Raises:
        UserError: a number or a rule is none that is allowed.
    """
    if k < 1 or normalisers < 1:
        raise UserError(
            f"LNBNN looks at k = {k} neighbours and {normalisers} beyond them; expected at least 1"
        )
    check_name("the rule of the normaliser", rule, RULES)
    index = index or Neighbours(gallery.descriptors, gallery.photographs)
    squared, rows = index.search(query.descriptors, query.photographs, candidates, k + normalisers)
    distances = np.sqrt(squared) / NORM
    there = np.isfinite(distances)
    last = there.sum(1) - 1
    column = np.maximum(last, 0)
    if rule == "name":
        owners = np.append(individuals[gallery.photographs], -1)  # the last row stands for none
        own = owners[rows]
        column = k + normaliser_columns(own[:, :k], own[:, k:])
        column = np.minimum(column, np.maximum(last, 0))
    normaliser = np.take_along_axis(distances, column[:, None], axis=1)
    normaliser[last < k] = 0.0
    with np.errstate(invalid="ignore"):
        weights = normaliser - distances[:, :k]
    keypoint, neighbour = np.nonzero(weights > 0)  # infinitely far ones weigh -inf
    found = rows[keypoint, neighbour]
    matches = Matches(
        query.photographs[keypoint],
        gallery.photographs[found],
        keypoint,
        found,
        weights[keypoint, neighbour] * query.weights[keypoint] * gallery.weights[found],
    )
    order = np.lexsort((found, keypoint, matches.gallery, matches.query))
    return matches.select(order)


def normaliser_columns(nearest: np.ndarray, further: np.ndarray) -> np.ndarray:
    """Choose each descriptor's normaliser by name.

    Args:
        nearest: individuals of its neighbours that get a score `[N, K]`; -1 where there is none.
        further: individuals of the neighbours that may be the normaliser `[N, Knorm]`.

    Returns:
        Columns of ``further`` `[N]`: the first of an individual that is not among the nearest,
        else the last.
    """
    other = (further[:, :, None] != nearest[:, None, :]).all(2) & (further >= 0)
    return np.where(other.any(1), other.argmax(1), further.shape[1] - 1)


def photograph_scores(matches: Matches, queries: int, gallery: int) -> np.ndarray:
    """Return the sum of the weights of each pair of photographs, float64 `[Q, G]`."""
    pairs = matches.query * gallery + matches.gallery
    return np.bincount(pairs, matches.weights, queries * gallery).reshape(queries, gallery)


def individual_scores(
    matches: Matches, queries: int, individuals: np.ndarray, vote: str = "nsum"
) -> np.ndarray:
    """Return the score of each individual for each query, float64 `[Q, I]`.

    Args:
        matches: see :func:`lnbnn`.
        queries: how many there are, Q.
        individuals: a number 0..I-1 for each gallery photograph `[G]`.
        vote: ``"csum"``: an individual's best photograph counts. ``"nsum"``: all of its
            photographs together, but a query's descriptor votes for it only once, with its best
            match.

    Raises:
        UserError: the vote is neither.
    """
    check_name("the vote", vote, VOTES)
    count = int(individuals.max(initial=-1)) + 1
    scores = np.zeros((queries, count))
    if vote == "csum":
        best = photograph_scores(matches, queries, len(individuals))
        np.maximum.at(scores.T, individuals, best.T)
        return scores
    voted = matches.query_keypoints * count + individuals[matches.gallery]
    order = np.lexsort((-matches.weights, voted))
    first = order[np.diff(voted[order], prepend=-1) != 0]
    np.add.at(
        scores, (matches.query[first], individuals[matches.gallery[first]]), matches.weights[first]
    )
    return scores
