"""Which images were taken in one encounter.

Two photographs of an individual, seconds apart, share their light, their background and its pose.
To find one by the other says little about recognising the animal a year later. The functions here
turn what a catalogue knows of its images into labels for
:class:`openanimals.evaluation.protocols.Pairs`. An image that lacks what a rule looks at gets None,
which equals no other label: it is an encounter of its own.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pandas as pd

from openanimals.utils.errors import UserError

MICROSECONDS = 60_000_000  # of a minute


def days(dates: Sequence[str | None]) -> list[str | None]:
    """Return the calendar day of each date.

    Args:
        dates: ISO text, ``YYYY-MM-DD`` or ``YYYY-MM-DDTHH:MM:SS``, or None.

    Raises:
        ValueError: a text is no such date.
    """
    moments = [None if date is None else _moment(date) for date in dates]
    return [None if moment is None else moment.date().isoformat() for moment in moments]


def bursts(
    identities: Sequence[object], dates: Sequence[str | None], gap: float
) -> list[int | None]:
    """Chain the images of each individual over time, and number the chains.

    An image belongs to the chain of the one before it if not more than ``gap`` lies between them,
    so a long stay is one chain however long it lasts.

    Args:
        identities: the individual of each image. Give all images of the test set, query and
            gallery: any of them can be the link between two others.
        dates: the time of each, ISO text. None and dates without a time of day belong to no chain.
        gap: minutes.

    Raises:
        ValueError: a text is no date.
    """
    codes, _ = pd.factorize(np.array(identities, dtype=object))
    timed = [row for row, date in enumerate(dates) if has_time_of_day(date)]
    times = np.array([_moment(dates[row]) for row in timed], dtype="datetime64[us]")
    times, individuals = times.astype(np.int64), codes[timed]
    order = np.lexsort((times, individuals))
    apart = np.diff(times[order]) > round(gap * MICROSECONDS)
    begins = apart | (np.diff(individuals[order]) != 0)
    chains: list[int | None] = [None] * len(dates)
    for place, chain in zip(order, [0, *begins.cumsum().tolist()], strict=False):
        chains[timed[place]] = chain
    return chains


def has_time_of_day(date: str | None) -> bool:
    """Tell whether a date holds more than a day."""
    return date is not None and len(date) > len("YYYY-MM-DD")


def _moment(date: str | None) -> datetime:
    try:
        moment = datetime.fromisoformat(str(date))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo:
        raise UserError(
            f"{date!r} is no date; expected YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS, the local time"
        )
    return moment
