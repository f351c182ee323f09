"""Verification: how well one threshold on the distance tells an individual's pairs from others."""

from collections.abc import Sequence

import numpy as np

from openanimals.utils.errors import UserError

FALSE_SHARES = (1e-4, 1e-3, 1e-2, 1e-1)

Pairs = tuple[np.ndarray, np.ndarray]  # distances of pairs of one, and of different individuals


def pairs(distances: np.ndarray, matches: np.ndarray, removed: np.ndarray | None = None) -> Pairs:
    """Return the distances of the pairs that are not removed, four bytes each.

    Args:
        distances: `[Q, G]`.
        matches: `[Q, G]`, True where both images show the same individual.
        removed: `[Q, G]`, True for pairs to leave out, or None.
    """
    kept = True if removed is None else ~removed
    return distances[matches & kept], distances[~matches & kept]


def verification(found: Sequence[Pairs]) -> dict[str, float]:
    """Return, in percent, the area under the curve and its height at :data:`FALSE_SHARES`.

    Raises:
        UserError: there are no pairs of one individual, or none of different ones.
    """
    matched, unmatched = map(np.concatenate, zip(*found, strict=True))
    if not len(matched) or not len(unmatched):
        raise UserError(
            f"a ROC curve (TEST.ROC) needs pairs of the same and of different individuals, but "
            f"there are {len(matched)} and {len(unmatched)}"
        )
    matched.sort()
    unmatched.sort()
    heights = {
        f"TPR@FPR={share:.0e}": 100 * true_share(matched, unmatched, share)
        for share in FALSE_SHARES
    }
    return {"AUC": 100 * area_under_curve(matched, unmatched), **heights}


def area_under_curve(matched: np.ndarray, unmatched: np.ndarray) -> float:
    """Return how often a matched pair is nearer than an unmatched one; a tie counts half.

    Both are distances, ascending.
    """
    below, upto = (np.searchsorted(unmatched, matched, side) for side in ("left", "right"))
    return float(1 - (below + upto).mean() / (2 * len(unmatched)))


def true_share(matched: np.ndarray, unmatched: np.ndarray, false_share: float) -> float:
    """Return the share of matched pairs that the best allowed threshold accepts.

    Args:
        matched: distances, ascending.
        unmatched: distances, ascending.
        false_share: the share of unmatched pairs that the threshold may accept at most, below 1.
    """
    # The first unmatched pair that must not be accepted. The tiny term: 0.07 * 100 is below 7.
    barred = unmatched[int(false_share * len(unmatched) + 1e-9)]
    return float(np.searchsorted(matched, barred, "left") / len(matched))
