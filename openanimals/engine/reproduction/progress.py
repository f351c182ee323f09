"""How far a grid is, and how long it will take."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from logging import getLogger
from pathlib import Path
from statistics import mean

from openanimals.engine.reproduction.grid import Cell

logger = getLogger(__name__)


class Progress:
    """Says whenever a cell starts or ends how far the grid is.

    Args:
        left: cells to run.
        done: row and seconds of each cell that had finished before.
        places: how many run at once.
    """

    def __init__(
        self, left: Iterable[Cell], done: Iterable[tuple[str, float]], places: int
    ) -> None:
        self.places = places
        self.left = {cell.folder: cell for cell in left}
        self.running: set[Path] = set()
        self.failed = 0
        self.seconds: dict[str, list[float]] = defaultdict(list)
        for row, seconds in done:
            self.seconds[row].append(seconds)
        logger.info("%s", self.state())

    def begin(self, cell: Cell) -> None:
        """Say that a cell starts."""
        self.running.add(cell.folder)
        logger.info("%s: starts, in %s", cell, cell.folder)

    def end(self, cell: Cell, seconds: float, error: str) -> None:
        """Say how a cell ended (``error`` is "" if well), and how far the grid is."""
        self.running.discard(cell.folder)
        del self.left[cell.folder]
        if error:
            self.failed += 1
        else:
            self.seconds[cell.row].append(seconds)
        outcome = f"failed: {' '.join(error.split())}" if error else "finished"
        logger.info("%s: %s, %s", cell, outcome, timedelta(seconds=round(seconds)))
        logger.info("%s", self.state())

    def state(self) -> str:
        """Return in words how many cells have finished, failed, run and are left."""
        finished = sum(map(len, self.seconds.values()))
        parts = [f"{finished} cells finished"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        parts += [
            f"{len(self.running)} running",
            f"{len(self.left) - len(self.running)} to come",
        ]
        left = self.time_left()
        return ", ".join(parts) + (f", about {left} left" if left is not None else "")

    def time_left(self) -> timedelta | None:
        """Return an estimate from the cells that have finished, those of the same row first.

        A running cell counts in full. None before the first has finished, and after the last.
        """
        if not (self.seconds and self.left):
            return None
        by_row = {row: mean(seconds) for row, seconds in self.seconds.items()}
        usual = mean(second for seconds in self.seconds.values() for second in seconds)
        total = sum(by_row.get(cell.row, usual) for cell in self.left.values())
        return timedelta(seconds=round(total / self.places))
