"""Splits into two halves, as wildlife-datasets makes them: closed, by time, and the original one.

Its splits give rows that train and rows that test, mostly of the same individuals. So the rows of
the first half train the model and are the gallery, the catalogue of known individuals, too; the
rows of the second half are the queries.

We have its rules and not its code: they are pure functions of identities and days, hold for sources
that do without it, and give the same in every version of numpy and pandas. A test compares them
with wildlife-datasets itself. Identities are text here; where that has numbers, which sort in
another order, its closed split is another one.

Source: Adam et al., SeaTurtleID2022, arXiv 2211.10307.
"""

import logging

import numpy as np

from openanimals.data.catalogue import UNKNOWN, Catalogue
from openanimals.data.splits.io import Split
from openanimals.data.splits.paper import (
    PAPER_SEED,
    congruential_draws,
    query_gallery,
    rows_by_identity,
    shuffled,
)
from openanimals.utils.errors import UserError

logger = logging.getLogger(__name__)

KNOWN = 0.8  # of the images of an individual, in the closed split
EARLIER = 0.5  # of the days of an individual, in the split by time
HALVES = {"train", "test"}


def closed_split(catalogue: Catalogue, seed: int = PAPER_SEED) -> Split:
    """Draw four fifths of each individual's images as known ones (``ClosedSetSplit(0.8)``).

    An individual with several images has at least one in each half; one with a single image is
    known, and nobody asks for it.

    Raises:
        ValueError: no individual has two images.
    """
    draws = congruential_draws(seed)
    train: list[int] = []
    query: list[int] = []
    for _, rows in sorted(rows_by_identity(catalogue.identities).items()):
        count = min(max(round(KNOWN * len(rows)), 1), max(len(rows) - 1, 1))
        drawn = shuffled(rows, draws)
        train += sorted(drawn[:count])
        query += drawn[count:]
    if not query:
        raise UserError(
            f"DATASETS.SPLIT is 'closed', but no individual of {catalogue.name} has two images: "
            "there is nobody to ask for"
        )
    return _known(train, query)


def time_split(catalogue: Catalogue) -> Split:
    """Take the earlier half of each individual's days as known (``TimeProportionSplit()``).

    An individual seen on one day only is known, and nobody asks for it. Images without a date are
    in no list; a warning counts them.

    Raises:
        ValueError: no individual has images of two days; says how many images have a date.
    """
    days = [date and date[:10] for date in catalogue.column("date")]
    train: list[int] = []
    query: list[int] = []
    for _, rows in sorted(rows_by_identity(catalogue.identities).items()):
        own = sorted({days[row] for row in rows if days[row]})
        earlier = own[: max(min(round(EARLIER * len(own)), len(own) - 1), 1)]
        for row in rows:
            if days[row]:
                (train if days[row] in earlier else query).append(row)
    dated = len(train) + len(query)
    if not query:
        raise UserError(
            f"DATASETS.SPLIT is 'time', but no individual of {catalogue.name} has images of two "
            f"days; {dated} of its {len(catalogue)} images have a date and a known identity "
            "(dates are the column date, or found in file names by DATASETS.DATE_PATTERN)"
        )
    _warn_of_rest(catalogue, "time", dated, "without a date")
    return _known(train, query)


def original_split(catalogue: Catalogue) -> Split:
    """Divide by the train and test of the column ``split``; rows in neither are counted.

    Where no test individual is in train, the test rows are searched among themselves, with queries
    drawn as in the paper.

    Raises:
        ValueError: the column does not have them.
    """
    if not has_halves(catalogue):
        raise UserError(
            f"DATASETS.SPLIT is 'original', but {catalogue.name} has no train and test of its own"
        )
    learnt, asked = _rows_of_half(catalogue, "train"), _rows_of_half(catalogue, "test")
    train = [row for identity in sorted(learnt) for row in learnt[identity]]
    test = [row for rows in asked.values() for row in rows]
    _warn_of_rest(catalogue, "original", len(train) + len(test), "neither in train nor in test")
    if learnt.keys().isdisjoint(asked):
        return Split(train, *query_gallery(asked, np.random.RandomState(PAPER_SEED)))
    return _known(train, test)


def has_halves(catalogue: Catalogue) -> bool:
    """Tell whether the column ``split`` divides into train and test; rows may be in neither."""
    values = set(catalogue.column("split"))
    return values >= HALVES and values <= {*HALVES, None}


def _rows_of_half(catalogue: Catalogue, half: str) -> dict[str, list[int]]:
    """Return each known individual's rows of a half."""
    pairs = zip(catalogue.identities, catalogue.column("split"), strict=True)
    return rows_by_identity([identity if own == half else UNKNOWN for identity, own in pairs])


def _known(train: list[int], query: list[int]) -> Split:
    """Return the split whose training rows are the gallery."""
    return Split(train, sorted(query), sorted(train))


def _warn_of_rest(catalogue: Catalogue, how: str, used: int, why: str) -> None:
    rest = len(catalogue) - catalogue.identities.count(UNKNOWN) - used
    if rest:
        logger.warning(
            "%s: DATASETS.SPLIT %s leaves out %d images that are %s",
            catalogue.name,
            how,
            rest,
            why,
        )
