"""What is known of the images of a test set, and its file: Parquet, the queries first.

Boxes are lists of numbers, everything else is text. Names of files need not be text; a column with
one that is not is written as bytes.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from openanimals.evaluation.encounters import days
from openanimals.utils.errors import UserError

TIED = ("path", "identity", "bbox")  # what features depend on; the digest covers these columns


class SavedResultError(UserError):
    """Saved results that cannot be used; names the file and what was expected."""


@dataclass(frozen=True)
class TestRows:
    """What is known of the images of a test set.

    Attributes:
        name: in logs and results.
        source: where the images are from; it decides whether cameras count.
        query: the catalogue's rows of the queries.
        gallery: those of the gallery.
    """

    __test__ = False  # not a pytest class

    name: str
    source: str
    query: pd.DataFrame
    gallery: pd.DataFrame

    def parts(self) -> dict[str, pd.DataFrame]:
        """Return both tables by the name of the part."""
        return {"query": self.query, "gallery": self.gallery}

    def labels(self, column: str) -> tuple[list, list]:
        """Return a column's values of the queries and of the gallery, None where there are none."""
        query, gallery = (
            rows[column].tolist() if column in rows else [None] * len(rows)
            for rows in self.parts().values()
        )
        return query, gallery

    def digest(self) -> str:
        """Return the SHA-256 of all images' paths, identities and boxes, in order."""
        keys = [_tied(rows) for rows in self.parts().values()]
        return hashlib.sha256(json.dumps(keys).encode()).hexdigest()

    def first_difference(self, other: "TestRows") -> str:
        """Say in what another test set differs; empty if features of both are of the same images.

        Example:
            ``query image 3 is a/7.jpg of ada against b/2.jpg of bo``
        """
        theirs = other.parts()
        for part, rows in self.parts().items():
            pairs = list(zip(_tied(rows), _tied(theirs[part]), strict=False))
            for row, (a, b) in enumerate(pairs):
                if a != b:
                    return f"{part} image {row} is {a[0]} of {a[1]} against {b[0]} of {b[1]}"
            if len(rows) != len(theirs[part]):
                return f"{len(rows)} {part} images against {len(theirs[part])}"
        return ""

    def write(self, path: Path) -> None:
        """Write the tables into one Parquet file, with a column ``part``."""
        import pyarrow as pa
        from pyarrow import parquet

        parts = self.parts()
        columns = {"part": _texts([part for part, rows in parts.items() for _ in range(len(rows))])}
        for name in self.query.columns:
            values = [value for rows in parts.values() for value in rows[name].tolist()]
            boxes = name == "bbox"
            columns[name] = pa.array(values, pa.list_(pa.float64())) if boxes else _texts(values)
        parquet.write_table(pa.table(columns), path, write_page_checksum=True)

    @classmethod
    def read(cls, path: Path, name: str, source: str) -> "TestRows":
        """Read the tables again.

        Raises:
            SavedResultError: the file is missing or damaged, or a date that was filled in is none.
        """
        import pyarrow as pa
        from pyarrow import parquet

        if not path.is_file():
            raise SavedResultError(f"no {path.absolute()}; it belongs to the features beside it")
        try:
            with parquet.ParquetFile(path, page_checksum_verification=True) as file:
                table = pd.DataFrame(_columns(file.read()), dtype=object)
        except (pa.ArrowException, OSError, ValueError, TypeError) as error:
            cause = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SavedResultError(
                f"{path}: {cause}; expected a Parquet table of images with the columns part, "
                f"{', '.join(TIED)} and what else is known"
            ) from error
        query, gallery = (
            table[table["part"] == part].drop(columns="part").reset_index(drop=True)
            for part in ("query", "gallery")
        )
        return cls(name, source, query, gallery)


def _texts(values: list[str | None]) -> Any:
    import pyarrow as pa

    # A name that is no text has its odd bytes as surrogates, which this turns into bytes again.
    encoded = [None if v is None else v.encode("utf-8", "surrogateescape") for v in values]
    column = pa.array(encoded, pa.binary())
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        return column


def _columns(table: Any) -> dict[str, list]:
    """Return the values of each column, as they were before they were written.

    Raises:
        ValueError: a column is missing, there twice or of another type, or a date is none.
    """
    names = table.column_names
    for name in ("part", *TIED):
        if name not in names:
            raise UserError(f"no column {name}")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"two columns {twice[0]}")
    columns = {name: _values(name, table[name]) for name in names}
    days(columns.get("date", []))  # raises
    return columns


def _values(name: str, column: Any) -> list:
    import pyarrow as pa

    kind, values = column.type, column.to_pylist()
    if pa.types.is_null(kind):
        return values
    if name == "bbox" and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        # What was not a number, pandas writes as no number.
        return [
            None if box is None else tuple(math.nan if x is None else float(x) for x in box)
            for box in values
        ]
    if name != "bbox" and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return values
    if name != "bbox" and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        return [None if v is None else v.decode("utf-8", "surrogateescape") for v in values]
    expected = "lists of numbers" if name == "bbox" else "text"
    raise UserError(f"the column {name} is of the type {kind}, not {expected}")


def _tied(rows: pd.DataFrame) -> list[list[str]]:
    # Boxes as text: NaN, which a box may hold, does not equal itself.
    return [
        [path, identity, "" if box is None else json.dumps(box)]
        for path, identity, box in rows[list(TIED)].values.tolist()
    ]
