"""Photographs from a table: which column means what, in which form its dates and boxes are."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo
from pathlib import Path
from typing import Any

from openanimals.data.datasets.folder import walk
from openanimals.identification.catalogue_file import COLUMNS
from openanimals.identification.dates import read_dates, tell_zones
from openanimals.identification.importing.folders import viewpoint_of
from openanimals.identification.importing.report import tell
from openanimals.identification.table_file import read_cells, refuse
from openanimals.utils.errors import UserError
from openanimals.utils.registry import did_you_mean

# How people call a column, without spaces and signs; the first that a table has is taken.
NAMES = {
    "path": "path filepath filename file imagepath imagefile imagename image photopath photofile "
    "photoname photo photograph picture mediafile media mediaasset0 img",
    "folder": "relativepath directory folder",
    "identity": "identity individualid individual individualname animalid animal animalname "
    "catalogid name whoisit id",
    "date": "datetimeoriginal datetime timestamp datetaken capturedate date",
    "time": "time timeofday",
    "camera": "camera cameraid station stationid stationname camerastation trap trapid site siteid "
    "locationid location locationname deploymentid deployment",
    "sequence": "sequence sequenceid encounter encounterid eventid event burst sightingid sighting",
    "viewpoint": "viewpoint side flank orientation view",
    "species": "species scientificname taxon",
    "bbox": "bbox box boundingbox",
    "mask": "mask segmentation",
    "latitude": "latitude lat decimallatitude",
    "longitude": "longitude lon lng long decimallongitude",
    "note": "note notes comment comments remarks",
}
BOXES = (
    "bboxx bboxy bboxw bboxh",
    "bboxx bboxy bboxwidth bboxheight",
    "x y w h",
    "x y width height",
)
CORNERS = (
    "x1 y1 x2 y2",
    "xmin ymin xmax ymax",
    "left top right bottom",
    "bboxx1 bboxy1 bboxx2 bboxy2",
)


def read_table(
    file: Path,
    columns: Mapping[str, str] | None,
    day_first: bool | None,
    report: list[str],
    zone: tzinfo | None = None,
) -> tuple[list[dict[str, Any]], bool]:
    """Return a row for each line of a table, with the meaning of its columns guessed or as told.

    Args:
        file: CSV or .xlsx; paths in it are relative to its folder.
        columns: a column of the table by ours (or by ``folder``, ``time``); others are guessed.
        day_first: whether in dates like 3/4/2025 the day comes first; None if the dates prove it.
        report: what was guessed is added to it.
        zone: that times with a zone are turned into; None: they stay as they are written.

    Returns:
        Rows, with the table's further columns as they are; and whether the names of the four
        columns of boxes say that these are corners.

    Raises:
        UserError: a column that is named is not there, there is none of photographs, or dates that
            are none or could be two.
    """
    header, lines = read_cells(file)
    if not lines:
        raise UserError(f"{file}: there is a header but no row; expected one row a photograph")
    ours = _chosen(file, header, columns or {})
    four = _guess(file, header, ours, lines, report)
    meaning = ", ".join(f"{name} = {theirs!r}" for name, theirs in ours.items())
    further = [name for name in header if name not in (*ours.values(), *four)]
    kept = f"; kept as they are: {', '.join(map(repr, further))}" if further else ""
    boxes = f", bbox = {', '.join(map(repr, four))}" if four else ""
    report.append(f"columns: {meaning}{boxes}{kept}")
    rows, problems, places = [], [], []
    for line, cells in lines:
        values = dict(zip(header, cells, strict=True))
        row: dict[str, Any] = {name: values[theirs] or None for name, theirs in ours.items()}
        if (path := row.get("path")) is None:
            problems.append(f"line {line} has no {ours['path']}")
            continue
        folder = row.pop("folder", None)
        row["path"] = (f"{folder}/{path}" if folder else path).replace("\\", "/")
        if any(values[name] for name in four):
            row["bbox"] = " ".join(values[name] or "?" for name in four)
        for name in further:
            row[f"{name} (table)" if name.lower() in COLUMNS else name] = values[name] or None
        rows.append(row)
        places.append((line, "date"))
    refuse(file, problems)
    dates = [" ".join(filter(None, (row.get("date"), row.pop("time", None)))) for row in rows]
    read = read_dates(file, dates, places, day_first, report, zone)
    for row, date in zip(rows, read, strict=True):
        row["date"] = date
    tell_zones(dates, zone, report)
    _read_viewpoints(rows, report)
    _find_files(rows, file.parent, report)
    corners = [*map(_plain, four)] in [names.split() for names in CORNERS]
    return rows, corners


def _plain(name: str) -> str:
    """Return a column's name without what differs from table to table."""
    return re.sub(r"[\W_]", "", name.rpartition(".")[2]).casefold()


def _chosen(file: Path, header: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Check the columns that the user names."""
    problems = []
    for name, theirs in columns.items():
        if name not in NAMES:
            problems.append(
                f"columns: no {name!r}{did_you_mean(name, NAMES)}; expected {', '.join(NAMES)}"
            )
        if theirs not in header:
            near = did_you_mean(theirs, header)
            problems.append(f"no column {theirs!r}{near}; the columns are {', '.join(header)}")
    twice = [theirs for theirs, count in Counter(columns.values()).items() if count > 1]
    problems += [f"column {theirs!r} is named for two things" for theirs in twice]
    refuse(file, problems)
    return dict(columns)


def _guess(
    file: Path,
    header: Sequence[str],
    ours: dict[str, str],
    lines: Iterable[tuple[int, list[str]]],
    report: list[str],
) -> list[str]:
    """Add to our columns those of the table that are called so; return four of a box, if any."""
    free = {_plain(name): name for name in reversed(header) if name not in ours.values()}
    for name, spellings in NAMES.items():
        found = [free[spelling] for spelling in spellings.split() if spelling in free]
        if name not in ours and found:
            ours[name] = found[0]
            bare = _plain(found[0])
            if name == "identity" and bare == "id" and _numbers_rows(found[0], header, lines):
                report.append(
                    f"column {found[0]!r} differs in every row: not taken for the individual"
                )
                del ours[name]
                continue
            del free[bare]
            # A second one is no mistake of a folder and a file, or of a place and its station.
            if len(found) > 1 and name in ("path", "identity", "date"):
                others = "though there are other columns that could be it"
                tell(report, found[1:], f"{name} from {found[0]!r}, {others}")
    # Of dates and times in one column, the second column says nothing more.
    if "date" in ours and "time" in ours:
        place = [*header].index(ours["date"])
        if any(re.search(r"\d:\d\d", cells[place]) for _, cells in lines):
            del ours["time"]
    if "path" not in ours and "folder" in ours:
        ours["path"] = ours.pop("folder")
    if "path" not in ours:
        raise UserError(
            f"{file}: no column of photographs; the columns are "
            f"{', '.join(header)}; name it with --column path=..."
        )
    if "bbox" not in ours:
        for names in (*BOXES, *CORNERS):
            if all(name in free for name in names.split()):
                return [free[name] for name in names.split()]
    return []


def _numbers_rows(name: str, header: Sequence[str], lines: Iterable[tuple[int, list[str]]]) -> bool:
    """Tell whether a column numbers the rows rather than the individuals."""
    values = [cells[[*header].index(name)] for _, cells in lines]
    return len(values) > 1 and len(values) == len({*values}) and all(map(str.isdecimal, values))


def _read_viewpoints(rows: list[dict[str, Any]], report: list[str]) -> None:
    """Write viewpoints as left and right where they mean that; keep others as they are."""
    spelt: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if text := row.get("viewpoint"):
            row["viewpoint"] = viewpoint_of(text) or text
            spelt[row["viewpoint"]].add(text)
    for viewpoint, texts in sorted(spelt.items()):
        if texts != {viewpoint}:
            report.append(f"viewpoint {viewpoint} from {', '.join(map(repr, sorted(texts)))}")


def _find_files(rows: list[dict[str, Any]], folder: Path, report: list[str]) -> None:
    """Find photographs that a table names without their folder, or without their suffix."""
    lost = [row for row in rows if not os.path.isfile(folder / row["path"])]
    if not lost:
        return
    by_name: dict[str, list[str]] = defaultdict(list)
    for path in walk(folder)[0]:
        for name in {path, str(Path(path).with_suffix(""))}:
            parts = name.casefold().split("/")
            for start in range(len(parts)):
                by_name["/".join(parts[start:])].append(path)
    found, several = [], []
    for row in lost:
        places = by_name.get(row["path"].casefold().removeprefix("./"), [])
        if len(places) == 1:
            found.append(f"{row['path']} is {places[0]}")
            row["path"] = places[0]
        elif places:
            several.append(f"{row['path']} ({' or '.join(places[:3])})")
    several = [f"more than one file could be {text}; write its folder, too" for text in several]
    refuse(folder, several)
    tell(report, found, "found by the name of the file alone")
