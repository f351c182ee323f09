"""Tables for spreadsheet programs, in which text stays text: 007, 3-1, and names like =2+3."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

FORMULA = re.compile(r"'*[=+\-@\t\r]")  # what a spreadsheet takes for a formula, quotes before it
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # not in XML 1.0
WIDTH, NARROW = 18, 11  # of columns of text and of numbers, in letters


def guarded(text: str) -> str:
    """Return a text as a CSV file has it: with a quote before what would be a formula.

    Spreadsheets compute what begins with ``=``, ``+``, ``-`` or ``@``, in names, too.
    """
    return f"'{text}" if FORMULA.match(text) else text


def write_csv(file: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV in UTF-8 with commas, which opens in a spreadsheet.

    Args:
        file: where to.
        table: columns of floats (NaN is an empty cell; four decimals are written), the others text,
            which is :func:`guarded`.
    """
    copy = table.copy()
    for name in table.columns:
        if table[name].dtype != float:
            # As objects: texts of pandas cannot have halves of characters, as file names may.
            copy[name] = pd.Series([guarded(text) for text in table[name]], dtype=object)
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
) -> None:
    """Write a table as .xlsx: first line and column stay in view, and every column has a filter.

    Args:
        file: where to.
        title: of the sheet.
        table: columns of floats (NaN is an empty cell), the others text.
        about: lines of a second sheet: label and text.
        widths: of columns, in letters, where they are not as usual.
        to_fill: the column that people write into; it is coloured.
    """
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font, PatternFill
    from openpyxl.utils import get_column_letter

    book = Workbook(write_only=True)  # a line at a time, however many there are
    sheet = book.create_sheet(title)
    for n, name in enumerate(table.columns, 1):
        usual = NARROW if table[name].dtype == float else WIDTH
        sheet.column_dimensions[get_column_letter(n)].width = widths.get(name, usual)
    sheet.freeze_panes = "B2"
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(table.columns))}{len(table) + 1}"
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
    book.save(file)


def _legible(text: str) -> str:
    """Return a text as XML can have it: without control characters and halves of characters."""
    return CONTROL.sub("\ufffd", text.encode("utf-8", "backslashreplace").decode())
