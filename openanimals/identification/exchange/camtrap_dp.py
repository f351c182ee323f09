"""Camtrap DP: names of individuals filled into the user's own data package."""

import logging
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from openanimals.data.image_io import ImageError, image_size
from openanimals.identification.exchange.raw_csv import RawCsv
from openanimals.identification.table_file import some
from openanimals.utils.errors import UserError, naming
from openanimals.utils.files import atomic_path, expanded, is_address, read_json
from openanimals.utils.registry import did_you_mean

logger = logging.getLogger(__name__)

TABLES = ("deployments", "media", "observations")
CLASSIFICATION = ("classificationMethod", "classifiedBy", "classificationTimestamp")
FILLED = ("individualID", "classificationProbability", *CLASSIFICATION)
NEEDED = (
    *("observationID", "mediaID", "deploymentID", "eventStart", "eventEnd"),
    *("observationType", "count"),
)
BOX = ("bboxX", "bboxY", "bboxWidth", "bboxHeight")
NEAR = 0.01  # between two boxes of one animal, of the photograph's width or height


@dataclass(frozen=True)
class Filled:
    """What became of a package.

    Attributes:
        file: the new ``datapackage.json``.
        observations: how many got a name, photographs' and events'.
        changed: how many of these had another one.
        unmatched: photographs with a name for which no observation was found, or not one alone.
    """

    file: Path
    observations: int
    changed: int
    unmatched: list[str]


def fill_camtrap_dp(
    package: str | os.PathLike[str],
    table: pd.DataFrame,
    to: str | os.PathLike[str],
    *,
    by: str,
    root: str | os.PathLike[str] | None = None,
    decimals: int | None = None,
) -> Filled:
    """Write a Camtrap DP package (1.0 to 1.0.2) anew, with individuals in its observations.

    Of an animal that has a name, ``individualID``, ``classificationMethod``, ``classifiedBy``,
    ``classificationTimestamp`` and ``classificationProbability`` are filled in. Every other byte of
    the package's files stays; photographs are not copied. A photograph is found by its path or, if
    only one is called so, by its name; an animal among several of a photograph by its box. An
    observation of an event gets a name where it is the event's only one of an animal, of one
    animal, and all named photographs of the event have that name.

    Args:
        package: ``datapackage.json`` or its folder.
        table: a catalogue (see ``catalogue_file``). Its further column ``probability`` (from 0 to
            1), where there is one and a row has it, makes the method ``machine``, else ``human``.
        to: folder for the new package, not that of the old one.
        by: person or program, for ``classifiedBy``.
        root: folder that the table's paths are relative to; None: that of the package.
        decimals: of latitude and longitude in the deployments; None: all.

    Raises:
        UserError: it is no such package, or a table of it or a probability is wrong.
        FileError: a file cannot be read or written.
    """
    source, descriptor = _descriptor(package)
    target = expanded(to)
    if target.resolve() == source.parent.resolve():
        raise UserError(f"{to} is the folder of the package itself; expected another one")
    resources = {resource.get("name"): resource for resource in descriptor["resources"]}
    tables = {}
    for name in TABLES:
        if name not in resources:
            raise UserError(f"{source} has no resource {name!r}{did_you_mean(name, resources)}")
        tables[name] = _read(source, resources[name])
    media, observations = tables["media"], tables["observations"]
    media.check_columns("mediaID", "deploymentID", "timestamp", "filePath")
    observations.check_columns(*NEEDED, *FILLED)

    home = source.parent if root is None else expanded(root)
    identifiers = _media(table, source.parent, home, media)
    found = _by_photograph(table, home, identifiers, observations)
    found |= _by_event(table, identifiers, media, observations)
    used = {row for rows in found.values() for row in rows}
    unmatched = [str(table["path"].iat[row]) for row in _named(table) if row not in used]
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = observations.column("individualID")
    names = {row: str(table["identity"].iat[rows[0]]) for row, rows in found.items()}
    for row, name in names.items():
        if before[row] != name:
            probability = _probability(table, found[row])
            values = (name, probability, "machine" if probability else "human", by, now)
            for column, value in zip(FILLED, values, strict=True):
                observations.replace(row, column, value)
    if decimals is not None:
        _round(tables["deployments"], decimals)
    _write(source, descriptor, target, {str(t.file): t for t in tables.values()})
    changed = sum(before[row] not in ("", name) for row, name in names.items())
    if changed:
        logger.warning("%d observations had the name of another individual", changed)
    if unmatched:
        logger.warning(
            "%d named photographs have no observation of one animal, or several: %s",
            len(unmatched),
            some(unmatched),
        )
    return Filled(target / source.name, len(found), changed, unmatched)


def _descriptor(package: str | os.PathLike[str]) -> tuple[Path, dict[str, Any]]:
    source = expanded(package)
    source = source / "datapackage.json" if source.is_dir() else source
    with naming(source, "cannot be read"):
        descriptor = read_json(source, "resources")
    profile = str(descriptor.get("profile"))
    if "camtrap-dp/1." not in profile and not profile.endswith("camtrap-dp-profile.json"):
        raise UserError(f"{source} has profile {profile!r}; expected Camtrap DP 1.0 to 1.0.2")
    return source, descriptor


def _local(source: Path, path: Any) -> list[Path]:
    """Return the files of the package that a path in its descriptor names, checked."""
    texts = path if isinstance(path, list) else [path]
    local = [text for text in texts if isinstance(text, str) and not is_address(text)]
    for text in local:
        # The standard forbids it: a package could have any file of the computer copied.
        if PurePosixPath(text).is_absolute() or ".." in PurePosixPath(text).parts:
            raise UserError(f"{source}: path {text!r} leads out of the package")
    return [source.parent / text for text in local]


def _read(source: Path, resource: dict[str, Any]) -> RawCsv:
    files = _local(source, resource.get("path"))
    if len(files) != 1:
        raise UserError(
            f"{source}: {resource['name']} has path {resource.get('path')!r}, expected one file "
            "beside it"
        )
    dialect = resource.get("dialect") or {}
    delimiter = dialect.get("delimiter", ",") if isinstance(dialect, dict) else ","
    return RawCsv(files[0], delimiter, resource.get("encoding", "utf-8"))


def _by_photograph(
    table: pd.DataFrame, root: Path, media: Sequence[str | None], observations: RawCsv
) -> dict[int, list[int]]:
    """Return the row of the table for each observation of a photograph that it names."""
    animals: dict[str, list[int]] = defaultdict(list)
    columns = (observations.column(name) for name in ("mediaID", "observationType"))
    for row, (identifier, kind) in enumerate(zip(*columns, strict=True)):
        if identifier and kind == "animal":
            animals[identifier].append(row)
    boxes, counts = _boxes(observations), observations.column("count")
    imported = table.get("observationID", pd.Series(None, table.index, dtype=object))
    names = observations.column("observationID")
    in_photograph = Counter(table["path"])
    found: dict[int, list[int]] = {}
    for row in _named(table):
        path = str(table["path"].iat[row])
        likely = animals.get(media[row] or "", [])
        if len(likely) > 1 or in_photograph[path] > 1:
            # Without a box, nothing tells which of a photograph's animals a row is.
            box: Any = table["bbox"].iat[row]
            exactly = [
                one for one in likely if names[one] == imported.iat[row] and not pd.isna(box)
            ]
            own = None if exactly else _relative_box(root / path, box)
            likely = exactly or [one for one in likely if own and _near(own, boxes[one])]
        if len(likely) == 1 and counts[likely[0]] in ("", "1") and likely[0] not in found:
            found[likely[0]] = [row]
    return found


def _near(one: Sequence[float], other: Sequence[float] | None) -> bool:
    return other is not None and max(abs(a - b) for a, b in zip(one, other, strict=True)) < NEAR


def _named(table: pd.DataFrame) -> list[int]:
    return [row for row, known in enumerate(table["identity"].notna()) if known]


def _media(table: pd.DataFrame, folder: Path, root: Path, media: RawCsv) -> list[str | None]:
    """Return the mediaID of each row of the table, None where the package has none."""
    identifiers, paths = media.column("mediaID"), media.column("filePath")
    shown = media.column("fileName") if "fileName" in media.names else [""] * len(media)
    places = {
        os.path.abspath(folder / path): identifier
        for path, identifier in zip(paths, identifiers, strict=True)
        if not is_address(path)
    }
    files = [name or PurePosixPath(path).name for name, path in zip(shown, paths, strict=True)]
    number, named = Counter(files), zip(files, identifiers, strict=True)
    alone = {name: identifier for name, identifier in named if number[name] == 1}
    return [
        places.get(os.path.abspath(root / path)) or alone.get(PurePosixPath(path).name)
        for path in table["path"]
    ]


def _boxes(observations: RawCsv) -> list[tuple[float, ...] | None]:
    """Return the box of each observation, relative to its photograph, where it has one."""
    if not {*BOX} <= {*observations.names}:
        return [None] * len(observations)
    found: list[tuple[float, ...] | None] = []
    for texts in zip(*(observations.column(name) for name in BOX), strict=True):
        try:
            found.append(tuple(map(float, texts)))
        except ValueError:
            found.append(None)
    return found


def _relative_box(photograph: Path, box: Any) -> tuple[float, ...] | None:
    if pd.isna(box):
        return None
    try:
        width, height = image_size(photograph)
    except ImageError:
        return None
    numbers = map(float, box.split())
    return tuple(n / size for n, size in zip(numbers, (width, height) * 2, strict=True))


def _by_event(
    table: pd.DataFrame, identifiers: Sequence[str | None], media: RawCsv, observations: RawCsv
) -> dict[int, list[int]]:
    """Return the rows of the table for each observation of an event whose animal they name."""
    named: dict[str | None, list[int]] = defaultdict(list)
    for row in _named(table):
        named[identifiers[row]].append(row)
    taken: dict[str, list[tuple[datetime, list[int]]]] = defaultdict(list)
    columns = zip(*(media.column(n) for n in ("mediaID", "deploymentID", "timestamp")), strict=True)
    for identifier, deployment, timestamp in columns:
        if identifier in named:
            taken[deployment].append((_moment(media, timestamp), named[identifier]))
    events: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    counts = observations.column("count")
    needed = ("mediaID", "observationType", "deploymentID", "eventStart", "eventEnd")
    columns = zip(*(observations.column(name) for name in needed), strict=True)
    for row, (identifier, kind, deployment, start, end) in enumerate(columns):
        if not identifier and kind == "animal":
            events[deployment, start, end].append(row)
    found = {}
    for (deployment, start, end), (first, *others) in events.items():
        span = _moment(observations, start), _moment(observations, end)
        inside = [row for at, rows in taken[deployment] if span[0] <= at <= span[1] for row in rows]
        alone = not others and counts[first] in ("", "1")
        if alone and table["identity"].iloc[inside].nunique() == 1:
            found[first] = inside
    return found


def _moment(table: RawCsv, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    except ValueError:
        raise UserError(
            f"{table.file}: {text!r} is no time; expected one such as 2020-05-30T02:57:37Z"
        ) from None


def _probability(table: pd.DataFrame, rows: Sequence[int]) -> str:
    """Return the least probability of the rows as text, empty where none has one."""
    if "probability" not in table.columns:
        return ""
    values = [value for value in table["probability"].iloc[list(rows)] if not pd.isna(value)]
    for value in values:
        try:
            if not 0 <= float(value) <= 1:
                raise ValueError(value)
        except ValueError:
            raise UserError(f"probability is {value!r}; expected a number from 0 to 1") from None
    return f"{min(map(float, values)):.6g}" if values else ""


def _round(deployments: RawCsv, decimals: int) -> None:
    deployments.check_columns("latitude", "longitude")
    for name in ("latitude", "longitude"):
        for row, text in enumerate(deployments.column(name)):
            try:
                deployments.replace(row, name, str(round(float(text), decimals)))
            except ValueError:
                raise UserError(f"{deployments.file}: {name} {text!r}; expected a number") from None
    logger.warning(
        "positions are rounded in the deployments only: look at coordinatePrecision and spatial in "
        "datapackage.json, too"
    )


def _write(
    source: Path, descriptor: dict[str, Any], target: Path, tables: dict[str, RawCsv]
) -> None:
    """Write the tables, and copy the other files that the descriptor names, and itself last."""
    named = [descriptor.get("profile")]
    for resource in descriptor["resources"]:
        named += [resource.get("path"), resource.get("schema"), resource.get("dialect")]
    files = {file for name in named for file in _local(source, name) if file.is_file()}
    for file in [*sorted(files), source]:
        place = target / file.relative_to(source.parent)
        if str(file) in tables:
            tables[str(file)].write(place)
        else:
            with naming(file, "cannot be copied"), atomic_path(place) as temporary:
                shutil.copyfile(file, temporary)
