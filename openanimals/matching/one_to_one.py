"""Photographs compared one with one, without regard to the rest of a gallery.

A descriptor matches the nearest one of the other photograph, if the next one there is much further
away (Lowe, IJCV 2004; the one-against-one matching of Crall et al., "HotSpotter", WACV 2013).
"""

from typing import NamedTuple

import numpy as np
import torch

from openanimals.matching.geometry import check_matches
from openanimals.matching.keypoints import Keypoints
from openanimals.matching.lnbnn import KeypointTable, Matches, as_table

RATIO = 1.6  # HotSpotter's
REACH = 3.0  # radius of what a keypoint is described by, in its standard deviations
BLOCK = 2**23  # similarities at once, 32 MiB


class Spots(NamedTuple):
    """What matches in two photographs, the heaviest first.

    Attributes:
        query_xy: places `[M, 2]` in pixels of the first photograph, cut to its box.
        query_scale: their sizes `[M]`, standard deviations in pixels.
        gallery_xy: places `[M, 2]` in the second photograph.
        gallery_scale: their sizes `[M]`.
        weights: what each adds to the score `[M]`.
    """

    query_xy: np.ndarray
    query_scale: np.ndarray
    gallery_xy: np.ndarray
    gallery_scale: np.ndarray
    weights: np.ndarray

    def circles(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what the heaviest cover of each photograph: x, y and radius `[M, 3]` in pixels.

        For drawings, in which 0, 0 is the corner of the first pixel, and not its middle.
        """
        both = (self.query_xy, self.query_scale), (self.gallery_xy, self.gallery_scale)
        first, second = (
            np.column_stack([xy[:most] + 0.5, REACH * scale[:most]]).astype(np.float64)
            for xy, scale in both
        )
        return first, second


def matched_spots(first: Keypoints, second: Keypoints) -> Spots:
    """Return what matches in two photographs by themselves, and agrees on one map.

    Args:
        first: keypoints of a photograph.
        second: those of the other.
    """
    query, gallery = as_table([first]), as_table([second])
    matches = one_to_one(query, gallery, np.ones((1, 1), dtype=bool))
    return as_spots(check_matches(matches, query, gallery), query, gallery)


def one_to_one(
    query: KeypointTable, gallery: KeypointTable, candidates: np.ndarray, *, ratio: float = RATIO
) -> Matches:
    """Match the descriptors of queries with those of each of their candidates.

    Args:
        query: keypoints of Q photographs.
        gallery: keypoints of G photographs.
        candidates: bool `[Q, G]`: which photographs each query is compared with.
        ratio: how many times as far the second nearest descriptor must be.

    Returns:
        The matches, each weighing the ratio of its squared distances, times its keypoints' weights.
        A photograph with one keypoint matches nothing.
    """
    starts = np.searchsorted(gallery.photographs, np.arange(len(gallery.diagonals) + 1))
    counts, most = np.diff(starts), int(np.diff(starts).max(initial=0))
    none = np.zeros(0, dtype=np.int64)
    parts = [Matches(none, none, none, none, np.zeros(0))]
    for row in range(len(query.diagonals)):
        own = np.flatnonzero(query.photographs == row)
        others = np.flatnonzero(candidates[row] & (counts > 1))
        step = max(1, BLOCK // max(1, len(own) * most))
        for start in range(0, len(others) if len(own) else 0, step):
            some = others[start : start + step]
            squared, nearest = _two_nearest(query.descriptors[own], gallery, starts, some)
            quotient = squared[:, :, 1] / np.maximum(squared[:, :, 0], 1)
            which, keypoint = np.nonzero(quotient > ratio**2)
            parts.append(
                Matches(
                    np.full(len(which), row),
                    some[which],
                    own[keypoint],
                    nearest[which, keypoint],
                    quotient[which, keypoint],
                )
            )
    matches = Matches(*map(np.concatenate, zip(*parts, strict=True)))
    weights = query.weights[matches.query_keypoints] * gallery.weights[matches.gallery_keypoints]
    return matches._replace(weights=matches.weights * weights)


def as_spots(matches: Matches, query: KeypointTable, gallery: KeypointTable) -> Spots:
    """Return the places of matches, the heaviest first."""
    ours, theirs = matches.query_keypoints, matches.gallery_keypoints
    parts = query.xy[ours], query.scale[ours], gallery.xy[theirs], gallery.scale[theirs]
    order = np.argsort(-matches.weights, kind="stable")
    return Spots(*(part[order] for part in (*parts, matches.weights)))


def _two_nearest(
    descriptors: np.ndarray, gallery: KeypointTable, starts: np.ndarray, some: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return, for some photographs and N descriptors, what is nearest to these in each.

    Returns:
        Squared distances of the two nearest `[photographs, N, 2]`, and the rows of the nearest
        `[photographs, N]`.
    """
    most = int((starts[some + 1] - starts[some]).max())
    rows = starts[some][:, None] + np.arange(most)
    there = torch.from_numpy(rows < starts[some + 1][:, None])
    padded = np.minimum(rows, len(gallery.descriptors) - 1)
    ours = torch.from_numpy(descriptors).float()
    theirs = torch.from_numpy(gallery.descriptors[padded]).float()  # [photographs, most, C]
    # Whole numbers, so that these are exact, and the same whichever photographs come together.
    norms = theirs.square().sum(2).masked_fill(~there, torch.inf)
    squared = ours.square().sum(1)[:, None] + (norms[:, None] - 2 * (ours @ theirs.mT))
    two = squared.topk(2, dim=2, largest=False)
    nearest = rows[np.arange(len(some))[:, None], squared.argmin(2).numpy()]
    return two.values.double().numpy(), nearest
