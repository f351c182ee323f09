"""What ``tools/reproduce.py`` does: plan the cells, run those that are left, write the tables."""

import os
from dataclasses import replace
from logging import getLogger
from pathlib import Path

from openanimals.config import CfgNode
from openanimals.engine.reproduction import records
from openanimals.engine.reproduction.grid import Cell, Grid
from openanimals.engine.reproduction.progress import Progress
from openanimals.engine.reproduction.records import GridError, Record
from openanimals.engine.reproduction.request import Request, check_request
from openanimals.engine.reproduction.runner import locked, missing, run_here, run_in_processes
from openanimals.engine.reproduction.tables import write_tables
from openanimals.utils.errors import UserError

logger = getLogger(__name__)


class CellsFailedError(UserError):
    """Some cells failed; the others are done."""


def reproduce(request: Request) -> None:
    """Run the cells that have not finished yet, and write the tables after each.

    Raises:
        ValueError: a mistake in the request or in the configuration; nothing has run then.
        GridError: the folder holds other cells, or is being worked on.
        CellsFailedError: some cells failed; the tables show them, the next call tries them again.
    """
    check_request(request)
    failed = total = 0
    for table in request.tables:
        grid = _grid(request, table)
        grid.check()
        with locked(grid.folder) as lock:
            work = _Work(request, grid)
            work.run(lock)
        failed, total = failed + work.failed, total + work.total
    if failed:
        where = ", ".join(f"{request.output / table}.md" for table in request.tables)
        raise CellsFailedError(f"{failed} of {total} cells failed; see {where}")


def collect(request: Request) -> None:
    """Only write the tables, from the cells that there are; a run may go on meanwhile.

    Size, epochs and overrides are, unless asked for, those that the cells were made with.

    Raises:
        ValueError: a mistake in the request.
        GridError: there are no cells of a table, or they were made with different settings.
    """
    check_request(request)
    for table in request.tables:
        grid = _grid(request, table)
        settings = records.settings_in(grid.folder)
        if settings is None:
            raise GridError(f"no cells in {grid.folder}; run them first, or name their --output")
        if grid == Grid(table, request.output):
            pairs = settings["overrides"].items()
            overrides = tuple(part for pair in pairs for part in pair)
            grid = replace(grid, **{**settings, "overrides": overrides})
        records.check_folder(grid)
        write_tables(grid, request.rows, request.species)
        logger.info("written: %s.md", grid.folder)


def _grid(request: Request, table: str) -> Grid:
    return Grid(table, request.output, request.size, request.epochs, tuple(request.overrides))


class _Work:
    """A table's cells: those that have finished, those to run, those whose data are missing.

    Making it checks them all; nothing is written before.

    Attributes:
        total: cells in all.
        failed: cells that failed in this call.
    """

    def __init__(self, request: Request, grid: Grid) -> None:
        self.request, self.grid = request, grid
        self.rows, self.species = request.rows_of(grid.table), request.species_of(grid.table)
        self.settings = records.settings_of(grid)
        self.records: dict[Path, Record] = {}
        self.done: list[Record] = []
        self.left: list[Cell] = []
        self.blocked: list[tuple[Cell, str]] = []
        self.total = self.failed = 0
        records.check_folder(grid)
        for name in self.species:
            self._add(name)

    def _add(self, species: str) -> None:
        cfg = self.grid.unseeded(self.rows[0], species)
        records.check_data(self.grid, species, cfg)
        images, problem = _training_images(cfg)
        for cell in self.grid.cells(self.rows, species, self.request.seeds, images):
            self.total += 1
            record = records.read(cell.folder)
            if not problem:
                records.check_cell(cell, record)
            if record:
                self.records[cell.folder] = record
            if record and record.status == "finished" and not missing(cell):
                self.done.append(record)
            elif problem:
                self.blocked.append((cell, problem))
            else:
                self.left.append(cell)

    def run(self, lock: int) -> None:
        """Run what is left, and write the tables after each cell.

        Args:
            lock: file descriptor of the lock on the folder.
        """
        gpus = _gpus(self.request.gpus)
        self.progress = Progress(self.left, [(r.row, r.seconds) for r in self.done], len(gpus))
        for leftover in self.grid.output.glob(f".{self.grid.table}*.tmp"):  # of a killed tool
            leftover.unlink(missing_ok=True)
        self._fail_blocked()
        self._write()
        if self.request.size == "smoke":
            run_here(self.left, self._begin, self._end)
        else:
            run_in_processes(self.left, gpus, lock, self._begin, self._end)
        logger.info("written: %s.md", self.grid.folder)

    def _fail_blocked(self) -> None:
        """Say once for each species what is wrong with its data, and note it in all its cells."""
        for problem in dict.fromkeys(problem for _, problem in self.blocked):
            logger.error("cells failed before they started: %s", problem)
        for cell, problem in self.blocked:
            parts = (cell.table, cell.row, cell.species, cell.seed, self.settings)
            records.fail(cell.folder, self.records.get(cell.folder) or Record(*parts), problem)
            self.failed += 1

    def _begin(self, cell: Cell) -> None:
        record = self.records.get(cell.folder)
        command = self.request.command
        self.records[cell.folder] = records.begin(cell, record, self.settings, command)
        self.progress.begin(cell)

    def _end(self, cell: Cell, error: str) -> None:
        record = records.end(cell.folder, self.records[cell.folder], error)
        self.failed += bool(error)
        if self.request.size == "smoke" and not error:
            for weights in cell.folder.glob("model_*.pth"):  # of no use, and many
                weights.unlink()
        self._write()
        self.progress.end(cell, record.seconds, error)

    def _write(self) -> None:
        write_tables(self.grid, self.rows, self.species)


def _training_images(cfg: CfgNode) -> tuple[int, str]:
    """Return how many images training has, or 0 and what is wrong with the data."""
    from openanimals.data.build import load_sets

    try:
        train = load_sets(cfg).train
    except (ValueError, OSError) as error:
        return 0, str(error)
    assert train
    return len(train.images), ""


def _gpus(count: int) -> list[dict[str, str]]:
    """Return, for each cell that runs at once, the environment that gives it a GPU of its own."""
    if not count:
        return [{}]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names[:count]]
