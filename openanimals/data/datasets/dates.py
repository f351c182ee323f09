"""Dates in file names, found by the regular expression of the key ``DATASETS.DATE_PATTERN``."""

import logging
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePosixPath

from openanimals.utils.errors import UserError

logger = logging.getLogger(__name__)

REQUIRED_GROUPS = ("year", "month", "day")
OPTIONAL_GROUPS = ("hour", "minute", "second")
EXAMPLE = r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)"


def dates_from_names(source: str, paths: Sequence[str], pattern: str) -> list[str | None]:
    r"""Search the file name of each path for a date.

    Args:
        source: the catalogue's name, for messages.
        paths: POSIX paths; only the last component is searched.
        pattern: a regular expression with the named groups year, month and day, and optionally
            hour, minute and second, for instance ``(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)``.
            A year of two digits counts from 1969 to 2068, as in ``strptime``. Empty: no dates.

    Returns:
        ISO text for each path (``2025-04-01``, with an hour ``2025-04-01T09:32:14``), or None
        where the name does not match or holds no real date. Those are counted in one warning.

    Raises:
        ValueError: the pattern is no regular expression or lacks a group.
    """
    if not pattern:
        return [None] * len(paths)
    expression = _compile(pattern)
    dates = [_date(expression, PurePosixPath(path).name) for path in paths]
    undated = [path for path, date in zip(paths, dates, strict=True) if date is None]
    if undated:
        logger.warning(
            "%s: no date in %d of %d file names (DATASETS.DATE_PATTERN is %r), for instance %s",
            source,
            len(undated),
            len(paths),
            pattern,
            undated[0],
        )
    return dates


def _compile(pattern: str) -> re.Pattern[str]:
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
    return expression


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
