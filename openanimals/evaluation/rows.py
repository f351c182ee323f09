"""What is known of the images of a test set, and its file: a CSV with the queries first."""

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from openanimals.evaluation.encounters import days

TIED = ("path", "identity", "bbox")  # what features depend on; the digest covers these columns


class SavedResultError(ValueError):
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
        """Write the tables into one CSV file, with a column ``part``."""
        columns = list(self.query.columns)
        # Names of files need not be text, hence the error handler, here and on the way back.
        with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(["part", *columns])
            for part, rows in self.parts().items():
                for row in rows[columns].itertuples(index=False):
                    writer.writerow([part, *map(_as_text, row)])

    @classmethod
    def read(cls, path: Path, name: str, source: str) -> "TestRows":
        """Read the tables again.

        Raises:
            SavedResultError: the file is missing or damaged, or a date that was filled in is none.
        """
        if not path.is_file():
            raise SavedResultError(f"no {path.absolute()}; it belongs to the features beside it")
        csv.field_size_limit(2**31 - 1)  # a mask may lie in the table, with all of its outline
        # Spreadsheets begin a file with a mark that it is UTF-8; "utf-8-sig" skips it.
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            lines = csv.reader(file, strict=True)
            try:
                columns = _checked(next(lines, []))
                rows = [_from_texts(columns, line) for line in lines if line]
                table = pd.DataFrame(rows, columns=columns, dtype=object)
            except (ValueError, TypeError, csv.Error) as error:
                raise SavedResultError(
                    f"{path}, line {lines.line_num}: {error}; expected a table of images with the "
                    f"columns part, {', '.join(TIED)} and what else is known"
                ) from error
        query, gallery = (
            table[table["part"] == part].drop(columns="part").reset_index(drop=True)
            for part in ("query", "gallery")
        )
        return cls(name, source, query, gallery)


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, tuple) else str(value)


def _checked(columns: list[str]) -> list[str]:
    for column in ("part", *TIED):
        if column not in columns:
            raise ValueError(f"no column {column}")
    twice = [column for column in columns if columns.count(column) > 1]
    if twice:
        raise ValueError(f"two columns {twice[0]}")
    return columns


def _from_texts(columns: Sequence[str], line: Sequence[str]) -> list:
    if len(line) != len(columns):
        raise ValueError(f"{len(line)} cells, not {len(columns)} ({', '.join(line[:3])} ...)")
    cells = dict(zip(columns, line, strict=True))
    days([cells.get("date") or None])  # raises
    row: dict[str, object] = {
        column: text if text or column in ("path", "identity") else None
        for column, text in cells.items()
    }
    if row["bbox"] is not None:
        row["bbox"] = tuple(map(float, json.loads(str(row["bbox"]))))
    return list(row.values())


def _tied(rows: pd.DataFrame) -> list[list[str]]:
    # Boxes as text: NaN, which a box may hold, does not equal itself.
    return [list(map(_as_text, row)) for row in rows[list(TIED)].values.tolist()]
