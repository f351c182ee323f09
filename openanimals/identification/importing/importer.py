"""Photographs of any origin to one catalogue, with a report of what was guessed and what is odd."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from openanimals.data.names import is_nobody
from openanimals.identification.captures.stations import read_stations
from openanimals.identification.catalogue_file import (
    COLUMNS,
    as_table,
    clean,
    rebase,
    write_catalogue,
)
from openanimals.identification.dates import read_zone
from openanimals.identification.importing.boxes import to_pixels
from openanimals.identification.importing.camtrap_dp import read_package
from openanimals.identification.importing.exif import Header, camera_and_time, read_headers
from openanimals.identification.importing.folders import read_folder, viewpoint_of
from openanimals.identification.importing.megadetector import add_boxes, read_detections
from openanimals.identification.importing.report import SLACK, oddities, tell
from openanimals.identification.importing.tables import read_table
from openanimals.identification.table_file import refuse
from openanimals.utils.errors import FileError, UserError
from openanimals.utils.files import expanded
from openanimals.utils.registry import did_you_mean

Row = dict[str, Any]
TABLES = (".csv", ".tsv", ".txt", ".xlsx")
PACKAGE = "datapackage.json"


@dataclass(frozen=True)
class Imported:
    """Photographs that were imported.

    Attributes:
        table: a catalogue's (see ``catalogue_file``).
        root: the folder that its paths are relative to.
        report: lines on what was guessed, what was left out and what is odd.
    """

    table: pd.DataFrame
    root: Path
    report: list[str]

    def write(self, file: str | os.PathLike[str]) -> None:
        """Write the catalogue as a CSV file, with paths from there.

        Raises:
            UserError: the file cannot be written, or its name does not end in ``.csv``.
        """
        write_catalogue(file, rebase(self.table, self.root, expanded(file).absolute().parent))


def import_catalogue(
    source: str | os.PathLike[str],
    *,
    columns: Mapping[str, str] | None = None,
    detections: str | os.PathLike[str] | None = None,
    confidence: float = 0.2,
    stations: str | os.PathLike[str] | None = None,
    day_first: bool | None = None,
    flat: bool = False,
    boxes: str | None = None,
    zone: str | None = None,
) -> Imported:
    """Make a catalogue of photographs as people have them.

    What the source does not say is taken from the photographs themselves: date and position from
    EXIF, names from XMP tags such as ``individual|2``; then from the names of files: the camera and
    date of ``StationA__2009-04-21__00-40-00(1).JPG``, the date of ``IMG_20240517_093211.jpg``.

    Args:
        source: a folder (of one folder an individual, or flat), a table (.csv or .xlsx), or a
            Camtrap DP package (its ``datapackage.json``, or the folder with that).
        columns: of a table, its columns by ours, as ``{"identity": "Name"}``; others are guessed.
        detections: MegaDetector's results, JSON: one row an animal, with its box.
        confidence: detections below it do not count.
        stations: a table of stations; folders that are called like one are its photographs.
        day_first: of dates in tables such as 3/4/2025 the day comes first (True) or the month;
            None: as the dates prove.
        flat: the names of folders are no individuals.
        boxes: form of a table's boxes: ``pixels`` (x y w h), ``relative`` or ``corners``.
        zone: of a table's or package's times, those that say their own zone are turned into the
            time of this one, such as ``Africa/Johannesburg``; None: they stay as they are written.

    Returns:
        The catalogue, and a report.

    Raises:
        UserError: the source is no such thing, holds no photograph, or something in it is wrong or
            could mean two things; names file and line.
    """
    place = expanded(source).absolute()
    if place.is_dir() and (place / PACKAGE).is_file():
        place /= PACKAGE
    if not place.exists():
        raise FileError(f"{place} does not exist; expected a folder, a table or a {PACKAGE}")
    _check_options(place, columns=columns, boxes=boxes, flat=flat or None, zone=zone)
    local = read_zone(zone)
    report: list[str] = []
    corners_named = False
    root = place if place.is_dir() else place.parent
    if place.is_dir():
        rows = read_folder(place, flat, report)
    elif place.suffix.lower() == ".json":
        rows = read_package(place, report, local)
        boxes = "relative"
    else:
        rows, corners_named = read_table(place, columns, day_first, report, local)
        if boxes is not None and not any(row.get("bbox") for row in rows):
            report.append(f"boxes {boxes}: not used, as there is no box in the table")
    headers = read_headers(str(root / row["path"]) for row in rows)
    by_path = {row["path"]: headers[str(root / row["path"])] for row in rows}
    rows = _readable(root, rows, by_path, report)
    if stations is not None:
        _use_stations(rows, stations, day_first, report)
    use_names = place.is_dir() or not any("identity" in row for row in rows)
    _complete(rows, by_path, use_names, report)
    sizes = {path: header.size for path, header in by_path.items() if header.size}
    to_pixels(rows, root, sizes, boxes, corners_named, report)
    if detections is not None:
        animals = read_detections(expanded(detections), confidence, report)
        rows = add_boxes(rows, animals, sizes, report)
    nobody = sorted(
        {row["identity"] for row in rows if row.get("identity") and is_nobody(row["identity"])}
    )
    tell(report, nobody, "to be identified, names of nobody")
    rows = [dict.fromkeys(COLUMNS) | row for row in rows]
    problems = [f"{row['path']} {problem}" for row in rows for problem in clean(row)]
    refuse(place, problems or _two_names(rows))
    further = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
    table = as_table(rows, [*further])
    once = table.drop_duplicates([*COLUMNS], ignore_index=True)
    if len(once) < len(table):
        report.append(f"left out, rows that say the same as others: {len(table) - len(once)}")
    known = once["identity"].dropna()
    report.append(
        f"{len(once)} animals in {once['path'].nunique()} photographs: {len(known)} of "
        f"{known.nunique()} individuals, {len(once) - len(known)} to be identified"
    )
    return Imported(once, root, report + oddities(once, root))


def _check_options(place: Path, **given: object) -> None:
    """Refuse a source of another kind, and options that it has no use for."""
    if not place.is_dir() and place.suffix.lower() not in TABLES and place.name != PACKAGE:
        raise UserError(f"{place}: expected a folder, a table ({', '.join(TABLES)}) or a {PACKAGE}")
    kind = "a folder" if place.is_dir() else "a package" if place.name == PACKAGE else "a table"
    of = {"columns": "a table", "boxes": "a table", "flat": "a folder"}
    of["zone"] = "a table or a package"
    wrong = [name for name, value in given.items() if value is not None and kind not in of[name]]
    refuse(place, [f"{name} is for {of[name]}, and this is {kind}" for name in wrong])


def _readable(
    root: Path, rows: list[Row], headers: Mapping[str, Header], report: list[str]
) -> list[Row]:
    """Return the rows whose photograph can be opened."""
    wrong = {path: header.problem for path, header in headers.items() if header.problem}
    if wrong and len(wrong) == len(headers):
        path, problem = next(iter(wrong.items()))
        raise UserError(
            f"{root}: not one of its {len(wrong)} photographs can be opened, for instance "
            f"{root / path}: {problem}"
        )
    missing = [path for path, problem in wrong.items() if problem == "no such file"]
    tell(report, missing, "left out, photographs that are not there")
    broken = [f"{path} ({problem})" for path, problem in wrong.items() if path not in missing]
    tell(report, broken, "left out, photographs that cannot be opened")
    damaged = [
        f"{path} ({header.tag_problem})" for path, header in headers.items() if header.tag_problem
    ]
    tell(report, damaged, "tags not read, in photographs")
    return [row for row in rows if row["path"] not in wrong]


def _use_stations(
    rows: list[Row], file: str | os.PathLike[str], day_first: bool | None, report: list[str]
) -> None:
    """Take cameras from folders that are called like a station, and places from the stations."""
    stations = read_stations(file, day_first)
    places = dict(zip(stations.names, zip(stations.y, stations.x, strict=True), strict=True))
    folders, strange = [], set[str]()
    for row in rows:
        above = [part for part in Path(row["path"]).parts[:-1] if part in places]
        if above and not row.get("camera"):
            row["camera"] = above[-1]
            folders.append(row["path"])
            if row.get("identity") == above[-1]:  # a folder, but not an individual's
                row["identity"] = None
        camera = row.get("camera") or camera_and_time(row["path"])[0]
        if camera and camera not in places:
            strange.add(camera)
        elif camera and stations.degrees and not row.get("latitude"):
            latitude, longitude = places[camera]
            if latitude == latitude:  # else NaN: a station without a place
                row["latitude"], row["longitude"] = f"{latitude:.9g}", f"{longitude:.9g}"
    tell(report, folders, "camera from a folder called like a station, which is no individual")
    near = [f"{name!r}{did_you_mean(name, places)}" for name in sorted(strange)]
    tell(report, near, "cameras that are not among the stations")


def _complete(
    rows: list[Row], headers: Mapping[str, Header], use_names: bool, report: list[str]
) -> None:
    """Add what the photographs and their names say, and tell where two sources disagree.

    Names of individuals only if ``use_names``: what a table leaves open is to be identified.
    """
    sources: dict[str, list[str]] = {"EXIF": [], "names of files": [], "tags": []}
    cameras, times, names, several, unused = [], [], [], [], []
    for row in rows:
        path, header = row["path"], headers[row["path"]]
        camera, time = camera_and_time(path)
        if camera and not row.get("camera"):
            row["camera"] = camera
            cameras.append(path)
        times += _set_date(row, header.date, time, sources)
        if header.latitude and not row.get("latitude"):
            row["latitude"], row["longitude"] = header.latitude, header.longitude
        for name in ("species", "viewpoint"):
            values = header.tags.get(name, [])
            if len(values) == 1 and not row.get(name):
                side = viewpoint_of(values[0]) if name == "viewpoint" else None
                row[name] = side or values[0]
        tags = header.tags.get("identity", [])
        if row.get("identity") and tags and tags != [row["identity"]]:
            names.append(f"{path} (tag {', '.join(tags)}; {row['identity']} is kept)")
        elif tags and not row.get("identity") and not use_names:
            unused.append(f"{path} ({', '.join(tags)})")
        elif len(tags) > 1 and not row.get("identity"):
            several.append(f"{path} ({', '.join(tags)})")
            row["note"] = "; ".join(filter(None, (row.get("note"), f"tags {', '.join(tags)}")))
        elif tags and not row.get("identity"):
            row["identity"] = tags[0]
            sources["tags"].append(path)
    if cameras:
        report.append(f"cameras from the names of files: {len(cameras)}")
    tagged = sources.pop("tags")
    dates = [f"{len(found)} from {name}" for name, found in sources.items() if found]
    if dates:
        report.append(f"dates: {', '.join(dates)}")
    if tagged:
        report.append(f"names of individuals from tags in photographs: {len(tagged)}")
    tell(report, times, "two times")
    tell(report, names, "a tag with another name")
    tell(report, unused, "tags with a name not used, as the table leaves it open")
    tell(report, several, "name left open, photographs with tags of several individuals")


def _set_date(
    row: Row, exif: str | None, file_name: str | None, sources: Mapping[str, list[str]]
) -> list[str]:
    """Set the date of a row, and return where another source says another time."""
    own = row.get("date")
    if own and "T" not in own and exif and exif.startswith(own):
        own = None  # which has the time of day, too
    times = {"source": own, "EXIF": exif, "names of files": file_name}
    known = [(name, time) for name, time in times.items() if time]
    if not known:
        return []
    (first, row["date"]), *others = known
    if first in sources:
        sources[first].append(row["path"])
    return [
        f"{row['path']} ({row['date']}; {name}: {time})"
        for name, time in others
        if _apart(row["date"], time)
    ][:1]


def _apart(one: str, other: str) -> bool:
    """Tell whether two dates differ: by more than a minute, or a day where one has no time."""
    if "T" not in one or "T" not in other:
        return one[:10] != other[:10]
    return abs(datetime.fromisoformat(one) - datetime.fromisoformat(other)) > SLACK


def _two_names(rows: Sequence[Row]) -> list[str]:
    """Return a sentence for each animal that two rows say different things of."""
    first: dict[tuple, Row] = {}
    problems = []
    for row in rows:
        before = first.setdefault((row["path"], row.get("bbox")), row)
        if any(before.get(name) != row.get(name) for name in COLUMNS):
            names = " and ".join(str(one.get("identity") or "nobody") for one in (before, row))
            problems.append(
                f"{row['path']} is in two rows with the same box or none, which differ ({names}); "
                "two animals in one photograph each need a box"
            )
    return problems
