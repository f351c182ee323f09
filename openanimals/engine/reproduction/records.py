"""What is known of a cell: cell.json in its folder, written whole at its start and at its end."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from textwrap import shorten
from typing import Any

from openanimals.config import CfgNode
from openanimals.engine.reproduction import provenance
from openanimals.engine.reproduction.grid import Cell, Grid
from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path

FILE = "cell.json"
LONGEST_ERROR = 500  # characters; the whole of it is in the console.txt of the cell

ELSEWHERE = (
    *("OUTPUT_DIR", "DATASETS.ROOT", "DATALOADER.NUM_WORKERS"),
    *("INPUT.CACHE", "INPUT.CACHE_DIR", "INPUT.CACHE_LIMIT"),
)
"""Keys that say where a run is and not what it is: a grid may move to another machine."""

DATA = ("DATASETS.NAMES", "DATASETS.TESTS")
"""Keys that species may differ in, but not the cells of one."""


class GridError(UserError):
    """A folder whose cells are not those that were asked for."""


@dataclass
class Record:
    """The state of a cell.

    Attributes:
        settings: what all cells of a table share: size, epochs, overrides.
        config: each key with its value; empty before they were known.
        command: trains the cell.
        tool: the command line of the tool.
        status: running (or killed while it was), failed or finished.
        error: why it failed.
        seconds: of all its starts.
        starts: how often it was begun or resumed.
        started: when first, as ISO text.
        resumed: when last.
        ended: when it finished or failed.
        commits: of the code at its starts, without repetition; "+" for changes on top.
        versions: of Python and packages, at the last start.
        environment: device and precision, as the run's log has them.
        schedule: the resolved schedule, as the run's log has it.
    """

    table: str
    row: str
    species: str
    seed: int
    settings: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    tool: str = ""
    status: str = "running"
    error: str = ""
    seconds: float = 0.0
    starts: int = 0
    started: str = ""
    resumed: str = ""
    ended: str = ""
    commits: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    environment: str = ""
    schedule: list[str] = field(default_factory=list)


def read(folder: Path) -> Record | None:
    """Return the record of a cell's folder, None if the folder is empty or not there.

    Raises:
        GridError: the folder is not a cell's.
    """
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Record(**{f.name: content[f.name] for f in fields(Record)})
    except FileNotFoundError:
        if folder.is_dir() and any(not file.name.startswith(".") for file in folder.iterdir()):
            raise GridError(
                f"{folder} holds files, but no {FILE}: it is no cell of a grid. Choose another "
                "--output, or move it away"
            ) from None
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise GridError(f"{folder / FILE} is not the record of a cell ({error!r})") from error


def read_all(folder: Path) -> Iterator[tuple[Path, Record]]:
    """Yield the folder and the record of each cell of a table's folder."""
    for file in sorted(folder.glob(f"*/*/*/{FILE}")):
        record = read(file.parent)
        if record:
            yield file.parent, record


def write(folder: Path, record: Record) -> None:
    """Write the record of a cell, whole or not at all."""
    with atomic_path(folder / FILE) as temporary:
        temporary.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")


def check_folder(grid: Grid) -> None:
    """Refuse a folder whose cells were made with other settings.

    Raises:
        GridError: names a cell, and the options and keys that differ.
    """
    now = _by_option(settings_of(grid))
    for folder, record in read_all(grid.folder):
        changes = _changes(_by_option(record.settings), now)
        if changes and _has_trained(folder, record):
            raise GridError(
                f"{folder} was trained with other settings: {changes}. The cells of a table share "
                "theirs: choose another --output"
            )


def check_data(grid: Grid, species: str, cfg: CfgNode) -> None:
    """Refuse data of a species that other cells of it were not trained on.

    Raises:
        GridError: names a cell, its data and ours.
    """
    now = {key: value for key, value in flat(cfg).items() if key in DATA}
    for folder, record in read_all(grid.folder):
        if record.species == species and _has_trained(folder, record):
            changes = _changes({key: record.config[key] for key in DATA}, now)
            if changes:
                raise GridError(
                    f"{folder} was trained on other data: {changes}. The cells of a species share "
                    "theirs: choose another --output"
                )


def check_cell(cell: Cell, record: Record | None) -> None:
    """Refuse a cell whose configuration is wrong, or that was begun as another one.

    Raises:
        ValueError: the configuration is wrong.
        GridError: names the keys that differ.
    """
    now = flat(cell.config)
    if not record or not _has_trained(cell.folder, record):
        return
    known = [key for key in now if key in record.config]  # others are new since
    changes = _changes({k: record.config[k] for k in known}, {k: now[k] for k in known})
    if changes:
        raise GridError(
            f"{cell.folder} was begun with another configuration: {changes}. Choose another "
            f"--output, or give what it was begun with: {record.command}"
        )


def _has_trained(folder: Path, record: Record) -> bool:
    """Tell whether there is anything that could be mixed: not if it failed at once."""
    return record.status == "finished" or any(folder.glob("model_*.pth"))


def settings_in(folder: Path) -> dict[str, Any] | None:
    """Return the settings of the cells of a table's folder, None if there are no cells.

    Those that have trained share theirs; one that failed at once may have had others.
    """
    cells = sorted(read_all(folder), key=lambda cell: not _has_trained(*cell))
    return cells[0][1].settings if cells else None


def settings_of(grid: Grid) -> dict[str, Any]:
    """Return what all cells of a table share, as JSON has it."""
    pairs = zip(grid.overrides[::2], grid.overrides[1::2], strict=True)
    shared = {key: str(value) for key, value in pairs if key not in (*ELSEWHERE, *DATA)}
    return {"size": grid.size, "epochs": grid.epochs, "overrides": shared}


def flat(cfg: CfgNode) -> dict[str, Any]:
    """Return each key that says what a run is with its value, as JSON has them."""
    values = {key: value for key, value in cfg.keys_and_values() if key not in ELSEWHERE}
    return json.loads(json.dumps(values))


def begin(cell: Cell, record: Record | None, settings: dict[str, Any], tool: str) -> Record:
    """Return, and write, the record of a cell that starts now or goes on."""
    record = record or Record(cell.table, cell.row, cell.species, cell.seed, settings)
    _count_killed(cell.folder, record)
    record.status, record.error, record.ended = "running", "", ""
    record.settings, record.config = settings, flat(cell.config)
    record.command, record.tool = cell.command, tool
    record.resumed = _now()
    record.started = record.started or record.resumed
    record.starts += 1
    record.commits = list(dict.fromkeys([*record.commits, provenance.commit()]))
    record.versions = provenance.versions()
    write(cell.folder, record)
    return record


def end(folder: Path, record: Record, error: str = "") -> Record:
    """Return, and write, the record of a cell that has finished, or failed with an error."""
    record.seconds += _seconds(record.resumed, until=datetime.now(timezone.utc).timestamp())
    record.environment, record.schedule = provenance.told_by(folder / "log.txt")
    return _close(folder, record, error)


def fail(folder: Path, record: Record, error: str) -> Record:
    """Return, and write, the record of a cell that could not even start."""
    _count_killed(folder, record)
    return _close(folder, record, error)


def _close(folder: Path, record: Record, error: str) -> Record:
    record.status, record.ended = "failed" if error else "finished", _now()
    record.error = shorten(error, LONGEST_ERROR, placeholder=" ...")
    write(folder, record)
    return record


def _count_killed(folder: Path, record: Record) -> None:
    """Add the time of a start that was killed with its tool: until it last wrote a file."""
    if record.status == "running" and record.resumed:
        last = max(file.stat().st_mtime for file in folder.iterdir())
        record.seconds += _seconds(record.resumed, until=last)


def _seconds(start: str, until: float) -> float:
    return max(0.0, until - datetime.fromisoformat(start).timestamp())


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _by_option(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings by what sets them on the command line."""
    return {
        "--size": settings["size"],
        "--epochs": settings["epochs"],
        **settings["overrides"],
    }


def _changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return in words which values differ, "" if none."""
    return ", ".join(
        f"{key} ({before.get(key, 'unset')} -> {now.get(key, 'unset')})"
        for key in {**before, **now}
        if before.get(key, "unset") != now.get(key, "unset")
    )
