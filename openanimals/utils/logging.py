"""What a run tells: one line each to the console and to log.txt, and tables."""

import io
import logging
import os
import re
import sys
from collections.abc import Sequence
from copy import copy
from pathlib import Path

from openanimals.utils.errors import naming

LOGGER = "openanimals"
# What steers a terminal, breaks a line, turns the direction of writing, or is no letter at all.
CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str, keep: str = "") -> str:
    """Return a text with its control characters written as escapes, but for those to keep."""
    return CONTROL.sub(
        lambda found: found[0] if found[0] in keep else found[0].encode("unicode_escape").decode(),
        text,
    )


def entry(text: str) -> str:
    """Return a text as an entry whose further lines, being indented, cannot pass for others."""
    return visible(text, keep="\n\t").replace("\n", "\n  ")


class Formatter(logging.Formatter):
    """Time and message; whatever a name holds, it begins no line of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Return the entry; only a message that breaks lines itself may have values that do."""
        given = record.args
        if (
            isinstance(given, tuple)
            and "\n" not in str(record.msg)
            and record.name != "py.warnings"
        ):
            record = copy(record)
            record.args = tuple(
                visible(str(value)) if isinstance(value, str | os.PathLike) else value
                for value in given
            )
        return entry(super().format(record))


def set_up_logging(log_file: Path | None = None, quiet: bool = False) -> None:
    """Send the package's log to the console and, if named, to the end of a file.

    Args:
        log_file: created with its folder if need be.
        quiet: only warnings and errors (for all processes but the first).

    Raises:
        FileError: the log file cannot be written.
    """
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False
    close_logging()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack letters of a name
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if log_file is not None and not quiet:
        with naming(log_file):
            log_file.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(logging.FileHandler(log_file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(Formatter())
        logger.addHandler(handler)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers = handlers


def close_logging() -> None:
    """Take the handlers off again and close their files."""
    logger = logging.getLogger(LOGGER)
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text in aligned columns; the first is the header, the first column is left.

    Example:
        >>> print(table([["part", "images"], ["train", "1535"]]))
        part   images
        -----  ------
        train    1535
    """
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in ruled
    )
