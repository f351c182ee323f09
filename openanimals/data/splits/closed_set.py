"""Splits into two halves, as wildlife-datasets makes them: closed, by time, and the original one.

Both halves are mostly of the same individuals. So the rows of the first train the model and are the
gallery, the catalogue of known individuals, too; the rows of the second are the queries.

We have its rules and not its code: pure functions of identities and days, which give the same in
every version of numpy and pandas. Identities are text here; where wildlife-datasets has numbers,
which sort in another order, its closed split is another one.

Source: Adam et al., SeaTurtleID2022, arXiv 2211.10307.
"""

import logging
from collections.abc import Callable

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


def closed_split(catalogue: Catalogue) -> Split:
    """Draw four fifths of each individual's images as known ones (``ClosedSetSplit(0.8)``).

    An individual with several images has at least one in each half; one with a single image is
    known, and nobody asks for it.
    """
    draws = congruential_draws(PAPER_SEED)

    def known(rows: list[int]) -> list[int]:
        count = max(min(round(KNOWN * len(rows)), len(rows) - 1), 1)
        return shuffled(rows, draws)[:count]

    split = _halves(catalogue.identities, known)
    if not split.query:
        raise UserError(
            f"DATASETS.SPLIT is 'closed', but no individual of {catalogue.name} has two images: "
            "there is nobody to ask for"
        )
    return split


def time_split(catalogue: Catalogue) -> Split:
    """Take the earlier half of each individual's days as known (``TimeProportionSplit()``).

    An individual seen on one day only is known, and nobody asks for it. Images without a date are
    in no list; a warning counts them.
    """
    days = [date and date[:10] for date in catalogue.column("date")]

    def earlier(rows: list[int]) -> list[int]:
        own = sorted({days[row] for row in rows})
        first = own[: max(min(round(EARLIER * len(own)), len(own) - 1), 1)]
        return [row for row in rows if days[row] in first]

    split = _halves(_where(days, catalogue), earlier)
    if not split.query:
        raise UserError(
            f"DATASETS.SPLIT is 'time', but no individual of {catalogue.name} has images of two "
            f"days; {len(split.train)} of its {len(catalogue)} images have a date and a known "
            "identity (dates are the column date, or found in file names by DATASETS.DATE_PATTERN)"
        )
    _warn_of_rest(catalogue, split, "time", "without a date")
    return split


def original_split(catalogue: Catalogue) -> Split:
    """Divide by the train and test of the column ``split``; rows in neither are counted.

    Where no test individual is in train, the test rows are searched among themselves, with queries
    drawn as in the paper.
    """
    if not has_halves(catalogue):
        raise UserError(
            f"DATASETS.SPLIT is 'original', but {catalogue.name} has no train and test of its own"
        )
    halves = catalogue.column("split")
    identities = _where(halves, catalogue)
    split = _halves(identities, lambda rows: [row for row in rows if halves[row] == "train"])
    _warn_of_rest(catalogue, split, "original", "neither in train nor in test")
    asked = {identities[row] for row in split.query}
    if asked.isdisjoint(identities[row] for row in split.train):
        tested = [rows for name, rows in rows_by_identity(identities).items() if name in asked]
        return Split(split.train, *query_gallery(tested, np.random.RandomState(PAPER_SEED)))
    return split


def has_halves(catalogue: Catalogue) -> bool:
    """Tell whether the column ``split`` divides into train and test; rows may be in neither."""
    return set(catalogue.column("split")) - {None} == HALVES


def _where(values: list, catalogue: Catalogue) -> list[str]:
    """Return the identities, those of rows without a value as unknown."""
    pairs = zip(values, catalogue.identities, strict=True)
    return [identity if value else UNKNOWN for value, identity in pairs]


def _halves(identities: list[str], known: Callable[[list[int]], list[int]]) -> Split:
    """Divide the rows of each individual; those that are known train and are the gallery."""
    rows_of = rows_by_identity(identities)
    train = [row for name in sorted(rows_of) for row in sorted(known(rows_of[name]))]
    query = set().union(*rows_of.values()).difference(train)
    return Split(train, sorted(query), sorted(train))


def _warn_of_rest(catalogue: Catalogue, split: Split, how: str, why: str) -> None:
    known = len(catalogue) - catalogue.identities.count(UNKNOWN)
    rest = known - len(split.train) - len(split.query)
    if rest:
        message = "%s: DATASETS.SPLIT %s leaves out %d images that are %s"
        logger.warning(message, catalogue.name, how, rest, why)
