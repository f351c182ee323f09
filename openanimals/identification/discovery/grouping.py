"""Groups of what belongs together: correlation clustering with what must and must not be.

Each pair has a weight, above 0 if it speaks for one group and below if for two. Wanted are the
groups with the largest sum of weights within them (Bansal, Blum and Chawla, 2004); how many groups
there are follows. The two groups are joined that gain most, until none gain (Keuper et al.,
"Efficient decomposition of image and mesh graphs by lifted multicuts", 2015), then single ones are
moved where that gains most, by turns.
"""

import numpy as np

ROUNDS = 100  # of joining and moving; two or three do
LEAST = 1e-9  # that a change must gain


def group(
    weights: np.ndarray, together: np.ndarray | None = None, apart: np.ndarray | None = None
) -> np.ndarray:
    """Find the groups with the largest sum of weights of pairs within them, or nearly.

    Args:
        weights: `[N, N]`, symmetric and finite, 0 where nothing speaks for or against.
        together: `[N]`, equal numbers where two must be in one group; None: no two must.
        apart: bool `[N, N]`, symmetric, where two must not be; None: no two.

    Returns:
        `[N]`, numbers of groups from 0, in the order in which they are met.

    Raises:
        ValueError: two must and must not be in one group, or a weight is not finite.
    """
    count = len(weights)
    if not np.isfinite(weights).all():
        raise ValueError("a weight is not finite")
    nodes = np.arange(count) if together is None else np.unique(together, return_inverse=True)[1]
    between = _summed(np.asarray(weights, np.float64), nodes)
    size = len(between)
    forbidden = np.zeros((size, size), bool)
    if apart is not None:
        one, other = np.nonzero(apart)
        forbidden[nodes[one], nodes[other]] = True
        if forbidden.diagonal().any():
            raise ValueError("two must be in one group, and must not")
    np.fill_diagonal(between, 0)
    labels = np.arange(size)
    for _ in range(ROUNDS):
        before = labels
        labels = _move(between, forbidden, _join(between, forbidden, labels))
        if (labels == before).all():
            break
    first = np.unique(labels[nodes], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first[1]))[first[2]]


def _summed(weights: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the sums of weights between labels, numbered from 0 `[L, L]`."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(labels.max(initial=-1) + 1))
    ordered = weights[np.ix_(order, order)]
    return np.add.reduceat(np.add.reduceat(ordered, starts, axis=0), starts, axis=1)


def _join(weights: np.ndarray, forbidden: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Join the two groups that gain most, again and again."""
    labels = np.unique(labels, return_inverse=True)[1]
    gain = _summed(weights, labels)
    gain[_summed(forbidden.astype(np.float64), labels) > 0] = -np.inf
    np.fill_diagonal(gain, -np.inf)
    # The best partner of each is kept, so that joining looks at few lines.
    partner = gain.argmax(axis=1)
    best = gain[np.arange(len(gain)), partner]
    while (one := int(best.argmax())) >= 0 and best[one] > LEAST:
        other = int(partner[one])
        labels[labels == other] = one
        # Infinity stays, so what must not be joined with either is not with both.
        gain[one] += gain[other]
        gain[one, one] = -np.inf
        gain[:, one] = gain[one]
        gain[other] = gain[:, other] = -np.inf
        best[other] = -np.inf
        stale = np.flatnonzero((partner == one) | (partner == other) | (gain[:, one] > best))
        stale = np.union1d(stale, [one])
        stale = stale[stale != other]
        partner[stale] = gain[stale].argmax(axis=1)
        best[stale] = gain[stale, partner[stale]]
    return labels


def _move(weights: np.ndarray, forbidden: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Move the one that gains most to another group, or out of all, again and again."""
    labels = np.unique(labels, return_inverse=True)[1]
    count = len(labels)
    rows = np.arange(count)
    sizes = np.bincount(labels, minlength=count + 1)  # of groups, one of which is always empty
    sums, barred = np.zeros((count, count + 1)), np.zeros((count, count + 1))
    np.add.at(sums.T, labels, weights)
    np.add.at(barred.T, labels, forbidden)
    for _ in range(count * ROUNDS):
        columns = np.append(np.flatnonzero(sizes), sizes.argmin())
        gain = np.where(barred[:, columns] > 0, -np.inf, sums[:, columns])
        gain -= sums[rows, labels][:, None]
        row, place = np.unravel_index(gain.argmax(), gain.shape)
        if gain[row, place] <= LEAST:
            break
        for changed, sign in ((labels[row], -1), (columns[place], 1)):
            sizes[changed] += sign
            sums[:, changed] += sign * weights[:, row]
            barred[:, changed] += sign * forbidden[:, row]
        labels[row] = columns[place]
    return labels
