"""Stations: where cameras stood, and on which days they looked."""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openanimals.identification.dates import read_dates
from openanimals.identification.table_file import read_cells, refuse
from openanimals.utils.registry import did_you_mean

logger = logging.getLogger(__name__)

# How the columns are written by others, in lower case and without spaces and signs.
SPELLINGS = {
    "name": ("station", "stationid", "camera", "cameraid", "site", "trap", "name"),
    "x": ("x", "utmx", "easting", "xcoord"),
    "y": ("y", "utmy", "northing", "ycoord"),
    "longitude": ("longitude", "decimallongitude", "lon", "long", "lng"),
    "latitude": ("latitude", "decimallatitude", "lat"),
    "setup": ("setupdate", "setup", "deploymentstart", "start", "startdate"),
    "retrieval": ("retrievaldate", "retrieval", "deploymentend", "end", "enddate"),
}
WRITTEN = {"name": "Station", "setup": "Setup_date", "retrieval": "Retrieval_date"}
PROBLEM = re.compile(r"problem(\d+)(from|to)")
Span = tuple[np.datetime64, np.datetime64]  # first and last day


@dataclass(frozen=True)
class Stations:
    """Camera stations, in the order of their file.

    Attributes:
        file: that they were read from, for messages.
        names: of the stations.
        x: `[S]`, east or longitude; NaN where the file has no coordinates.
        y: `[S]`, north or latitude.
        degrees: whether these are longitude and latitude, rather than metres.
        span: first and last day of each station; both count.
        problems: first and last day of each time in which a station did not look; both are off.
    """

    file: str
    names: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    degrees: bool
    span: tuple[Span, ...]
    problems: tuple[tuple[Span, ...], ...]

    def active(self, days: np.ndarray) -> np.ndarray:
        """Tell which stations looked on days `[D]` (datetime64[D]).

        Returns:
            `[S, D]`, from set-up to retrieval but for the days of problems.
        """
        looked = np.empty((len(self.names), len(days)), dtype=bool)
        for row, (span, problems) in enumerate(zip(self.span, self.problems, strict=True)):
            looked[row] = _within(days, span)
            for problem in problems:
                looked[row] &= ~_within(days, problem)
        return looked

    def metres(self) -> np.ndarray:
        """Return the stations' places `[S, 2]` in metres east and north.

        Longitude and latitude become metres from the middle of all stations (on the WGS84
        ellipsoid, a plane through it: right to a thousandth within some 100 km); metres stay.

        Raises:
            UserError: a station has no coordinates.
        """
        places = np.stack([self.x, self.y], axis=1)
        nowhere = np.flatnonzero(np.isnan(places).any(axis=1))
        refuse(self.file, [f"station {self.names[row]} has no coordinates" for row in nowhere])
        if not self.degrees:
            return places
        middle = places.mean(0)
        phi = np.radians(middle[1])
        # Metres a degree, as a series in the latitude.
        north = 111132.954 - 559.822 * np.cos(2 * phi) + 1.175 * np.cos(4 * phi)
        east = 111412.84 * np.cos(phi) - 93.5 * np.cos(3 * phi) + 0.118 * np.cos(5 * phi)
        logger.warning(
            "%s: longitude and latitude became metres from %.6f, %.6f", self.file, *middle
        )
        return (places - middle) * [east, north]


def read_stations(file: str | os.PathLike[str], day_first: bool | None = None) -> Stations:
    """Read a table of stations.

    The columns, in any case and order: ``Station``; ``Setup_date`` and ``Retrieval_date``; perhaps
    ``x`` and ``y`` (metres) or ``latitude`` and ``longitude`` (degrees); perhaps ``Problem1_from``
    and ``Problem1_to``, ``Problem2_from`` and so on. Others are ignored. Of a time of day only the
    day counts.

    Args:
        file: CSV or .xlsx, a line a station.
        day_first: of dates such as ``02/04/2009`` the day comes first (True) or the month (False);
            None: as a number above 12 in one of the file's dates proves.

    Raises:
        UserError: there is no such file, a column is missing, values are wrong (with their lines),
            or nothing proves which comes first, the day or the month.
    """
    header, lines = read_cells(file)
    columns = _columns(file, header)
    by_name = [
        (line, {columns[n]: cell for n, cell in enumerate(cells) if n in columns})
        for line, cells in lines
    ]
    written = {name: header[number] for number, name in columns.items()}
    cells = [
        (line, name, values[name]) for line, values in by_name for name in values if _is_date(name)
    ]
    places, report = [(line, written[name]) for line, name, _ in cells], list[str]()
    dates = read_dates(file, [text for *_, text in cells], places, day_first, report)
    for told in report:
        logger.info("%s: %s", file, told)
    days: dict[int, dict[str, np.datetime64]] = defaultdict(dict)
    for (line, name, _), date in zip(cells, dates, strict=True):
        if date:
            days[line][name] = np.datetime64(date[:10], "D")
    problems: list[str] = []
    stations = [_station(line, values, days[line], written, problems) for line, values in by_name]
    names = tuple(values["name"] for _, values in by_name)
    problems += [
        f"station {name!r} is there twice" for name in sorted({*names}) if names.count(name) > 1
    ]
    refuse(file, problems if names else ["there is no station, only a first line"])
    x, y, spans, off = zip(*stations, strict=True)
    return Stations(
        file=str(file),
        names=names,
        x=np.array(x),
        y=np.array(y),
        degrees="longitude" in columns.values(),
        span=spans,
        problems=off,
    )


def _within(days: np.ndarray, span: Span) -> np.ndarray:
    return (days >= span[0]) & (days <= span[1])


def _is_date(name: str) -> bool:
    return name in ("setup", "retrieval") or bool(PROBLEM.fullmatch(name))


def _columns(file: object, header: Sequence[str]) -> dict[int, str]:
    """Return our names of the columns that count, by their number."""
    bare = [re.sub(r"[\W_]+", "", name.casefold()) for name in header]
    columns: dict[int, str] = {}
    for ours, spellings in SPELLINGS.items():
        # Where several would do, such as Station and Camera, the first of our list counts.
        numbers = [bare.index(spelling) for spelling in spellings if spelling in bare]
        columns |= {number: ours for number in numbers[:1]}
        for number in numbers[1:]:
            logger.warning(
                "%s: %s is read, and column %s is not", file, header[numbers[0]], header[number]
            )
    columns |= {n: name for n, name in enumerate(bare) if PROBLEM.fullmatch(name)}
    known = ("Problem1_from", "Problem1_to")
    wrong = [
        f"unknown column {header[n]!r}{did_you_mean(header[n], known)}"
        for n, name in enumerate(bare)
        if name.startswith("problem") and n not in columns
    ]
    twice = {bare[n] for n in columns if bare.count(bare[n]) > 1}
    wrong += [f"two columns are called {name}" for name in twice]
    found = set(columns.values())
    wrong += [
        f"no column {written!r}{did_you_mean(written, header).replace('did you mean', 'is it')}; "
        f"the columns are {', '.join(header)}"
        for name, written in WRITTEN.items()
        if name not in found
    ]
    for pair in (("x", "y"), ("longitude", "latitude")):
        if len(found & {*pair}) == 1:
            wrong.append(f"only one of the columns {pair[0]} and {pair[1]}")
    wrong += [
        f"{name} has no column {other}"
        for name in sorted(found)
        if (match := PROBLEM.fullmatch(name))
        and (other := f"problem{match[1]}{'to' if match[2] == 'from' else 'from'}") not in found
    ]
    refuse(file, wrong)
    if {"x", "longitude"} <= found:  # metres are what is computed with
        logger.warning("%s: x and y are read, and longitude and latitude are not", file)
        return {n: name for n, name in columns.items() if name not in ("longitude", "latitude")}
    return columns


def _station(
    line: int,
    values: dict[str, str],
    days: dict[str, np.datetime64],
    written: dict[str, str],
    wrong: list[str],
) -> tuple[float, float, Span, tuple[Span, ...]]:
    """Return place, span and problems of one line; what is wrong is added to a list."""
    wrong += [
        f"line {line} has {written[name]} '', expected a date such as 2009-04-02; it is empty"
        for name in ("setup", "retrieval")
        if name not in days
    ]
    if not values["name"]:
        wrong.append(f"line {line} has no station")
    spans = [("setup", "retrieval")]
    numbers = sorted({int(m[1]) for name in values if (m := PROBLEM.fullmatch(name))})
    spans += [(f"problem{number}from", f"problem{number}to") for number in numbers]
    found: list[Span] = []
    for first, last in spans:
        if first in days and last in days:
            found.append((days[first], days[last]))
            if days[last] < days[first]:
                late, early = (f"{written[name]} {days[name]}" for name in (last, first))
                wrong.append(f"line {line} has {late} before {early}")
        elif first != "setup" and (first in days or last in days):
            wrong.append(f"line {line} has only one of {written[first]}, {written[last]}")
    east, north = ("x", "y") if "x" in values else ("longitude", "latitude")
    place = []
    for name in (east, north):
        text = values.get(name, "").replace(",", ".")
        try:
            place.append(float(text) if text else np.nan)
            most = {"longitude": 180.0, "latitude": 90.0}.get(name, np.inf)
            if np.isinf(place[-1]) or abs(place[-1]) > most:
                raise ValueError(text)
        except ValueError:
            wrong.append(f"line {line} has {written[name]} {text!r}, expected a number")
            place.append(np.nan)
    nothing = (np.datetime64("NaT"), np.datetime64("NaT"))
    return place[0], place[-1], found[0] if found else nothing, tuple(found[1:])
