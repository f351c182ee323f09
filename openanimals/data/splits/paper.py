"""The paper's partition, and validation individuals drawn by its rules.

The partition is a pure function of the identities in row order. It is written with plain Python
sorting and counting, because tied counts come out of today's numpy and pandas in another order and
would silently give another split. From numpy it takes only ``RandomState``, whose streams are the
same in every version.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from openanimals.data.catalogue import UNKNOWN
from openanimals.data.splits.io import Split
from openanimals.utils.errors import UserError

T = TypeVar("T")

PAPER_SEED = 666
QUERIES = 2  # of each test identity
MIN_IMAGES = QUERIES + 1  # an identity with fewer is gallery only
MIN_IDENTITIES = 2  # to train on or to search among


def paper_partition(
    identities: Sequence[str], seed: int = PAPER_SEED
) -> tuple[list[int], list[int], list[int]]:
    """Divide a catalogue as the paper does: half the images test, no identity on both sides.

    Identities, ordered by number of images and then permuted, are taken for the test until they
    have half the images; the others train. Two random images of each test identity are queries,
    the rest is gallery. Identities with fewer than 3 images are gallery only, and rows whose
    identity is ``unknown`` are in no list.

    Args:
        identities: the identity of each row, in the order of the catalogue.
        seed: of the permutation and of the queries; the published lists have 666.

    Returns:
        Row positions of train (grouped by identity, in sorted order of identity), query and
        gallery (both ascending).

    Raises:
        ValueError: an identity is not text.

    Source: ARBase, arXiv 2410.00204, and the partition lists published with it.
    """
    rows_of = rows_by_identity(identities)
    # Most images first; equal numbers as the published partition has them.
    backwards = list(rows_of)[::-1]
    order = classic_argsort([len(rows_of[identity]) for identity in backwards])
    most_first = [backwards[k] for k in reversed(order)]
    missing = round(0.5 * sum(map(len, rows_of.values())))  # images that the test still lacks
    test: set[str] = set()
    for identity in shuffled(most_first, congruential_draws(seed)):
        test.add(identity)
        missing -= len(rows_of[identity])
        if missing <= 0:
            break
    train = [row for identity in sorted(rows_of.keys() - test) for row in rows_of[identity]]
    tested = [rows_of[identity] for identity in test]
    return train, *query_gallery(tested, np.random.RandomState(seed))


def rows_by_identity(identities: Sequence[str]) -> dict[str, list[int]]:
    """Return each known identity's rows, ascending; identities in order of first appearance."""
    rows_of: dict[str, list[int]] = {}
    for row, identity in enumerate(identities):
        if not isinstance(identity, str):
            raise UserError(f"the identity of row {row} is {identity!r}; expected text")
        if identity != UNKNOWN:
            rows_of.setdefault(identity, []).append(row)
    return rows_of


def classic_argsort(values: Sequence[int]) -> list[int]:
    """Return the positions that sort ``values``, equal values ordered as by numpy before 1.25.

    A quicksort with a median-of-three pivot that leaves ranges of up to 16 to an insertion sort.
    It is not stable: where equal values end up depends on each comparison and swap, so these are
    part of the partition. (Numpy's fall-back to heapsort on adversarial input is left out.)
    """
    order = list(range(len(values)))

    def swap(i: int, j: int) -> None:
        order[i], order[j] = order[j], order[i]

    pending = [(0, len(order) - 1)]  # ranges share no position, so any order of them will do
    while pending:
        low, high = pending.pop()
        if high - low <= 15:
            # An insertion sort is stable, as Python's sort is.
            order[low : high + 1] = sorted(order[low : high + 1], key=values.__getitem__)
            continue
        middle = low + (high - low) // 2
        for first, second in ((middle, low), (high, middle), (middle, low)):
            if values[order[first]] < values[order[second]]:
                swap(first, second)
        swap(middle, high - 1)
        pivot = values[order[high - 1]]
        i, j = low, high - 1
        while True:
            i += 1
            while values[order[i]] < pivot:
                i += 1
            j -= 1
            while pivot < values[order[j]]:
                j -= 1
            if i >= j:
                break
            swap(i, j)
        swap(i, high - 1)
        pending += [(low, i - 1), (i + 1, high)]
    return order


def congruential_draws(seed: int) -> Iterator[int]:
    """Yield the endless draws of the generator that the paper and wildlife-datasets use."""
    state = seed
    while True:
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        yield state


def shuffled(items: Sequence[T], draws: Iterator[int]) -> list[T]:
    """Return the items in the order of as many draws."""
    keys = [next(draws) for _ in items]  # no two are equal: the period is 2**31
    return [items[k] for k in sorted(range(len(items)), key=keys.__getitem__)]


def query_gallery(
    individuals: Sequence[list[int]], rng: np.random.RandomState
) -> tuple[list[int], list[int]]:
    """Draw two queries of each individual that has at least three images; the rest is gallery."""
    query: list[int] = []
    for rows in sorted(individuals):  # the paper draws at an individual's first row
        if len(rows) >= MIN_IMAGES:
            query += [rows[k] for k in rng.choice(len(rows), QUERIES, replace=False)]
    gallery = set().union(*individuals).difference(query)
    return sorted(query), sorted(gallery)


def hold_out(identities: Sequence[str], fraction: float, seed: int) -> Split:
    """Take identities out of the training images, to validate on others than are trained.

    They are drawn at random, the first two from those with at least three images, so that there
    are queries and wrong answers. Queries are drawn as in :func:`paper_partition`.

    Args:
        identities: the identity of each training image.
        fraction: part of the identities to hold out, above 0 and below 1.
        seed: of the draws, 0 to 2**32 - 1.

    Returns:
        The rows that stay in training, and the queries and gallery held out, all ascending.

    Raises:
        ValueError: fewer than two identities would stay in training or be searchable.
    """
    rows_of = rows_by_identity(identities)
    rng = np.random.RandomState(seed)
    names = sorted(rows_of)
    drawn = [names[k] for k in rng.permutation(len(names))]
    searchable = [name for name in drawn if len(rows_of[name]) >= MIN_IMAGES]
    count = max(MIN_IDENTITIES, round(fraction * len(names)))
    if len(searchable) < MIN_IDENTITIES or len(names) - count < MIN_IDENTITIES:
        raise UserError(
            f"DATASETS.VAL_FRACTION is {fraction}: it needs {MIN_IDENTITIES} identities with "
            f"{MIN_IMAGES} or more images to hold out and leaves {MIN_IDENTITIES} to train on; "
            f"the training set has {len(names)} identities, {len(searchable)} of them with "
            f"{MIN_IMAGES} or more images"
        )
    first = searchable[:MIN_IDENTITIES]
    held = (first + [name for name in drawn if name not in first])[:count]
    query, gallery = query_gallery([rows_of[name] for name in held], rng)
    outside = {*query, *gallery}
    return Split([row for row in range(len(identities)) if row not in outside], query, gallery)
