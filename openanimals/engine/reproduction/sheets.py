"""A table as CSV: one file of what it shows, one of the cells behind it."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from openanimals.engine.reproduction.grid import Grid
from openanimals.engine.reproduction.groups import METRICS, Group, deviation, published_numbers
from openanimals.engine.reproduction.records import Record
from openanimals.engine.reproduction.runner import results
from openanimals.utils.files import atomic_path


def write_groups(path: Path, grid: Grid, groups: Iterable[Group]) -> None:
    """Write a line for each row, species and protocol."""
    _write(path, [line for group in groups for line in _group_lines(grid, group)])


def write_cells(path: Path, cells: Iterable[tuple[Path, Record]]) -> None:
    """Write a line for each cell and protocol: numbers, time, command, commit, versions."""
    _write(path, [line for cell in cells for line in _cell_lines(*cell)])


def _group_lines(grid: Grid, group: Group) -> list[dict[str, Any]]:
    """Return the lines of a group, one for each protocol."""
    lines = []
    for protocol in group.protocols() or [""]:
        line: dict[str, Any] = {
            "row": group.row,
            "trained as": grid.twins[group.row],
            "species": group.species,
            "test set": group.test_set,
            "protocol": protocol or "headline",
            "seeds": len(group.values(protocol, METRICS[0])),
            "failed": len(group.failed),
            "unfinished": group.unfinished,
        }
        for metric, number in zip(
            METRICS, published_numbers(grid, group) or (None,) * 2, strict=True
        ):
            values = group.values(protocol, metric)
            low, high = group.interval(protocol, metric) or (None, None)
            line |= {
                metric: mean(values) if values else None,
                f"{metric} deviation": deviation(values),
                f"{metric} low": low,
                f"{metric} high": high,
                f"{metric} published": None if protocol else number,
            }
        lines.append(line | {"schedule": group.schedule()})
    return lines


def _cell_lines(folder: Path, record: Record) -> list[dict[str, Any]]:
    """Return the lines of a cell, one for each protocol."""
    who = {"row": record.row, "species": record.species, "seed": record.seed}
    about = {
        "status": record.status,
        "error": record.error,
        "seconds": round(record.seconds, 1),
        "starts": record.starts,
        "started": record.started,
        "ended": record.ended,
        "commit": " ".join(record.commits),
        "versions": " ".join(f"{name}={version}" for name, version in record.versions.items()),
        "environment": record.environment,
        "schedule": "; ".join(record.schedule),
        "command": record.command,
    }
    entries = (results(folder) if record.status == "finished" else {}) or {"": {}}
    lines = []
    for name, entry in entries.items():
        numbers = {key: entry.get(key) for key in ("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP")}
        for metric in METRICS:
            low, high = entry.get(f"{metric} interval", (None, None))
            numbers |= {f"{metric} low": low, f"{metric} high": high}
        lines.append({**who, "results on": name, **numbers, **about})
    return lines


def _write(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    if not lines:
        return
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
