"""Camtrap DP: media, observations and deployments of a data package."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timezone, tzinfo
from pathlib import Path
from typing import Any

from openanimals.data.catalogue import iso_date
from openanimals.identification.dates import tell_zones
from openanimals.identification.importing.report import tell
from openanimals.identification.table_file import read_cells, refuse
from openanimals.utils.errors import FileError, UserError, naming
from openanimals.utils.files import is_address

BOX = ("bboxX", "bboxY", "bboxWidth", "bboxHeight")
Record = Mapping[str, str]


def read_package(
    package: Path, report: list[str], zone: tzinfo | None = None
) -> list[dict[str, Any]]:
    """Return a row for each animal in each photograph of a Camtrap DP package.

    Args:
        package: its ``datapackage.json``; paths in it are relative to its folder.
        report: what is left out is added to it.
        zone: that times are turned into; None: they stay as they are written.

    Returns:
        Rows; ``bbox`` as four shares of the photograph, where there are; and the further columns
        ``mediaID`` and ``observationID``.

    Raises:
        UserError: it is no such package, or a line has no place in it.
    """
    try:
        with naming(package, "cannot be read"):
            resources = json.loads(package.read_text(encoding="utf-8-sig"))["resources"]
        files = {resource["name"]: resource.get("path") for resource in resources}
    except FileError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(
            f"{package}: expected JSON with resources that have a name and a path each"
        ) from None
    tables: dict[str, list[Record]] = {}
    for name in ("deployments", "media", "observations"):
        if not isinstance(files.get(name), str) or is_address(files[name]):
            raise UserError(
                f"{package}: expected a resource {name!r} with the path of a CSV file beside it"
            )
        header, lines = read_cells(package.parent / files[name])
        tables[name] = [dict(zip(header, cells, strict=True)) for _, cells in lines]
    deployments = {record.get("deploymentID"): record for record in tables["deployments"]}
    of_media: dict[str, list[Record]] = defaultdict(list)
    of_deployment: dict[str, list[Record]] = defaultdict(list)
    for record in tables["observations"]:
        if record.get("mediaID"):
            of_media[record["mediaID"]].append(record)
        else:
            of_deployment[record.get("deploymentID", "")].append(record)
    rows: list[dict[str, Any]] = []
    problems, remote, others, empty, open_ones = [], [], [], [], []
    for number, media in enumerate(tables["media"], 2):
        path, name = media.get("filePath", ""), media.get("mediaID", "")
        deployment = deployments.get(media.get("deploymentID"))
        if not path:
            problems.append(f"line {number} has no filePath")
        elif deployment is None:
            unknown = media.get("deploymentID")
            problems.append(f"line {number} has no known deploymentID ({unknown!r})")
        elif is_address(path):
            remote.append(path)
        elif not media.get("fileMediatype", "image/").startswith("image/"):
            others.append(path)
        else:
            observed = of_media.get(name) or _at(media, of_deployment[media["deploymentID"]])
            kinds = [one.get("observationType") for one in observed]
            if kinds and not {*kinds} & {"animal", "unknown", "unclassified"}:
                empty.append(path)
                continue
            pairs = zip(observed, kinds, strict=True)
            animals = [one for one, kind in pairs if kind in ("animal", "unknown")]
            animals, unsure = _apart(animals)
            open_ones += [path] if unsure else []
            rows += [_row(media, deployment, animal, unsure, zone) for animal in animals or [{}]]
    refuse(package.parent / files["media"], problems)
    tell(report, remote, "left out, photographs on the network (download them beside the package)")
    tell(report, others, "left out, files that are no photographs")
    tell(report, empty, "left out, photographs without an animal")
    tell(report, open_ones, "name left open, photographs of several animals without boxes")
    if not rows:
        raise UserError(f"{package}: no photograph with an animal in the package")
    report.append(f"{len(rows)} animals in photographs of {len(deployments)} deployments")
    tell_zones([media.get("timestamp") or "" for media in tables["media"]], zone, report)
    return rows


def _at(media: Record, observed: Sequence[Record]) -> list[Record]:
    """Return the observations of whole events that a photograph lies in."""
    time = _time(media.get("timestamp"), timezone.utc)
    return [
        record
        for record in observed
        if time
        and (_time(record.get("eventStart"), timezone.utc) or "~")
        <= time
        <= (_time(record.get("eventEnd"), timezone.utc) or "")
    ]


def _time(text: str | None, zone: tzinfo | None) -> str | None:
    try:
        return iso_date(text, zone) if text else None
    except ValueError:
        raise UserError(
            f"{text!r} in the package is no time; expected one like 2020-03-01T22:00:00Z"
        ) from None


def _apart(animals: list[Record]) -> tuple[list[Record], bool]:
    """Return the animals that can be told apart by a box; without boxes, only one of them.

    Also whether it is open whom that one is: several are in the photograph.
    """
    boxed = [animal for animal in animals if any(animal.get(name) for name in BOX)]
    if boxed or len(animals) <= 1:
        return boxed or animals, False
    names = {animal.get("individualID") for animal in animals}
    return animals[:1], len(names) > 1


def _row(
    media: Record, deployment: Record, animal: Record, unsure: bool, zone: tzinfo | None
) -> dict[str, Any]:
    box = [animal.get(name, "") for name in BOX]
    values = {
        "path": media["filePath"].replace("\\", "/"),
        "identity": None if unsure else animal.get("individualID"),
        "date": _time(media.get("timestamp"), zone),
        "camera": deployment.get("locationName") or deployment["deploymentID"],
        "sequence": animal.get("eventID"),
        "species": animal.get("scientificName"),
        "bbox": " ".join(value or "?" for value in box) if any(box) else None,
        "latitude": deployment.get("latitude"),
        "longitude": deployment.get("longitude"),
        "mediaID": media.get("mediaID"),
        "observationID": animal.get("observationID"),
    }
    return {name: value or None for name, value in values.items()}
