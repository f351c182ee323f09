"""What a run tells: one line each to the console and to log.txt, and tables."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from openanimals.utils.errors import naming

LOGGER = "openanimals"


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
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if log_file is not None and not quiet:
        with naming(log_file):
            log_file.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(logging.FileHandler(log_file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
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
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in ruled
    )
