"""Wildbook's bulk import: spreadsheets of encounters, and photographs by names that it takes."""

import logging
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from openanimals.identification.table_file import refuse
from openanimals.utils.errors import UserError, naming
from openanimals.utils.files import atomic_path, expanded

logger = logging.getLogger(__name__)

ENCOUNTERS = 200  # of one spreadsheet, at most
FURTHER = {"sex": "Encounter.sex", "lifeStage": "Encounter.lifeStage"}  # the user's own columns


@dataclass(frozen=True)
class WildbookFiles:
    """What was written.

    Attributes:
        spreadsheets: of 200 encounters at most.
        encounters: how many they have together.
        renamed: paths of photographs, and their new names where Wildbook would not take theirs.
    """

    spreadsheets: list[Path]
    encounters: int
    renamed: dict[str, str]


def write_wildbook(
    table: pd.DataFrame,
    folder: str | os.PathLike[str],
    *,
    submitter: str,
    location: str | None = None,
    species: str | None = None,
    decimals: int | None = None,
    copies_from: str | os.PathLike[str] | None = None,
) -> WildbookFiles:
    """Write a catalogue as spreadsheets for Wildbook's bulk import, 200 encounters each.

    A line is one encounter: the photographs of one ``sequence`` and one identity; a photograph
    without a sequence is an encounter of its own. Columns that would be empty are left out.
    Wildbook wants names of files that differ and have only letters, digits, periods and spaces;
    where names break this, ``renamed.csv`` says which photograph is called what.

    Args:
        table: a catalogue (see ``catalogue_file``), perhaps with columns ``sex`` and ``lifeStage``.
        folder: for the files.
        submitter: the user's name in Wildbook, for ``Encounter.submitterID``.
        location: for ``Encounter.locationID``, as in the list of that Wildbook; the camera goes
            into ``Encounter.verbatimLocality`` then. None: the camera is the location.
        species: of photographs that name none, such as ``Panthera pardus``.
        decimals: of latitude and longitude; None: all.
        copies_from: folder that the table's paths are relative to: all photographs are copied, by
            their new names, into ``photographs`` in ``folder``. None: no copies.

    Raises:
        UserError: there is nothing to write; or an encounter has no date, no species, or neither
            location nor position.
        FileError: a file cannot be read or written.
    """
    if table.empty:
        raise UserError("the catalogue has no photographs; Wildbook wants at least one")
    place = expanded(folder)
    names = _file_names([*dict.fromkeys(table["path"])])
    sightings = _sightings(table["sequence"].tolist())
    alone = pd.Series(range(len(table)), table.index, dtype=object)
    keys = [table["sequence"].where(table["sequence"].notna(), alone), table["identity"].fillna("")]
    lines: list[dict[str, Any]] = []
    problems: list[str] = []
    for _, rows in table.groupby(keys, sort=False):
        line = _encounter(rows, location, species, decimals, problems)
        line |= {"Encounter.submitterID": submitter}
        line |= {"Encounter.sightingID": sightings.get(rows["sequence"].iat[0])}
        shown = dict.fromkeys(names[path] for path in rows["path"])
        lines.append({f"Encounter.mediaAsset{n}": name for n, name in enumerate(shown)} | line)
    refuse("Wildbook's bulk import", problems)
    if location is None and table["camera"].notna().any():
        logger.warning(
            "the cameras became Encounter.locationID: Wildbook takes only locations of its own list"
        )
    # All columns before the first sheet, so that every sheet has them in one order: the
    # photographs, of which the longest line has all, then the others.
    most = max(lines, key=len)
    media = [name for name in most if name.startswith("Encounter.mediaAsset")]
    order = [*media, *sorted(most.keys() - {*media})]
    groups = [lines[n : n + ENCOUNTERS] for n in range(0, len(lines), ENCOUNTERS)]
    sheets = [
        _write_sheet(place / f"wildbook-{n:03}.xlsx", group, order)
        for n, group in enumerate(groups, 1)
    ]
    renamed = {path: name for path, name in names.items() if PurePosixPath(path).name != name}
    if renamed:
        with atomic_path(place / "renamed.csv") as temporary:
            pairs = pd.DataFrame(renamed.items(), columns=["path", "name"])
            pairs.to_csv(temporary, index=False, encoding="utf-8-sig")
        logger.warning(
            "%d photographs have names that Wildbook does not take; new ones are in %s%s",
            len(renamed),
            place / "renamed.csv",
            "" if copies_from else ": copy them by these before you upload them",
        )
    if copies_from is not None:
        for path, name in names.items():
            file = expanded(copies_from) / path
            with (
                naming(file, "cannot be copied"),
                atomic_path(place / "photographs" / name) as temporary,
            ):
                shutil.copyfile(file, temporary)
        if decimals is not None:
            logger.warning(
                "positions are rounded in the spreadsheets only; the photographs themselves may "
                "hold exact ones (EXIF)"
            )
    return WildbookFiles(sheets, len(lines), renamed)


def _first(rows: pd.DataFrame, name: str) -> Any:
    """Return the first known value of a column, None where there is none."""
    return next((value for value in rows.get(name, ()) if not pd.isna(value)), None)


def _encounter(
    rows: pd.DataFrame,
    location: str | None,
    species: str | None,
    decimals: int | None,
    problems: list[str],
) -> dict[str, Any]:
    """Return the values of an encounter but for its photographs; problems are added to a list."""
    path = rows["path"].iat[0]
    kind = str(_first(rows, "species") or species or "").split()
    if len(kind) < 2:
        problems.append(
            f"{path} has {'species ' + repr(' '.join(kind)) if kind else 'no species'}, expected "
            "genus and epithet such as 'Panthera pardus'"
        )
        kind = ["", ""]
    known = sorted(str(day) for day in rows["date"].dropna())
    if not known:
        problems.append(f"{path} has no date; expected at least one in an encounter")
    year, month, day = map(int, known[0][:10].split("-")) if known else (0, 0, 0)
    camera = _first(rows, "camera")
    position = [_first(rows, name) for name in ("latitude", "longitude")]
    if None in position:
        position = [None, None]
    if location is None and camera is None and None in position:
        problems.append(
            f"{path} has no camera and no position; expected one, or a location for all"
        )
    numbers = [
        None if text is None else float(text) if decimals is None else round(float(text), decimals)
        for text in position
    ]
    return {
        "Encounter.genus": kind[0].capitalize(),
        "Encounter.specificEpithet": " ".join(kind[1:]).lower(),
        "Encounter.year": year,
        "Encounter.month": month,
        "Encounter.day": day,
        "Encounter.locationID": location or camera,
        "Encounter.verbatimLocality": camera if location else None,
        "Encounter.decimalLatitude": numbers[0],
        "Encounter.decimalLongitude": numbers[1],
        "MarkedIndividual.individualID": _first(rows, "identity"),
        **{ours: _first(rows, name) for name, ours in FURTHER.items()},
    }


def _file_names(paths: Sequence[str]) -> dict[str, str]:
    """Return a name for each path that Wildbook takes, its own where that will do."""
    taken: set[str] = set()
    found = {}
    # Photographs that may keep their names come first, lest one of them is taken by another.
    fine = [p for p in paths if re.fullmatch(r"[A-Za-z0-9. ]+", PurePosixPath(p).name)]
    for path in dict.fromkeys([*fine, *paths]):
        place = PurePosixPath(path)
        stem, ending = (
            re.sub(r"[^A-Za-z0-9. ]+", " ", t).strip() for t in (place.stem, place.suffix)
        )
        stem = stem or "photograph"
        name = f"{stem}{ending}"
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem} {number}{ending}"
        taken.add(name.casefold())
        found[path] = name
    return {path: found[path] for path in paths}


def _sightings(sequences: Sequence[Any]) -> dict[Any, str]:
    """Return a name for each sequence of the signs that Wildbook takes, two never the same."""
    found: dict[Any, str] = {}
    taken: set[str] = set()
    for sequence in sequences:
        if not pd.isna(sequence) and sequence not in found:
            bare = stem = re.sub(r"[^A-Za-z0-9_-]+", "-", str(sequence)).strip("-") or "sighting"
            number = 1
            while bare in taken:
                number += 1
                bare = f"{stem}-{number}"
            taken.add(bare)
            found[sequence] = bare
    return found


def _write_sheet(path: Path, lines: Sequence[dict[str, Any]], order: Sequence[str]) -> Path:
    import openpyxl

    columns = [name for name in order if any(line.get(name) is not None for line in lines)]
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet.append(columns)
    for line in lines:
        sheet.append([line.get(name) for name in columns])
    for row in sheet.iter_rows():
        for value in row:
            if value.data_type == "f":  # a name that begins with = is no formula
                value.data_type = "s"
    with atomic_path(path) as temporary:
        book.save(temporary)
    return path
