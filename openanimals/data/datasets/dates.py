"""Dates in file names, found by the regular expression of the key ``DATASETS.DATE_PATTERN``."""

import logging
import re
from datetime import datetime
from pathlib import PurePosixPath

import pandas as pd

from openanimals.data.catalogue import Catalogue
from openanimals.utils.errors import UserError

logger = logging.getLogger(__name__)

REQUIRED_GROUPS = ("year", "month", "day")
OPTIONAL_GROUPS = ("hour", "minute", "second")
EXAMPLE = r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)"


def dates_from_names(catalogue: Catalogue, pattern: str) -> None:
    r"""Give rows without a date the one that is in the name of their file.

    Names that do not match or hold no real date are counted in one warning.

    Args:
        catalogue: the images; of their paths, the last component is searched.
        pattern: a regular expression with the named groups year, month and day, and optionally
            hour, minute and second, for instance ``(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)``.
            A year of two digits counts from 1969 to 2068, as in ``strptime``. Empty: no dates.

    Raises:
        ValueError: the pattern is no regular expression or lacks a group.
    """
    if not pattern:
        return
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"DATASETS.DATE_PATTERN {pattern!r} is not a regular expression: {error}; "
            f"expected one like {EXAMPLE!r}"
        ) from error
    missing = [group for group in REQUIRED_GROUPS if group not in expression.groupindex]
    if missing:
        raise UserError(
            f"DATASETS.DATE_PATTERN {pattern!r} has no group {' and no group '.join(missing)}; "
            f"expected the named groups {', '.join(REQUIRED_GROUPS)} "
            f"(and optionally {', '.join(OPTIONAL_GROUPS)}), as in {EXAMPLE!r}"
        )
    paths, dates = catalogue.column("path"), catalogue.column("date")
    undated = [row for row, date in enumerate(dates) if date is None]
    for row in undated:
        dates[row] = _date(expression, PurePosixPath(paths[row]).name)
    catalogue.table["date"] = pd.Series(dates, dtype=object)
    still = [row for row in undated if dates[row] is None]
    if still:
        message = "%s: no date in %d of %d file names (DATASETS.DATE_PATTERN is %r), for instance %s"
        counts = len(still), len(undated)
        logger.warning(message, catalogue.name, *counts, pattern, paths[still[0]])


def _date(expression: re.Pattern[str], name: str) -> str | None:
    match = expression.search(name)
    if match is None:
        return None
    text = {group: value for group, value in match.groupdict().items() if value is not None}
    try:
        year, month, day = (int(text[group]) for group in REQUIRED_GROUPS)
        if len(text["year"]) == 2:
            year += 1900 if year >= 69 else 2000
        hour, minute, second = (int(text.get(group, "0")) for group in OPTIONAL_GROUPS)
        moment = datetime(year, month, day, hour, minute, second)
    except (KeyError, ValueError):  # a group that took no part, no number, or a 31 February
        return None
    return moment.isoformat() if "hour" in text else moment.date().isoformat()
