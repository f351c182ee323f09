"""Tables of any meaning that people make: CSV as their programs write it, and .xlsx."""

import csv
import logging
import os
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from openanimals.data.datasets.csv_table import csv_lines
from openanimals.utils.errors import FileError, UserError, naming
from openanimals.utils.files import expanded

logger = logging.getLogger(__name__)

# What a spreadsheet shows instead of a value, for instance of a name that begins with =.
FAILED = {"#N/A", "#NAME?", "#REF!", "#VALUE!", "#DIV/0!", "#NUM!", "#NULL!"}
SHOWN = 5  # of many things that a message names; the rest are counted
Line = tuple[int, list[str]]  # the number of a line in its file, and its values


def read_cells(file: str | os.PathLike[str]) -> tuple[list[str], list[Line]]:
    """Read a table of any meaning, from CSV or the first sheet of an .xlsx file.

    Args:
        file: CSV in UTF-8 with commas, semicolons or tabs (or as a line ``sep=;`` says), or .xlsx,
            whose dates become ``YYYY-MM-DD[THH:MM:SS]`` and whose 7.0 becomes ``7``.

    Returns:
        The names of the columns, and every line that is not empty: its number as a spreadsheet
        counts, and as many values as there are columns, without spaces around them.

    Raises:
        UserError: there is no such file, it is no such table, or a column has no name or that of
            another.
    """
    location = expanded(file)
    if not location.is_file():
        what = "is no file" if location.exists() else "does not exist"
        raise FileError(f"{location.absolute()} {what}; expected a table, .csv or .xlsx")
    kind = location.suffix.lower()
    if kind in (".xls", ".ods", ".numbers"):
        raise UserError(f"{file}: {kind} is not read; save it as .xlsx or as CSV in UTF-8")
    with naming(location, "cannot be read"):
        found = _xlsx(location) if kind == ".xlsx" else _csv(location)
        lines = [(line, cells) for line, cells in found if any(cells)]
    if not lines:
        raise UserError(f"{file}: the file is empty; expected a first line with names of columns")
    # Spreadsheets like to write empty columns after the last.
    width = max(column for column, name in enumerate(lines[0][1], 1) if name)
    header = lines[0][1][:width]
    problems = [f"column {n} has no name" for n, name in enumerate(header, 1) if not name]
    twice = sorted({name for name in header if name and header.count(name) > 1})
    problems += [f"column {name!r} is there twice" for name in twice]
    for line, cells in lines:
        if len(cells) < width or any(cells[width:]):
            problems.append(f"line {line} has {len(cells)} values instead of {width}")
        failed = [cell for cell in cells if cell in FAILED]
        problems += [f"line {line} has {cell}, an error of the spreadsheet" for cell in failed]
        if "\0" in "".join(cells):
            problems.append(f"line {line} has a NUL character")
    refuse(file, problems)
    return header, [(line, cells[:width]) for line, cells in lines[1:]]


def refuse(file: object, problems: Sequence[str]) -> None:
    """Raise for what is wrong in a file, the first five and the number of the rest.

    Raises:
        UserError: there are problems.
    """
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise UserError(f"{file}: {'; '.join(problems[:SHOWN])}{more}")


def some(items: Sequence[str]) -> str:
    """Return the first five of items as a text, and the number of the rest."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def _csv(location: Path) -> Iterator[Line]:
    try:
        yield from csv_lines(location)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{location}: not UTF-8 text ({error.reason} at byte {error.start}); save the table as "
            "'CSV UTF-8', or as .xlsx"
        ) from None
    except csv.Error as error:
        raise UserError(f"{location}: not a table: {error}") from None


def _xlsx(location: Path) -> Iterator[Line]:
    import openpyxl

    try:
        book = openpyxl.load_workbook(location, read_only=True, data_only=True)
        names, sheet = book.sheetnames, book.worksheets[0]
        sheet.reset_dimensions()  # which other programs write wrongly
        lines = [[_text(value) for value in row] for row in sheet.iter_rows(values_only=True)]
        book.close()
    except Exception as error:  # of zip, XML and what openpyxl finds missing, whichever it is
        raise UserError(f"{location}: cannot be read as a spreadsheet: {error}") from error
    if len(names) > 1:
        logger.warning(
            "%s: of %d sheets only the first is read, %r", location, len(names), names[0]
        )
    width = max(map(len, lines), default=0)
    yield from ((n, cells + [""] * (width - len(cells))) for n, cells in enumerate(lines, 1))


def _text(value: Any) -> str:
    """Return what a cell of a spreadsheet holds in a catalogue's form."""
    if isinstance(value, datetime):
        value = (value + timedelta(seconds=0.5)).replace(microsecond=0)  # kept as parts of a day
        # A day without a time is midnight in a spreadsheet.
        return (value.date() if value.time() == time() else value).isoformat()
    if isinstance(value, time):
        return _text(datetime.combine(date(2000, 1, 1), value))[11:] or "00:00:00"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value).strip()
