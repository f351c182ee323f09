"""When photographs were taken: clocks of cameras that were wrong, and time zones."""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd

from openanimals.utils.errors import UserError
from openanimals.utils.registry import did_you_mean

logger = logging.getLogger(__name__)


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


def days_taken(
    table: pd.DataFrame, clock: Mapping[str, timedelta], zone: str | None = None
) -> np.ndarray:
    """Return the day on which each photograph was taken.

    Args:
        table: a catalogue; a date without a time counts as noon, so that an offset of some hours
            leaves the day.
        clock: what to add to the times of a camera's photographs, by station.
        zone: such as ``Africa/Nairobi``; times that say how far they are from UTC become times
            there. None: they stay as they are written.

    Returns:
        `[N]`, datetime64[D], NaT where there is no date.

    Raises:
        UserError: a date, a station or the zone is none.
    """
    cameras = {str(camera) for camera in table["camera"].dropna()}
    for camera in clock:
        if camera not in cameras:
            raise UserError(
                f"clock: no photograph was taken at {camera!r}{did_you_mean(camera, cameras)}"
            )
    try:
        there = ZoneInfo(zone) if zone else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UserError(
            f"zone {zone!r} is not known; expected one such as Africa/Nairobi"
        ) from None
    found: list[str] = []
    zoned, kept = 0, 0
    for row, (value, camera) in enumerate(zip(table["date"], table["camera"], strict=True)):
        if value is None or pd.isna(value):
            found.append("NaT")
            continue
        try:
            moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        except ValueError:
            raise UserError(
                f"row {row + 1} ({table['path'].iat[row]}) has date {value!r}; expected one "
                "such as 2009-04-02T21:30:00"
            ) from None
        if len(str(value)) == 10:
            moment = moment.replace(hour=12)
        moment += clock.get(str(camera), timedelta())
        if moment.tzinfo:
            zoned += 1
            moment = moment.astimezone(there) if there else moment
        elif there and len(str(value)) > 10:
            kept += 1
        found.append(str(moment.date()))
    if zoned and not there:
        logger.warning("%d times say their zone; they stay as written (no zone was given)", zoned)
    if kept:
        logger.warning("%d times say no zone and count as times in %s already", kept, zone)
    return np.array(found, dtype="datetime64[D]")
