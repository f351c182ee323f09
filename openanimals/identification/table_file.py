"""Tables of spreadsheet programs, CSV and .xlsx: those that people make, and those for them.

In what is written text stays text: 007, 3-1, and names like =2+3.
"""

import csv
import logging
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from openanimals.data.datasets.csv_table import csv_lines
from openanimals.utils.errors import FileError, UserError, naming
from openanimals.utils.files import expanded

logger = logging.getLogger(__name__)

# What a spreadsheet shows instead of a value, for instance of a name that begins with =.
FAILED = {"#N/A", "#NAME?", "#REF!", "#VALUE!", "#DIV/0!", "#NUM!", "#NULL!"}
SHOWN = 5  # of many things that a message names; the rest are counted
FORMULA = re.compile(r"'*[=+\-@\t\r]")  # what a spreadsheet takes for a formula, quotes before it
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # not in XML 1.0
WIDTH, NARROW = 18, 11  # of columns of text and of numbers, in letters
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


def write_csv(file: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV in UTF-8 with commas, which opens in a spreadsheet.

    Args:
        file: where to.
        table: columns of floats (NaN is an empty cell; four decimals are written), the others text,
            with a quote before what a spreadsheet would compute: = + - @, in names, too.
    """
    copy = table.copy()
    for name in table.columns:
        if table[name].dtype != float:
            # As objects: texts of pandas cannot have halves of characters, as file names may.
            copy[name] = pd.Series([_guarded(text) for text in table[name]], dtype=object)
    # The mark at the start of the file is what tells Excel that it is UTF-8.
    copy.to_csv(
        file, index=False, encoding="utf-8-sig", errors="backslashreplace", float_format="%.4f"
    )


def write_xlsx(
    file: Path,
    title: str,
    table: pd.DataFrame,
    about: Iterable[tuple[str, str]],
    *,
    widths: Mapping[str, int],
    to_fill: str,
    choices: Sequence[str],
) -> None:
    """Write a table as .xlsx: first line and column stay in view, and every column has a filter.

    Args:
        file: where to.
        title: of the sheet.
        table: columns of floats (NaN is an empty cell), the others text.
        about: lines of a second sheet: label and text.
        widths: of columns, in letters, where they are not as usual.
        to_fill: the column that people write into; it is coloured.
        choices: what its cells offer in a list, kept in a third sheet; any other text may be
            written, too.
    """
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font, PatternFill
    from openpyxl.utils import get_column_letter
    from openpyxl.worksheet.datavalidation import DataValidation

    book = Workbook(write_only=True)  # a line at a time, however many there are
    sheet = book.create_sheet(title)
    for n, name in enumerate(table.columns, 1):
        usual = NARROW if table[name].dtype == float else WIDTH
        sheet.column_dimensions[get_column_letter(n)].width = widths.get(name, usual)
    sheet.freeze_panes = "B2"
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(table.columns))}{len(table) + 1}"
    offered = DataValidation("list", formula1=f"choices!$A$1:$A${len(choices)}", allow_blank=True)
    offered.showErrorMessage = False  # a name that is new
    letter = get_column_letter(list(table.columns).index(to_fill) + 1)
    offered.add(f"{letter}2:{letter}{max(len(table), 1) + 1}")
    sheet.data_validations.append(offered)
    lines = []  # of a heading and of the values: styled once, since styling takes longest
    for heading in (True, False):
        lines.append([WriteOnlyCell(sheet) for _ in table.columns])
        for place, name in zip(lines[-1], table.columns, strict=True):
            # As text also what is still to be typed into it.
            number = table[name].dtype == float and not heading
            place.number_format = "0.000" if number else "@"
            place.font = Font(bold=heading)
            if name == to_fill:
                place.fill = PatternFill("solid", fgColor="FFF2CC")

    def fill(line: list, values: Iterable[Any]) -> list:
        for place, value in zip(line, values, strict=True):
            if isinstance(value, float):
                place.value = None if math.isnan(value) else value
            else:
                place.value = _legible(value) or None
                place.data_type = "s" if value else "n"  # whatever it looks like: =2+3, #N/A
        return line

    sheet.append(fill(lines[0], table.columns))
    for row in table.itertuples(index=False):
        sheet.append(fill(lines[1], row))  # which is written at once
    notes = book.create_sheet("about")
    notes.column_dimensions["A"].width, notes.column_dimensions["B"].width = 30, 100
    line = [WriteOnlyCell(notes), WriteOnlyCell(notes)]
    for pair in about:
        notes.append(fill(line, pair))
    listed = book.create_sheet("choices")
    cell = [WriteOnlyCell(listed)]
    for choice in choices:
        listed.append(fill(cell, [choice]))
    book.save(file)


def _legible(text: str) -> str:
    """Return a text as XML can have it: without control characters and halves of characters."""
    return CONTROL.sub("\ufffd", text.encode("utf-8", "backslashreplace").decode())


def _guarded(text: str) -> str:
    return f"'{text}" if FORMULA.match(text) else text
