"""Capture histories: which individual was seen on which occasion, and where anyone looked."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

from openanimals.identification.captures.stations import Stations
from openanimals.identification.dates import days_taken
from openanimals.identification.table_file import some
from openanimals.utils.errors import UserError
from openanimals.utils.logging import table as table_text
from openanimals.utils.registry import check_name, did_you_mean
from openanimals.utils.viewpoints import LATERAL, lateral_viewpoint

logger = logging.getLogger(__name__)

VIEWPOINTS = ("linked", *LATERAL, "both")
DAY = np.timedelta64(1, "D")
MOST_DAYS = 100 * 366  # a longer survey is a wrong date


@dataclass(frozen=True)
class CaptureHistory:
    """Who was seen on which occasion, and at which station.

    Attributes:
        individuals: `[I]`, those seen at least once, by name.
        occasions: `[K]`, the first day of each (datetime64[D]).
        lengths: `[K]`, days of each; the last may have fewer.
        counts: `[I, K]`, photographs of an individual on an occasion, at any station or none.
        by_station: `[I, K, S]`, photographs at each station.
        effort: `[S, K]`, days on which a station looked; NaN where no stations were given.
        stations: `[S]`, their names.
        places: what is known of the stations; None if they are only the cameras of photographs.
        elsewhere: photographs that count but were taken at no known station.
    """

    individuals: tuple[str, ...]
    occasions: np.ndarray
    lengths: np.ndarray
    counts: np.ndarray
    by_station: np.ndarray
    effort: np.ndarray
    stations: tuple[str, ...]
    places: Stations | None
    elsewhere: int

    @property
    def seen(self) -> np.ndarray:
        """`[I, K]`, whether an individual was seen on an occasion."""
        return self.counts > 0

    @property
    def missing(self) -> np.ndarray:
        """`[K]`, occasions on which no station looked and nobody was seen."""
        nobody_looked = (self.effort == 0).all(0) & (self.places is not None)
        return nobody_looked & ~self.seen.any(0)

    @property
    def n(self) -> np.ndarray:
        """`[K]`, individuals seen on each occasion."""
        return self.seen.sum(0)

    @property
    def u(self) -> np.ndarray:
        """`[K]`, individuals seen for the first time on each occasion."""
        return np.bincount(self.seen.argmax(1), minlength=len(self.occasions))

    def texts(self) -> list[str]:
        """Return each individual's history: 1 seen, 0 not seen, ``.`` nobody looked."""
        signs = np.where(self.missing, ".", np.where(self.seen, "1", "0"))
        return ["".join(row) for row in signs]

    def summary(self) -> str:
        """Return a table in text: for each occasion its days, station days, n and u."""
        effort = [f"{days:g}" if self.places else "?" for days in self.effort.sum(0)]
        columns = (map(str, self.occasions), map(str, self.lengths), effort)
        numbers = (map(str, self.n), map(str, self.u))
        head = ("occasion from", "days", "station days", "seen", "of these new")
        return table_text([head, *zip(*columns, *numbers, strict=True)])


def capture_history(
    table: pd.DataFrame,
    *,
    stations: Stations | None = None,
    days: int = 1,
    start: str | date | None = None,
    end: str | date | None = None,
    viewpoints: str = "linked",
    clock: Mapping[str, timedelta] | None = None,
) -> CaptureHistory:
    """Make a capture history of a catalogue.

    An occasion is a number of days from the start on; the last has fewer where the days do not go
    up. A station looked on the days from set-up to retrieval, both counted, but for those of its
    problems, from first to last. A photograph proves that its station looked on that day, whatever
    the dates say. On an occasion on which no station looked nobody is "not seen": it is missing.

    An animal known only by its left may be one known only by its right, and then two names are one
    individual. So ``viewpoints`` says which photographs count: ``left`` or ``right``, only those;
    ``both``, all photographs of individuals of which the table has the left and the right;
    ``linked``, all photographs: right where every name links both viewpoints.

    Photographs without name or date, and those before the start or after the end, do not count.
    All that is odd is told in the log.

    Args:
        table: a catalogue (see ``catalogue_file``); ``camera`` is the station.
        stations: without them every day from the first photograph to the last counts as looked.
        days: of an occasion.
        start: first day, as ``2009-04-02``; None: the earliest set-up (or photograph).
        end: last day; None: the latest retrieval (or photograph).
        viewpoints: linked, left, right or both.
        clock: what to add to the times of a camera's photographs, by station.

    Raises:
        UserError: a value is wrong, or no photograph is left that counts.
    """
    check_name("viewpoints", viewpoints, VIEWPOINTS)
    if days < 1:
        raise UserError(f"an occasion has {days} days; expected a whole number from 1 on")
    taken = days_taken(table, clock or {})
    cameras = [None if pd.isna(camera) else str(camera) for camera in table["camera"]]
    first, last = _ends(stations, taken, start, end)
    lengths = _lengths(first, last, days)
    names = stations.names if stations else tuple(sorted({*filter(None, cameras)}))
    station = pd.Index(names).get_indexer(pd.Series(cameras, dtype=object))  # -1: none of them
    inside = (taken >= first) & (taken <= last)
    occasion = (np.where(inside, taken, first) - first) // (days * DAY)

    counted = _counted(table, viewpoints)
    _tell_left_out(taken, counted, inside, first, last)
    counted = counted & inside
    if not counted.any():
        raise UserError(
            f"no photograph of a known individual lies between {first} and {last}; expected "
            "at least one with an identity and a date"
        )
    individuals = sorted({*map(str, table["identity"][counted])})
    one = pd.Index(individuals).get_indexer(table["identity"].astype(str))
    counts = np.zeros((len(individuals), len(lengths)), dtype=int)
    np.add.at(counts, (one[counted], occasion[counted]), 1)
    by_station = np.zeros((*counts.shape, len(names)), dtype=int)
    there = counted & (station >= 0)
    np.add.at(by_station, (one[there], occasion[there], station[there]), 1)

    effort = np.full((len(names), len(lengths)), np.nan)
    if stations:
        proof = inside & (station >= 0)
        effort = _effort(stations, first, lengths, station[proof], taken[proof])
        _tell_strangers(stations, cameras, station, counted, there)
    history = CaptureHistory(
        individuals=tuple(individuals),
        occasions=first + np.arange(len(lengths)) * days * DAY,
        lengths=lengths,
        counts=counts,
        by_station=by_station,
        effort=effort,
        stations=names,
        places=stations,
        elsewhere=int((counted & ~there).sum()),
    )
    idle = len(lengths) - len(np.unique(occasion[inside]))
    if idle and not stations:
        logger.warning(
            "no table of stations says when anyone looked: on %d occasions there is no photograph, "
            "and they count as searched in vain",
            idle,
        )
    if history.missing.any():
        off = ", ".join(map(str, history.occasions[history.missing]))
        logger.warning("no station looked on the occasions from %s: missing, not 'not seen'", off)
    return history


def _ends(
    stations: Stations | None, taken: np.ndarray, start: Any, end: Any
) -> tuple[np.datetime64, np.datetime64]:
    """Return the first and the last day of all occasions."""
    dated = taken[~np.isnat(taken)]
    if not stations and not len(dated):
        raise UserError("no photograph has a date; a capture history needs them")
    firsts = [span[0] for span in stations.span] if stations else dated
    lasts = [span[1] for span in stations.span] if stations else dated
    ends = []
    for name, given, default in (("start", start, min(firsts)), ("end", end, max(lasts))):
        try:
            ends.append(np.datetime64(date.fromisoformat(str(given)), "D") if given else default)
        except ValueError:
            raise UserError(f"{name} is {given!r}; expected a day such as 2009-04-02") from None
    first, last = ends
    if last < first or (last - first) / DAY > MOST_DAYS:
        raise UserError(
            f"the capture history would go from {first} to {last}; give the right start and "
            "end, or mend the dates"
        )
    return first, last


def _lengths(first: np.datetime64, last: np.datetime64, days: int) -> np.ndarray:
    """Return the days of each occasion `[K]`."""
    whole, rest = divmod(int((last - first) / DAY) + 1, days)
    if rest:
        logger.warning("the last occasion, to %s, has %d days instead of %d", last, rest, days)
    return np.array([days] * whole + [rest] * (rest > 0))


def _counted(table: pd.DataFrame, viewpoints: str) -> np.ndarray:
    """Tell which rows `[N]` have a name and count by the policy."""
    named = table["identity"].notna().to_numpy(dtype=bool)
    if not named.all():
        logger.warning("%d photographs of nobody known do not count", (~named).sum())
    if viewpoints == "linked":
        return named
    views = np.array(
        [lateral_viewpoint(None if pd.isna(view) else str(view)) for view in table["viewpoint"]],
        dtype=object,
    )
    if viewpoints != "both":
        counted = named & (views == viewpoints)
        left_out = (named & ~counted).sum()
        logger.info("%d photographs that do not show the %s do not count", left_out, viewpoints)
    else:
        known = [{*table["identity"][named & (views == view)]} for view in LATERAL]
        counted = named & table["identity"].isin(known[0] & known[1]).to_numpy()
        others = sorted({*map(str, table["identity"][named & ~counted])})
        if others:
            logger.warning(
                "%d individuals are not known from left and right and do not count: %s",
                len(others),
                some(others),
            )
    if not counted.any():
        raise UserError(
            f"viewpoints is {viewpoints!r}, but no known individual has such photographs in the "
            "column viewpoint"
        )
    return counted


def _tell_left_out(
    taken: np.ndarray, counted: np.ndarray, inside: np.ndarray, first: Any, last: Any
) -> None:
    undated = (counted & np.isnat(taken)).sum()
    if undated:
        logger.warning("%d photographs of known individuals have no date and do not count", undated)
    outside = (counted & ~np.isnat(taken) & ~inside).sum()
    if outside:
        logger.warning(
            "%d photographs were taken before %s or after %s and do not count", outside, first, last
        )


def _effort(
    stations: Stations, first: np.datetime64, lengths: np.ndarray, station: Any, taken: Any
) -> np.ndarray:
    """Return the days on which each station looked `[S, K]`, told by dates and photographs."""
    looked = stations.active(first + np.arange(lengths.sum()) * DAY)
    day = ((taken - first) / DAY).astype(int)
    off = ~looked[station, day]
    if off.any():
        where = sorted(
            {(stations.names[s], str(t)) for s, t in zip(station[off], taken[off], strict=True)}
        )
        logger.warning(
            "%d photographs were taken when their station was off by its dates; these days count "
            "as looked: %s",
            off.sum(),
            some([" on ".join(pair) for pair in where]),
        )
    looked[station, day] = True
    return np.add.reduceat(looked, np.cumsum(lengths) - lengths, axis=1, dtype=float)


def _tell_strangers(
    stations: Stations,
    cameras: Sequence[str | None],
    station: np.ndarray,
    counted: np.ndarray,
    there: np.ndarray,
) -> None:
    """Tell of photographs at no known station, and of stations without photographs."""
    elsewhere = [cameras[row] for row in np.flatnonzero(counted & ~there).tolist()]
    if elsewhere:
        unknown = sorted({camera for camera in elsewhere if camera})
        which = [f"{camera!r}{did_you_mean(camera, stations.names)}" for camera in unknown]
        logger.warning(
            "%d photographs count as seen, but at no station: %s",
            len(elsewhere),
            some(which) or "they name no camera",
        )
    empty = [name for row, name in enumerate(stations.names) if row not in station]
    if empty:
        logger.warning("stations without a photograph, kept with their effort: %s", some(empty))
