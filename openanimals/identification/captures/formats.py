"""Capture histories as the files that programs for population estimates read."""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from openanimals.identification.captures.capture_history import CaptureHistory
from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path, expanded
from openanimals.utils.registry import check_name

logger = logging.getLogger(__name__)

FORMATS = {
    "table": "captures.csv",
    "mark": "captures.inp",
    "rmark": "rmark.txt",  # secr has a captures.txt
    "secr": None,
    "oscr": None,
}
"""Names of the formats, and of the file in a folder; None: two files."""
LINES = {"mark": ("", "/* {name} */ {text} 1;\n"), "rmark": ("ch\tid\n", "{text}\t{name}\n")}


def write_captures(
    history: CaptureHistory,
    target: str | os.PathLike[str],
    format: str,
    decimals: int | None = None,
) -> list[Path]:
    """Write a capture history.

    ========  ==================================================================================
    table     CSV for a spreadsheet: a line an individual, a column an occasion; 1, 0 or ``.``
    mark      program MARK, ``.inp``: ``/* id */ 11110 1;``
    rmark     RMark's ``import.chdata``: columns ``ch`` and ``id``
    secr      ``captures.txt`` and ``traps.txt`` (usage in days: ``binary.usage = FALSE``)
    oscr      ``edf.csv`` and ``tdf.csv`` (operation, and days as the covariate ``effort``)
    ========  ==================================================================================

    ``.`` is an occasion on which no station looked. At one station an individual counts once an
    occasion, as photographs of one visit are not independent (secr's detector "proximity").

    Args:
        history: of one session.
        target: a folder; or, but for secr and oscr, a file.
        format: a name of :data:`FORMATS`.
        decimals: of the coordinates, in metres (-3: whole kilometres); None: all.

    Returns:
        The files.

    Raises:
        UserError: no such format, or secr or oscr without stations, their coordinates, or the
            station of each photograph.
        FileError: a file cannot be written.
    """
    check_name("format", format, FORMATS)
    place = expanded(target)
    name = FORMATS[format]
    if name and (place.is_dir() or not place.suffix):
        place /= name
    if not name and place.is_file():
        raise UserError(f"{target} is a file; {format} writes two files into a folder")
    if format == "table":
        files = {place: "\ufeff" + _table(history)}  # by this mark Excel knows UTF-8; R wants none
    elif format in LINES:
        names = _bare("individuals", history.individuals)
        pairs = zip(names, history.texts(), strict=True)
        head, line = LINES[format]
        files = {place: head + "".join(line.format(name=name, text=text) for name, text in pairs)}
    else:
        traps, places = _traps(history, format, decimals)
        two = {"secr": _secr, "oscr": _oscr}[format](history, traps, places)
        files = {place / name: text for name, text in two.items()}
    for path, text in files.items():
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return [*files]


def _table(history: CaptureHistory) -> str:
    signs = [list(text) for text in history.texts()]
    table = pd.DataFrame(signs, columns=list(map(str, history.occasions)))
    table.insert(0, "identity", pd.Series(history.individuals, dtype=object))
    return table.to_csv(index=False, lineterminator="\n")


def _secr(history: CaptureHistory, traps: Sequence[str], places: np.ndarray) -> dict[str, str]:
    captures = [f"1 {who} {when} {trap}" for who, when, trap in _detections(history, traps)]
    usage = [" ".join(f"{days:g}" for days in row) for row in history.effort]
    lines = [
        f"{trap} {x:.12g} {y:.12g} {row}"
        for trap, (x, y), row in zip(traps, places, usage, strict=True)
    ]
    # Else secr takes each digit for an occasion.
    hint = "# days on which each trap looked, by occasion: read with binary.usage = FALSE"
    return {
        "captures.txt": "\n".join(["# session ID occasion trap", *captures, ""]),
        "traps.txt": "\n".join([hint, "# id x y usage", *lines, ""]),
    }


def _oscr(history: CaptureHistory, traps: Sequence[str], places: np.ndarray) -> dict[str, str]:
    names = ["individual", "occasion", "trap"]
    captures = pd.DataFrame(_detections(history, traps), columns=names)
    captures.insert(0, "session", 1)
    occasions = range(1, len(history.occasions) + 1)
    columns = {"trap": traps, "X": places[:, 0], "Y": places[:, 1]}
    columns |= {f"{k}": (history.effort[:, k - 1] > 0).astype(int) for k in occasions}
    columns |= {"sep": ["/"] * len(traps)}
    columns |= {f"effort.{k}": history.effort[:, k - 1] for k in occasions}
    tables = {"edf.csv": captures, "tdf.csv": pd.DataFrame(columns)}
    return {
        name: table.to_csv(index=False, float_format="%.12g", lineterminator="\n")
        for name, table in tables.items()
    }


def _detections(history: CaptureHistory, traps: Sequence[str]) -> list[tuple[str, int, str]]:
    """Return individual, occasion (from 1 on) and trap of each detection, in this order."""
    names = _bare("individuals", history.individuals)
    found = np.argwhere(history.by_station > 0)
    return [(names[who], when + 1, traps[where]) for who, when, where in found.tolist()]


def _traps(
    history: CaptureHistory, format: str, decimals: int | None
) -> tuple[list[str], np.ndarray]:
    """Return the stations' names as traps, and their places `[S, 2]` in metres."""
    if history.places is None:
        raise UserError(
            f"{format} needs to know where the cameras stood and when; expected a table of stations"
        )
    if history.elsewhere:
        raise UserError(
            f"{format} needs the station of each photograph, and {history.elsewhere} that count "
            f"were taken at none of {history.places.file}; fill in their camera, or take out their "
            "name"
        )
    places = history.places.metres()
    places = places if decimals is None else np.round(places, decimals) + 0.0  # no -0
    return _bare("stations", history.stations, "_"), places


def _bare(what: str, names: Sequence[str], forbidden: str = "") -> list[str]:
    """Replace what the programs take for the end of a name, and tell; names stay different."""
    found: list[str] = []
    for name in names:
        bare = stem = re.sub(rf"[^\w.-]|[{forbidden or ' '}]", ".", name)
        number = 1
        while bare in found or (bare != name and bare in names):
            number += 1
            bare = f"{stem}.{number}"
        found.append(bare)
    changed = [f"{old} -> {new}" for old, new in zip(names, found, strict=True) if old != new]
    if changed:
        logger.warning("names of %s as the program can read them: %s", what, ", ".join(changed))
    return found
