"""``csv:FILE``: a table of photographs made by hand, by a spreadsheet or by a script."""

import csv
import difflib
import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from openanimals.data.catalogue import (
    COLUMNS,
    READERS,
    REQUIRED,
    SPELLINGS,
    Catalogue,
    CatalogueError,
)
from openanimals.data.masks import is_shape
from openanimals.utils.files import expanded
from openanimals.utils.registry import did_you_mean

logger = logging.getLogger(__name__)

BBOX_COLUMNS = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
SPLITS = ("train", "query", "gallery", "test")
SHOWN = 5  # wrong lines that an error names; the rest are counted


def read(file: str | Path) -> Catalogue:
    r"""Read a table of photographs.

    The file is UTF-8 text; its first line names the columns, in any case and order; cells are
    separated by commas, semicolons or tabs, whichever the first line has most of, or as a line
    ``sep=;`` before it says. An empty cell is a missing value. Other columns are ignored.

    ============  ===================================================================
    path          required; absolute or relative to the file's folder (``\`` is ``/``)
    identity      required; text, so ``007`` stays ``007``; ``unknown`` is nobody
    bbox          ``x y w h`` in pixels, separated by spaces or commas, brackets
                  allowed; or four columns bbox_x, bbox_y, bbox_w, bbox_h; of
                  four numbers without other commas, commas are decimal ones
    date          year first: ``2025-04-01`` or ``2025-04-01 09:32:14``
    sequence      text: the burst, video or encounter that a photograph belongs to
    viewpoint     (or orientation) text: a side if it says left or right
    mask          a path like the image's, or a shape (see ``data/masks.py``)
    split         train, query or gallery; or train or test
    camera        text; so species
    ============  ===================================================================

    Args:
        file: the file, absolute or relative to the working directory; ``~`` is the home.

    Returns:
        A catalogue called ``csv:<file>``, its root the file's folder, rows in the file's order.

    Raises:
        CatalogueError: no such file, not UTF-8, a column missing or misspelt, wrong cells (with
            their lines), no rows, or not one of the images exists.
    """
    name = f"csv:{file}"
    location = expanded(file)
    header, lines = _cells(name, location)
    columns = _columns(name, header)
    rows, problems = [], []
    for line, cells in lines:
        if len(cells) != len(header):
            problems.append(f"line {line} has {len(cells)} cells instead of {len(header)}")
            continue
        row, wrong = _row(dict(zip(columns, cells, strict=True)))
        problems += [f"line {line} {text}" for text in wrong]
        rows.append(row)
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise CatalogueError(f"{name}: {'; '.join(problems[:SHOWN])}{more}")
    if not rows:
        raise CatalogueError(f"{name}: there is a header but no row; expected one row an image")
    table = pd.DataFrame(rows, dtype=object)
    catalogue = Catalogue(name, location.parent, table, cameras_count=False)
    if not any(catalogue.path(row).is_file() for row in range(len(catalogue))):
        raise CatalogueError(
            f"{name}: none of its {len(catalogue)} images exists, for instance "
            f"{catalogue.path(0).absolute()}; relative paths start from the file's folder"
        )
    return catalogue


def csv_lines(location: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line; see :func:`read` for what separates these.

    The csv module rather than pandas, which forgets the line numbers that errors name. It raises a
    UnicodeDecodeError where the file is not UTF-8, a csv.Error where it is no table of cells.
    """
    with open(location, encoding="utf-8-sig", newline="") as handle:
        first = next(filter(str.strip, handle), "").strip()
        named = re.fullmatch(r"\"?sep=(.)\"?", first, re.IGNORECASE)  # as Excel writes it
        separator = named[1] if named else max(",;\t", key=first.count)
        handle.seek(0)
        csv.field_size_limit(2**31 - 1)  # the outline of a mask may be a long text
        reader = csv.reader(handle, delimiter=separator, strict=True)
        for cells in reader:
            # The line of the separator is split at it, too.
            if not (named and separator.join(cells).lower().strip('"') == f"sep={separator}"):
                yield reader.line_num, [cell.strip() for cell in cells]


def _cells(name: str, location: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header's cells, and the line number and cells of each line that has any."""
    if not location.is_file():
        what = "is a FIFO or device; expected a file"
        if not location.exists():
            what = "does not exist; expected a file with the columns path and identity"
        elif location.is_dir():
            what = f"is a folder; expected a file (for a folder of images write folder:{location})"
        raise CatalogueError(f"{name}: {location.absolute()} {what}")
    try:
        lines = [(number, cells) for number, cells in csv_lines(location) if any(cells)]
    except UnicodeDecodeError as error:
        raise CatalogueError(
            f"{name}: not UTF-8 text ({error.reason} at byte {error.start}); save the table as CSV "
            "in UTF-8 (a spreadsheet, .xlsx or .ods, is not read)"
        ) from None
    except csv.Error as error:
        raise CatalogueError(f"{name}: not a table of cells: {error}") from None
    if not lines:
        raise CatalogueError(f"{name}: the file is empty; expected the columns path and identity")
    return lines[0][1], lines[1:]


def _columns(name: str, header: list[str]) -> list[str]:
    """Return the header in lower case and our spelling, checked."""
    columns = [column.lower() for column in header]
    known = [*COLUMNS, *BBOX_COLUMNS]
    columns = [
        column if SPELLINGS.get(column) in columns else SPELLINGS.get(column, column)
        for column in columns
    ]
    repeated = [column for column, count in Counter(columns).items() if column and count > 1]
    if repeated:
        raise CatalogueError(f"{name}: two columns are called {repeated[0]!r}")
    absent = [column for column in known if column not in columns]
    for column in columns:
        # A strict cutoff, so that columns of the user's own ("site", "name") pass.
        if column not in known and difflib.get_close_matches(column, absent, n=1, cutoff=0.75):
            raise CatalogueError(
                f"{name}: unknown column {column!r}{did_you_mean(column, absent)}; "
                f"known: {', '.join(known)}"
            )
    for column in REQUIRED:
        if column in absent:
            raise CatalogueError(
                f"{name}: no column {column!r}; the columns are {', '.join(header)}"
            )
    boxes = [column for column in BBOX_COLUMNS if column in columns]
    if boxes and (len(boxes) < 4 or "bbox" in columns):
        raise CatalogueError(
            f"{name}: columns {', '.join(boxes)}{' and bbox' if 'bbox' in columns else ''}; "
            f"expected either bbox or all of {', '.join(BBOX_COLUMNS)}"
        )
    return columns


def _row(cells: dict[str, str]) -> tuple[dict[str, object], list[str]]:
    """Return the values of one line by column, and what is wrong with them."""
    row: dict[str, object] = {column: cells.get(column) or None for column in COLUMNS}
    hints = {"identity": " (where nobody knows it, write unknown)"}
    wrong = [f"has no {name}{hints.get(name, '')}" for name in REQUIRED if row[name] is None]
    wrong += [f"has a NUL character in {name}" for name, cell in cells.items() if "\0" in cell]
    for column in ("path", "mask"):
        file = cells.get(column) or None
        # Run lengths have backslashes of their own.
        row[column] = file if file is None or is_shape(file) else file.replace("\\", "/")
    four = [cells.get(column, "") for column in BBOX_COLUMNS]
    box = cells.get("bbox", ";".join(four) if any(four) else "")
    row["bbox"] = (_numbers(box) if all(four) or "bbox" in cells else four) if box else None
    for column, text in (("bbox", box), ("date", cells.get("date"))):
        read, expected = READERS[column]
        try:
            if row[column] is not None:
                read(row[column])
        except ValueError:
            wrong.append(f"has {column} {text!r}, expected {expected}")
    if row["split"] is not None and row["split"] not in SPLITS:
        wrong.append(
            f"has split {cells['split']!r}{did_you_mean(cells['split'], SPLITS)}, "
            f"expected {', '.join(SPLITS)} or nothing"
        )
    return row, wrong


def _numbers(box: str) -> list[str]:
    """Return the numbers of a box as text, without brackets and the words that numpy puts around.

    Commas are decimal ones where there are four numbers without them: ``1,5 2 20,5 15``.
    """
    bare = re.sub(r"\b(array|tensor|dtype=[\w.]+|(np|numpy)\.\w+)|[\[\]()]", " ", box)
    parts = re.split(r"[\s;]+", bare.strip()) if re.search(r"\d,\d", bare) else []
    if len(parts) == 3:  # else one decimal comma would make four of them
        return parts
    if len(parts) == 4 and all(re.fullmatch(r"[^,]*|-?\d+,(?!\d{3}$)\d+", part) for part in parts):
        return [part.replace(",", ".") for part in parts]
    return re.findall(r"[^\s,;]+", bare)
