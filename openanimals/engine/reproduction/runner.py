"""Runs cells, each in a process of its own, or one after another in this one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from openanimals.engine.reproduction import leash
from openanimals.engine.reproduction.grid import Cell
from openanimals.engine.reproduction.records import GridError
from openanimals.utils.files import atomic_path
from openanimals.utils.logging import set_up_logging

CONFIG = "config.yaml"  # which the run writes again, the same
CONSOLE = "console.txt"
RESULTS = "results.json"
POLL = 0.1  # seconds between looks at the processes
PATIENCE = 10.0  # seconds that a lock may outlive a tool that was killed: its processes end, too

Begin = Callable[[Cell], None]
End = Callable[[Cell, str], None]


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Keep a folder for this process and those that get the file descriptor.

    Raises:
        GridError: another one has it.
    """
    import fcntl  # POSIX only, as all of this file

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as file:
        late = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > late:
                    raise GridError(
                        f"{folder} is being worked on by another tools/reproduce.py; to see its "
                        "tables use --collect, to share the work choose another --output"
                    ) from None
                time.sleep(POLL)
        yield file.fileno()


def run_in_processes(
    cells: Sequence[Cell],
    environments: Sequence[dict[str, str]],
    lock: int,
    begin: Begin,
    end: End,
) -> None:
    """Run cells in processes, as many at once as there are environments.

    None of them outlives this process; see leash.py.

    Args:
        cells: to run, in order.
        environments: variables that are set for the processes of each place.
        lock: file descriptor that the processes hold as well.
        begin: called before a cell starts.
        end: called when it has ended, with what it failed of, or "".
    """
    waiting, running = deque(cells), dict[int, _Job]()
    try:
        while waiting or running:
            for place, environment in enumerate(environments):
                if waiting and place not in running:
                    cell = waiting.popleft()
                    begin(cell)
                    running[place] = _Job(cell, environment, lock)
            time.sleep(POLL)
            for place, job in list(running.items()):
                if job.process.poll() is not None:
                    del running[place]
                    end(job.cell, job.error())
    finally:
        for job in running.values():
            job.stop()


class _Job:
    """A cell that runs in a process group of its own; its console goes to a file."""

    def __init__(self, cell: Cell, environment: dict[str, str], lock: int) -> None:
        self.cell = cell
        # Not the files it was made of: one may have been changed since the grid was planned.
        config = cell.folder / CONFIG
        with atomic_path(config) as temporary:
            temporary.write_text(cell.config.dump(), encoding="utf-8")
        arguments = ["train", "--resume", "--config-file", str(config)]
        with open(cell.folder / CONSOLE, "wb") as console:
            self.process = subprocess.Popen(
                [sys.executable, leash.__file__, *arguments],
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock,),
                env={**os.environ, **environment},
            )

    def error(self) -> str:
        """Return what the process, which has ended, failed of, or ""."""
        self.stop()
        code = self.process.returncode
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return _last_error(self.cell.folder / CONSOLE, code) if code else missing(self.cell)

    def stop(self) -> None:
        """Let go of the leash, and wait for the process to end of it."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def run_here(cells: Sequence[Cell], begin: Begin, end: End) -> None:
    """Run cells one after another in this process; arguments as for :func:`run_in_processes`."""
    from openanimals.engine.train import train

    for cell in cells:
        begin(cell)
        error = ""
        try:
            with (
                open(cell.folder / CONSOLE, "w", encoding="utf-8") as console,
                redirect_stdout(console),
                redirect_stderr(console),
            ):
                train(cell.config, resume=True)
        except Exception as cause:  # whatever it was, the other cells go on
            error = f"{type(cause).__name__}: {cause}"
        set_up_logging()  # the run has sent the log to its own folder
        end(cell, error or missing(cell))


def missing(cell: Cell) -> str:
    """Return what a cell that has ended lacks, or "" if its results are there."""
    name = cell.config.DATASETS.TESTS[0]
    return "" if name in results(cell.folder) else f"no results on {name} in {cell.folder}"


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the results of a run by test set and protocol; none before it has ended.

    Raises:
        GridError: the file is damaged.
    """
    file = folder / RESULTS
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise GridError(
            f"{file} is damaged ({error}); delete it, and the cell is evaluated again"
        ) from error


def _last_error(console: Path, code: int) -> str:
    """Return the message of ``error: ...`` at the end of a console's text, else its last line."""
    lines = console.read_text(encoding="utf-8", errors="replace").splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    told = lines[starts[-1] :] if starts else [line for line in lines if line.strip()][-1:]
    return "\n".join(told).removeprefix("error: ") or f"exit status {code}"
