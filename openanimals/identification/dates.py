"""When photographs were taken: dates as people write them, and clocks of cameras that were wrong.

Of dates such as 3/4/2025 a whole column must prove whether the day or the month comes first.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pandas as pd

from openanimals.data.catalogue import iso_date
from openanimals.identification.table_file import refuse
from openanimals.utils.errors import UserError
from openanimals.utils.registry import did_you_mean

NUMBERS = re.compile(r"(\d\d?)([-/.])(\d\d?)\2(\d{4}|\d\d)(?:[T ,_]+(.+))?", re.ASCII)
CLOCKS = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%H:%M:%S.%f", "%H.%M")
ZONED = re.compile(r".*\d:\d\d.*(?:Z|[+-]\d\d:?\d\d)", re.ASCII)
MONTHS = ("%d %b %Y", "%d %B %Y", "%b %d %Y", "%B %d %Y")  # 3 Apr 2025, April 3 2025


def read_dates(
    file: object,
    texts: Sequence[str],
    places: Sequence[tuple[int, str]],
    day_first: bool | None,
    report: list[str],
    zone: tzinfo | None = None,
) -> list[str | None]:
    """Return dates in a catalogue's form, ``YYYY-MM-DD`` or ``YYYY-MM-DDTHH:MM:SS``.

    Args:
        file: that they are of, as errors name it.
        texts: dates, empty where there is none.
        places: the line and the column of each.
        day_first: whether of 3/4/2025 the day comes first; None if a day above 12 proves it.
        report: what was guessed is added to it.
        zone: see :func:`iso_date`.

    Raises:
        UserError: nothing proves the order, or a text is no date.
    """
    parted = [NUMBERS.fullmatch(text) for text in texts]
    pairs = [(int(match[1]), int(match[3])) if match else None for match in parted]
    if day_first is None:
        day_first = _order(file, texts, [line for line, _ in places], pairs, report)
    short = [
        text for text, match in zip(texts, parted, strict=True) if match and len(match[4]) == 2
    ]
    if short:
        report.append(f"{len(short)} years of two digits are taken as 20..: {short[0]}")
    dates: list[str | None] = []
    problems = []
    for text, (line, column), match in zip(texts, places, parted, strict=True):
        try:
            dates.append(_read(text, match, bool(day_first), zone) if text else None)
        except ValueError:
            order = "day/month/year" if day_first else "month/day/year"
            expected = order if match else "a date such as 2025-04-01 or 2025-04-01 09:32:14"
            problems.append(f"line {line} has {column} {text!r}, expected {expected}")
    refuse(file, problems)
    return dates


def _order(
    file: object,
    texts: Sequence[str],
    lines: Sequence[int],
    pairs: Sequence[tuple[int, int] | None],
    report: list[str],
) -> bool | None:
    """Return whether the day comes first, as a day above 12 proves."""
    of = {
        True: [row for row, pair in enumerate(pairs) if pair and pair[0] > 12 >= pair[1]],
        False: [row for row, pair in enumerate(pairs) if pair and pair[1] > 12 >= pair[0]],
    }
    if of[True] and of[False]:
        day, month = of[True][0], of[False][0]
        raise UserError(
            f"{file}: in line {lines[day]} the day comes first ({texts[day]}), in line "
            f"{lines[month]} the month ({texts[month]}); write all dates in one way, best "
            "year-month-day"
        )
    open_ones = [row for row, pair in enumerate(pairs) if pair and pair[0] != pair[1]]
    if open_ones and not of[True] and not of[False]:
        row = open_ones[0]
        raise UserError(
            f"{file}: line {lines[row]} has date {texts[row]}, and no date proves whether the day "
            "or the month comes first; say --day-first or --month-first (day_first=True or False)"
        )
    if not open_ones:
        return None
    first = bool(of[True])
    row = of[first][0]
    what = "day" if first else "month"
    report.append(f"in dates the {what} comes first, as line {lines[row]} proves: {texts[row]}")
    return first


def _read(text: str, match: re.Match | None, day_first: bool, zone: tzinfo | None) -> str:
    if match:
        one, two, year, clock = match.group(1, 3, 4, 5)
        day, month = (one, two) if day_first else (two, one)
        date = iso_date(f"{year if len(year) == 4 else f'20{year}'}-{month}-{day}")
        return f"{date}T{_clock(clock)}" if clock else date
    try:
        return iso_date(text, zone)
    except ValueError:
        pass
    day_text, _, clock = re.sub(r"[-,. ]+", " ", text).partition(":")
    # The hour stands before the first colon, after the last space.
    if clock:
        day_text, _, hour = day_text.rpartition(" ")
        clock = f"{hour}:{clock}"
    for form in MONTHS:
        try:
            date = datetime.strptime(day_text.strip(), form).date().isoformat()
        except ValueError:
            continue
        return f"{date}T{_clock(clock)}" if clock else date
    year_first = re.fullmatch(r"(\d{4}[-/.]\d\d?[-/.]\d\d?)[T ,_]+(.+)", text)
    if year_first:  # 2025-04-01 9:32 PM
        return f"{iso_date(year_first[1])}T{_clock(year_first[2])}"
    raise ValueError(text)


def _clock(text: str) -> str:
    for form in CLOCKS:
        try:
            moment = datetime.strptime(text.strip().upper().replace(".M.", "M"), form)
        except ValueError:
            continue
        return moment.time().isoformat("seconds")
    raise ValueError(text)


def read_zone(name: str | None) -> tzinfo | None:
    """Return a time zone by its name, such as ``Africa/Johannesburg`` or ``Etc/GMT-2``.

    Raises:
        UserError: there is none of this name.
    """
    if name is None:
        return None
    if name not in available_timezones():
        raise UserError(
            f"zone: there is no {name!r}{did_you_mean(name, available_timezones())}; expected one "
            "such as Africa/Johannesburg or Etc/GMT-2"
        )
    return ZoneInfo(name)


def tell_zones(texts: Sequence[str], zone: tzinfo | None, report: list[str]) -> None:
    """Report how many times say their own zone, and what was made of these."""
    zoned = [text for text in texts if ZONED.fullmatch(text)]
    if zoned and zone:
        report.append(f"{len(zoned)} times turned into those of {zone}, such as {zoned[0]}")
    elif zoned:
        report.append(
            f"{len(zoned)} times say a zone, such as {zoned[0]}, and are kept as they are written; "
            "--zone Africa/Johannesburg would turn them into the time there"
        )
    elif zone:
        report.append(f"zone {zone}: not used, as no time says its own zone")


def clock_offset(text: str) -> tuple[str, timedelta]:
    """Read what a command line says of a camera's clock: ``StationA=+1h``, ``B7=-00:30:00``.

    Returns:
        The station, and what to add to its times.

    Raises:
        UserError: it is no such text.
    """
    station, _, offset = text.rpartition("=")
    try:
        if not station:
            raise ValueError(text)
        return station, pd.Timedelta(offset).to_pytimedelta()
    except ValueError:
        raise UserError(
            f"clock {text!r}: expected a station and what to add to its times, such as "
            "StationA=+1h or StationA=-00:30:00"
        ) from None


def days_taken(table: pd.DataFrame, clock: Mapping[str, timedelta]) -> np.ndarray:
    """Return the day on which each photograph was taken.

    Args:
        table: a catalogue; a date without a time counts as noon, so that an offset of some hours
            leaves the day.
        clock: what to add to the times of a camera's photographs, by station.

    Returns:
        `[N]`, datetime64[D], NaT where there is no date.

    Raises:
        UserError: a station is none.
    """
    cameras = {str(camera) for camera in table["camera"].dropna()}
    for camera in clock:
        if camera not in cameras:
            raise UserError(
                f"clock: no photograph was taken at {camera!r}{did_you_mean(camera, cameras)}"
            )
    found: list[str] = []
    for date, camera in zip(table["date"], table["camera"], strict=True):
        if pd.isna(date):
            found.append("NaT")
            continue
        moment = datetime.fromisoformat(date if "T" in date else f"{date}T12:00:00")
        found.append(str((moment + clock.get(str(camera), timedelta())).date()))
    return np.array(found, dtype="datetime64[D]")
