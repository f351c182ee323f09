"""The Catalogue: a validated table of images, one row a photograph of one individual."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timezone, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from openanimals.data.masks import is_shape
from openanimals.utils.errors import UserError

REQUIRED = ("path", "identity")
OPTIONAL = ("bbox", "camera", "date", "sequence", "viewpoint", "species", "mask", "split")
COLUMNS = REQUIRED + OPTIONAL
SPELLINGS = {"orientation": "viewpoint"}  # in the tables of others, wildlife-datasets' among them
# Year, sign, month, day, and perhaps hour and the rest of the time.
DATE = re.compile(r"(\d{4})([-/.:])(\d\d?)\2(\d\d?)(?:[Tt _]\s*(\d\d?)(.*))?", re.ASCII)
UNKNOWN = "unknown"  # the identity of animals that nobody has named; in no list of a partition


class CatalogueError(UserError):
    """A catalogue that cannot be used; names the source, the row and what was expected."""


class Catalogue:
    """A table of images and the folder that its paths are relative to.

    Row order is part of a catalogue: the paper's partition is a function of it.

    Args:
        name: the source's name as in a config, for instance ``Animals-HyenaID2022``.
        root: folder that relative paths (of images and masks) start from.
        table: one row an image. ``path`` (POSIX, relative to ``root`` or absolute) and
            ``identity`` are required. The rest of :data:`COLUMNS` is optional: ``bbox`` as four
            numbers (x, y, w, h) in pixels of the upright image; ``date`` as ``YYYY-MM-DD``, with
            a time of day ``YYYY-MM-DDTHH:MM:SS``; ``sequence`` as the name of the burst, video or
            encounter; ``viewpoint`` (or ``orientation``) as any text, of which the words left and
            right count (``utils/viewpoints.py``); ``mask`` as a path or a shape (see
            ``masks.py``); ``split`` as train, query and gallery, or as train and test. A missing
            value is None or NaN. Other columns are dropped.
        cameras_count: whether evaluation leaves out matches by the query's own camera, as the
            benchmarks of persons do. The paper's does not: the cameras in the authors' release of
            animals were only the number of the split, so nothing was ever left out.

    Attributes:
        table: columns :data:`COLUMNS`, values text (``bbox``: a tuple of four floats) or None; and
            ``counted_camera``, the camera where cameras count, else None.

    Raises:
        CatalogueError: a required column is missing, or a row has no path, no identity, a bbox
            that is not four numbers, or a date that names no day.
    """

    def __init__(
        self, name: str, root: str | Path, table: pd.DataFrame, *, cameras_count: bool = True
    ) -> None:
        others = {old: new for old, new in SPELLINGS.items() if new not in table.columns}
        table = table.rename(columns=others)
        missing = [column for column in REQUIRED if column not in table.columns]
        if missing:
            raise CatalogueError(
                f"{name}: no column {' and no column '.join(missing)}; "
                f"the columns are {', '.join(map(str, table.columns)) or '(none)'}"
            )
        self.name = name
        self.root = Path(root)
        columns = {column: self._column(table, column) for column in COLUMNS}
        columns["counted_camera"] = columns["camera"] if cameras_count else [None] * len(table)
        self.table = pd.DataFrame(columns, dtype=object)

    def _column(self, table: pd.DataFrame, column: str) -> list:
        if column not in table.columns:
            return [None] * len(table)
        read, expected = READERS.get(column, (str, "text"))
        values: list = []
        for row, (value, lacks) in enumerate(zip(table[column], table[column].isna(), strict=True)):
            if lacks and column in REQUIRED:
                raise CatalogueError(f"{self.name}: row {row} has no {column}")
            try:
                values.append(None if lacks else read(value))
            except (TypeError, ValueError):
                raise CatalogueError(
                    f"{self.name}: row {row} has {column} {value!r}; expected {expected}"
                ) from None
        return values

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        count = len(set(self.identities))
        return f"Catalogue({self.name!r}, {len(self)} images, {count} identities)"

    @property
    def identities(self) -> list[str]:
        """The identity of each row."""
        return self.table["identity"].tolist()

    def column(self, name: str) -> list:
        """Return a column's values, None where a row has none."""
        return self.table[name].tolist()

    def path(self, row: int) -> Path:
        """Return the path of the image of a row, with the root before it."""
        return self.root / self.table["path"].iat[row]

    def mask(self, row: int) -> str | None:
        """Return the mask of a row, None if it has none: an absolute path, or a shape."""
        return _located(self.root, self.table["mask"].iat[row])

    def select(self, rows: Sequence[int] | np.ndarray) -> "Catalogue":
        """Return the catalogue of the given row positions, in the given order."""
        indices = np.asarray(rows, dtype=np.int64)
        return self.with_table(self.table.iloc[indices].reset_index(drop=True))

    def with_table(self, table: pd.DataFrame) -> "Catalogue":
        """Return the catalogue with another table of the same columns, checked already."""
        other = object.__new__(Catalogue)
        other.name, other.root, other.table = self.name, self.root, table
        return other

    def digest(self) -> str:
        """Return the SHA-256 of all rows' paths, identities and boxes, in row order."""
        keys = self.table[["path", "identity", "bbox"]].values.tolist()
        return hashlib.sha256(json.dumps(keys).encode()).hexdigest()


def concatenate(catalogues: Sequence[Catalogue]) -> Catalogue:
    """Join catalogues for training together; paths become absolute.

    With more than one, identities become ``<source>/<identity>``, so that equal names in two
    species stay two individuals.
    """
    if len(catalogues) == 1:
        return catalogues[0]
    tables = []
    for catalogue in catalogues:
        changed = {
            name: [_located(catalogue.root, file) for file in catalogue.column(name)]
            for name in ("path", "mask")
        }
        changed["identity"] = [f"{catalogue.name}/{value}" for value in catalogue.identities]
        # As objects: left alone, pandas makes NaN of a None among texts.
        tables.append(catalogue.table.assign(**pd.DataFrame(changed, dtype=object)))
    joined = catalogues[0].with_table(pd.concat(tables, ignore_index=True))
    joined.name = " + ".join(catalogue.name for catalogue in catalogues)
    joined.root = Path("/")
    return joined


def iso_date(value: object, zone: tzinfo | None = None) -> str:
    """Return a date, or a date and time, in the form of a catalogue, which has no zones.

    Args:
        value: text, or what has such a text (a date of Python or pandas).
        zone: a time that says its own zone is turned into the time in this one; None: its clock is
            kept.

    Example:
        >>> iso_date("2025-04-01"), iso_date("2025/4/1 9:32Z")
        ('2025-04-01', '2025-04-01T09:32:00')

    Raises:
        ValueError: it is not of the form year-month-day, with or without a time after it.
    """
    written = str(value).strip()
    match = DATE.fullmatch(written.removesuffix("Z"))  # Python 3.10 knows no Z
    if match is None:
        raise ValueError(f"no date: {value!r}")
    year, month, day, hour, rest = match.group(1, 3, 4, 5, 6)
    text = f"{year}-{month:0>2}-{day:0>2}"
    moment = datetime.fromisoformat(f"{text}T{hour:0>2}{rest}" if hour else text)
    if not hour:
        return text
    if written.endswith("Z"):
        moment = moment.replace(tzinfo=timezone.utc)
    if zone and moment.tzinfo:
        moment = moment.astimezone(zone)
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")


def _located(root: Path, file: str | None) -> str | None:
    """Return the absolute path of a file; a shape, which lies in the table itself, as it is."""
    return file if file is None or is_shape(file) else str((root / file).absolute())


def _box(value: Any) -> tuple[float, ...]:
    """Return four floats, NaN where a number is missing, even all (such rows are dropped later)."""
    if any("_" in str(number) for number in value):  # Python's 1_0 is 10
        raise ValueError(value)
    x, y, width, height = map(float, value)
    return x, y, width, height


# Columns that are not plain text: what reads a value, and what that expects.
READERS: dict[str, tuple[Callable, str]] = {
    "bbox": (_box, "four numbers: x, y, width, height"),
    "date": (
        iso_date,
        "year-month-day like 2025-04-01, and after it perhaps a time like T09:32:14 (of 03/04/2025 "
        "nobody can tell whether the day comes first)",
    ),
}
