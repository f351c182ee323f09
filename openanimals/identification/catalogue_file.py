"""The catalogue as one file that opens in a spreadsheet: a line an animal in a photograph."""

import difflib
import math
import os
import re
from collections.abc import Callable, Collection, Hashable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from openanimals.data.catalogue import READERS, UNKNOWN, Catalogue, iso_date
from openanimals.data.masks import is_shape
from openanimals.data.names import is_nobody
from openanimals.identification.table_file import read_cells, refuse
from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path, expanded
from openanimals.utils.registry import did_you_mean

COLUMNS = (
    *("path", "identity", "date", "camera", "sequence", "viewpoint", "species", "bbox", "mask"),
    *("latitude", "longitude", "note"),
)


def read_catalogue(file: str | os.PathLike[str]) -> pd.DataFrame:
    r"""Read a catalogue.

    The columns (in any case and order) are those of :data:`COLUMNS`, of which only ``path`` must be
    there; further ones are kept, after these. An empty identity, and a name of nobody such as
    ``unknown`` or ``?``, is None: an animal to be identified. ``\`` in paths becomes ``/``.

    Args:
        file: CSV in UTF-8 with commas, semicolons or tabs (or as a line ``sep=;`` says), or .xlsx;
            paths in it are relative to its folder.

    Returns:
        Text, or None where a value is not known; ``date`` as ``YYYY-MM-DD`` or
        ``YYYY-MM-DDTHH:MM:SS``, ``bbox`` as ``x y w h``.

    Raises:
        UserError: there is no such file, it is no such table, or values in it are wrong: the first
            five lines of these, and the number of the rest.
    """
    header, lines = read_cells(file)
    names = _known_columns(file, header)
    problems: list[str] = []
    rows = []
    for line, cells in lines:
        row: dict[str, str | None] = dict.fromkeys(COLUMNS)
        row |= {name: cell or None for name, cell in zip(names, cells, strict=True)}
        problems += [f"line {line} {problem}" for problem in clean(row)]
        rows.append(row)
    table = as_table(rows, [name for name in names if name not in COLUMNS])
    if not problems:
        problems = _repeated(table, [f"line {line}" for line, _ in lines])
    refuse(file, problems)
    return table


def as_table(rows: Sequence[dict[str, Any]], further: Sequence[str] = ()) -> pd.DataFrame:
    """Return rows as a catalogue's table: all of :data:`COLUMNS`, then further ones."""
    return pd.DataFrame(
        {
            name: pd.Series([row.get(name) for row in rows], dtype=object)
            for name in (*COLUMNS, *further)
        }
    )


def write_catalogue(file: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Write a catalogue as CSV in UTF-8 with commas, which opens in a spreadsheet.

    Args:
        file: its name ends in ``.csv``.
        table: columns of :data:`COLUMNS`, in any order, and further ones; paths relative to the
            folder of ``file``, or absolute (see :func:`rebase`).

    Raises:
        UserError: the name ends otherwise, or two rows are the same animal in a photograph.
        FileError: the file cannot be written.
    """
    if Path(file).suffix.lower() != ".csv":
        raise UserError(f"{file}: a catalogue is written as CSV; expected a name that ends in .csv")
    annotation_ids(table)
    columns = [*COLUMNS, *(name for name in table.columns if name not in COLUMNS)]
    with atomic_path(expanded(file)) as temporary:
        # The mark at the start of the file is what tells Excel that it is UTF-8.
        table.reindex(columns=columns).to_csv(temporary, index=False, encoding="utf-8-sig")


def annotation_ids(table: pd.DataFrame) -> list[str]:
    """Return the name of each row, which is one animal in one photograph.

    Returns:
        ``path``, or ``path#x,y,w,h`` where the row has a box.

    Raises:
        UserError: two rows have the same.
    """
    refuse("the catalogue", _repeated(table, [f"row {row + 1}" for row in range(len(table))]))
    return _ids(table)


def find_annotations(named: Sequence[str], ids: Collection[str], where: str) -> list[str]:
    """Return the rows that a person names: by their name, or the path if only one row has it.

    Args:
        named: what was given.
        ids: the names of all rows, see :func:`annotation_ids`.
        where: what the rows are of, for the error.

    Raises:
        UserError: no row is called so, or several are.
    """
    found = []
    for name in named:
        own = [name] if name in ids else [each for each in ids if each.startswith(f"{name}#")]
        if not own:
            hint = did_you_mean(name, [each.rpartition("#")[0] or each for each in ids])
            raise UserError(f"{where} has no photograph {name!r}{hint}")
        if len(own) > 1:
            raise UserError(f"{name} shows {len(own)} animals: {', '.join(own)}; say which")
        found += own
    return found


def as_catalogue(table: pd.DataFrame, root: str | Path) -> Catalogue:
    """Return a table as the :class:`Catalogue` that everything below identification takes.

    Its rows are in the same order; identity is ``unknown`` where it is not known.
    """
    others = {"identity": table["identity"].where(table["identity"].notna(), UNKNOWN)}
    others["bbox"] = pd.Series([_numbers(box) for box in table["bbox"]], table.index, dtype=object)
    return Catalogue(f"catalogue in {root}", root, table.assign(**others), cameras_count=False)


def from_catalogue(catalogue: Catalogue) -> pd.DataFrame:
    """Return a data set's catalogue as such a table, with absolute paths."""
    boxes = catalogue.column("bbox")
    table = catalogue.table.assign(
        path=[str(catalogue.path(row).absolute()) for row in range(len(catalogue))],
        mask=[catalogue.mask(row) for row in range(len(catalogue))],
        bbox=[box and " ".join(f"{number:g}" for number in box) for box in boxes],
        identity=[None if name == UNKNOWN else name for name in catalogue.identities],
    )
    return as_table(table.to_dict("records"))


def rebase(
    table: pd.DataFrame, root: str | os.PathLike[str], folder: str | os.PathLike[str]
) -> pd.DataFrame:
    """Return a table whose paths start from another folder: that of the file that it goes into.

    Args:
        table: with the columns ``path`` and ``mask``.
        root: folder that its paths are relative to.
        folder: folder that they shall be relative to; those that do not lie below become absolute.
    """
    start, end = (Path(os.path.abspath(expanded(place))) for place in (root, folder))

    def moved(text: Any) -> Any:
        if pd.isna(text) or is_shape(text):
            return text
        place = Path(os.path.normpath(start / text))
        return (place.relative_to(end) if place.is_relative_to(end) else place).as_posix()

    changed = {name: [moved(text) for text in table[name]] for name in ("path", "mask")}
    return table.assign(
        **{name: pd.Series(texts, table.index, dtype=object) for name, texts in changed.items()}
    )


def _known_columns(file: object, header: Sequence[str]) -> list[str]:
    """Return the header with our columns in lower case, checked."""
    names = [name.lower() if name.lower() in COLUMNS else name for name in header]
    names = [
        "viewpoint" if name.lower() == "orientation" and "viewpoint" not in names else name
        for name in names
    ]
    absent = [name for name in COLUMNS if name not in names and name != "note"]
    problems = [f"column {name!r} is there twice" for name in COLUMNS if names.count(name) > 1]
    for name in names:
        close = difflib.get_close_matches(name.lower(), absent, n=1, cutoff=0.75)
        if close and name not in COLUMNS:
            problems.append(f"column {name!r} (did you mean {close[0]!r}? if not, rename it)")
    if "path" in absent and not problems:
        problems.append(
            f"no column 'path'; the columns are {', '.join(header)} (of any table of photographs, "
            "openanimals import makes a catalogue)"
        )
    refuse(file, problems)
    return names


def clean(row: dict[str, Any]) -> list[str]:
    """Bring a row's values into a catalogue's form, in place; return what is wrong."""
    wrong = [] if row["path"] else ["has no path"]
    for name in ("path", "mask"):
        if row[name] and not is_shape(row[name]):
            row[name] = row[name].replace("\\", "/")
    if row["identity"] is not None and is_nobody(row["identity"]):
        row["identity"] = None
    for name, (read, expected) in _READERS.items():
        if row[name] is not None:
            try:
                row[name] = read(row[name])
            except ValueError:
                wrong.append(f"has {name} {row[name]!r}, expected {expected}")
    return wrong


def _numbers(box: str | None) -> tuple[float, ...] | None:
    return None if box is None or box != box else tuple(map(float, box.split()))


def box_numbers(text: str) -> list[str]:
    """Return the numbers of a box as text; commas are decimal ones where spaces part all four."""
    parts = re.findall(r"[^\s;()\[\]]+", text)
    if len(parts) == 4 and not any(part.endswith(",") for part in parts):
        return [part.replace(",", ".") for part in parts]
    return re.findall(r"[^\s,;()\[\]]+", text)


def _box(text: str) -> str:
    """Return a box as four numbers with spaces between; raise ValueError where it is none."""
    x, y, width, height = map(float, parts := box_numbers(text))
    if not (math.isfinite(x + y + width + height) and width > 0 and height > 0) or "_" in text:
        raise ValueError(text)
    return " ".join(parts)


def _degrees(most: float) -> Callable[[str], str]:
    def read(text: str) -> str:
        text = text.replace(",", ".")  # decimal comma
        if not abs(float(text)) <= most:
            raise ValueError(text)
        return text

    return read


_READERS: dict[str, tuple[Callable[[str], str], str]] = {
    "date": (iso_date, READERS["date"][1]),
    "bbox": (_box, "four numbers in pixels: x y width height"),
    "latitude": (_degrees(90), "degrees from -90 to 90"),
    "longitude": (_degrees(180), "degrees from -180 to 180"),
}


def _ids(table: pd.DataFrame) -> list[str]:
    boxes = [_numbers(box) for box in table["bbox"]]
    return [
        path if box is None else f"{path}#{','.join(f'{number:g}' for number in box)}"
        for path, box in zip(table["path"], boxes, strict=True)
    ]


def _repeated(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Return a sentence for each row that is the same photograph and box as one before it."""
    first: dict[Hashable, str] = {}
    return [
        f"{name} and {before} are both {own} (two animals in one photograph each need a bbox)"
        for name, own in zip(names, _ids(table), strict=True)
        if (before := first.setdefault(own, name)) != name
    ]
