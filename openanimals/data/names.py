"""What names tell: of individuals, those of nobody and those nearly the same; of files, dates."""

import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import PurePosixPath

import pandas as pd

from openanimals.data.catalogue import UNKNOWN, Catalogue
from openanimals.utils.errors import UserError

logger = logging.getLogger(__name__)

NOBODY = re.compile(
    r"""[\s?¿*_–—-]*                             # nothing, or signs alone: ? - ____
    |(unknown|unidentified)s?([\W\d_].*)?        # Unknown_2, unidentified calf
    |(unk|unid|undetermined|unassigned|unnamed|unlabell?ed|unidentifiable|unsorted|nobody|no.?name
      |not.?(identified|known|named|assigned)|no.?id|unbekannt|inconnue?|desconocid[oa])[\W\d_]*
    |nan|null|none|<?na>?|n[/.]a\.?|blank|empty|tbd|(-1|-9{2,})(\.0)?
    """,
    re.VERBOSE | re.DOTALL,
)

DAY_GROUPS = ("year", "month", "day")
TIME_GROUPS = ("hour", "minute", "second")
DATE_EXAMPLE = r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)"


def is_nobody(name: str) -> bool:
    """Tell whether a name says that nobody knows who it is: ``Unknown_2``, ``NaN``, ``?``."""
    return bool(NOBODY.fullmatch(unicodedata.normalize("NFKC", name).casefold().strip()))


def leave_out_nobody(catalogue: Catalogue) -> None:
    """Call images of nobody ``unknown``, so that no split has them; one warning counts them."""
    identities = catalogue.identities
    names = sorted({name for name in identities if name != UNKNOWN and is_nobody(name)})
    if names:
        known = [UNKNOWN if name in names else name for name in identities]
        catalogue.table["identity"] = pd.Series(known, dtype=object)
        logger.warning(
            "%s: %d images are left out, as their name says that nobody knows the individual: %s; "
            "if it is one, set DATASETS.KEEP_UNKNOWN True",
            catalogue.name,
            known.count(UNKNOWN) - identities.count(UNKNOWN),
            ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else ""),
        )


def near_equal(names: Iterable[str]) -> list[str]:
    """Return groups of names that differ in case, spaces, signs, accents' form or a ``.0`` only."""
    groups = defaultdict(list)
    for name in sorted(set(names)):
        text = unicodedata.normalize("NFKC", name).casefold()
        text = re.sub(r"^0+(?=\d)|\.0*$", "", text.strip())
        groups["".join(filter(str.isprintable, re.sub(r"[\s_-]+", "", text)))].append(name)
    # Two forms of one accent look the same, so these are spelt out.
    return [
        " = ".join(map(repr if all(map(str.isascii, group)) else ascii, group))
        for group in groups.values()
        if len(group) > 1
    ]


def dates_from_names(catalogue: Catalogue, pattern: str) -> None:
    r"""Give rows without a date the one that is in the name of their file.

    Names that do not match or hold no real date are counted in one warning.

    Args:
        catalogue: changed in place.
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
            f"expected one like {DATE_EXAMPLE!r}"
        ) from error
    missing = [group for group in DAY_GROUPS if group not in expression.groupindex]
    if missing:
        raise UserError(
            f"DATASETS.DATE_PATTERN {pattern!r} has no group {' and no group '.join(missing)}; "
            f"expected the named groups {', '.join(DAY_GROUPS)} "
            f"(and optionally {', '.join(TIME_GROUPS)}), as in {DATE_EXAMPLE!r}"
        )
    paths, dates = catalogue.column("path"), catalogue.column("date")
    undated = [row for row, date in enumerate(dates) if date is None]
    for row in undated:
        dates[row] = _date(expression, PurePosixPath(paths[row]).name)
    catalogue.table["date"] = pd.Series(dates, dtype=object)
    still = [row for row in undated if dates[row] is None]
    if still:
        logger.warning(
            "%s: no date in %d of %d file names (DATASETS.DATE_PATTERN is %r), for instance %s",
            *(catalogue.name, len(still), len(undated), pattern, paths[still[0]]),
        )


def _date(expression: re.Pattern[str], name: str) -> str | None:
    match = expression.search(name)
    if match is None:
        return None
    text = {group: value for group, value in match.groupdict().items() if value is not None}
    try:
        year, month, day = (int(text[group]) for group in DAY_GROUPS)
        if len(text["year"]) == 2:
            year += 1900 if year >= 69 else 2000
        hour, minute, second = (int(text.get(group, "0")) for group in TIME_GROUPS)
        moment = datetime(year, month, day, hour, minute, second)
    except (KeyError, ValueError):  # a group that took no part, no number, or a 31 February
        return None
    return moment.isoformat() if "hour" in text else moment.date().isoformat()
