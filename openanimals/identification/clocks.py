"""When photographs were taken, where clocks of cameras were wrong."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from openanimals.utils.errors import UserError
from openanimals.utils.registry import did_you_mean


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
