"""The cells of a folder, grouped: all seeds of a row on a species."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import stdev
from typing import Any

from openanimals.engine.reproduction import published
from openanimals.engine.reproduction.grid import TABLES, Grid, known_species
from openanimals.engine.reproduction.records import Record
from openanimals.engine.reproduction.runner import results

METRICS = ("Rank-1", "mAP")
Groups = dict[str, dict[str, "Group"]]
"""By species and row."""


@dataclass
class Group:
    """The seeds of a row on a species.

    Attributes:
        row: as shown; its cells may be those of a twin.
        species: the species.
        runs: records and results of the cells that have finished, by seed.
        failed: records of those that failed.
        unfinished: how many run, or were killed.
    """

    row: str
    species: str
    runs: list[tuple[Record, dict[str, dict[str, Any]]]] = field(default_factory=list)
    failed: list[Record] = field(default_factory=list)
    unfinished: int = 0

    def add(self, folder: Path, record: Record) -> None:
        """Add a cell."""
        entries = results(folder) if record.status == "finished" else {}
        if entries:
            self.runs.append((record, entries))
        elif record.status == "failed":
            self.failed.append(record)
        else:
            self.unfinished += 1

    @property
    def test_set(self) -> str:
        """The name of the test set, "" before a cell has finished."""
        return self.runs[0][0].config["DATASETS.TESTS"][0] if self.runs else ""

    def protocols(self) -> list[str]:
        """Return what the results are under: "" for the headline, "encounter" and the like."""
        found = dict.fromkeys(name for _, entries in self.runs for name in entries)
        return [label for name in found if (label := _label(name, self.test_set)) is not None]

    def values(self, protocol: str, metric: str) -> list[float]:
        """Return the values of a metric, one a seed that has it."""
        return [entry[metric] for entry in self._entries(protocol)]

    def interval(self, protocol: str, metric: str) -> list[float] | None:
        """Return the interval of a single seed, None for several."""
        entries = self._entries(protocol)
        return entries[0][f"{metric} interval"] if len(entries) == 1 else None

    def _entries(self, protocol: str) -> list[dict[str, Any]]:
        name = f"{self.test_set} ({protocol})" if protocol else self.test_set
        return [entries[name] for _, entries in self.runs if name in entries]

    def seeds(self) -> str:
        """Return how many seeds have finished, and what became of others."""
        parts = [str(len(self.runs))]
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        parts += [f"{self.unfinished} unfinished"] if self.unfinished else []
        return ", ".join(parts)

    def schedule(self) -> str:
        """Return the resolved schedule, "" before a cell has finished."""
        return "; ".join(self.runs[0][0].schedule) if self.runs else ""


def group_cells(
    grid: Grid, cells: Iterable[tuple[Path, Record]], rows: set[str], species: set[str]
) -> Groups:
    """Return the groups by species and row, in the order of the grid; twins share their cells."""
    by_place: dict[tuple[str, str], list[tuple[Path, Record]]] = defaultdict(list)
    for folder, record in cells:
        by_place[record.row, record.species].append((folder, record))
    sources = {row for row, _ in by_place}
    rows_shown = [r for r in TABLES[grid.table] if r in rows or grid.twins[r] in sources]
    species_shown = species | {name for _, name in by_place}
    groups: Groups = {}
    for name in [s for s in known_species() if s in species_shown]:
        groups[name] = {row: Group(row, name) for row in rows_shown}
        for row, group in groups[name].items():
            for folder, record in by_place[grid.twins[row], name]:
                group.add(folder, record)
    return groups


def deviation(values: Sequence[float]) -> float | None:
    """Return the standard deviation of a sample (n - 1), None of less than two values."""
    return stdev(values) if len(values) > 1 else None


def published_numbers(grid: Grid, group: Group) -> tuple[float, ...]:
    """Return Rank-1 and mAP, or nothing."""
    return published.NUMBERS[grid.table].get(group.row, {}).get(group.species, ())


def _label(name: str, test_set: str) -> str | None:
    """Return the protocol that an entry of the results names, None if of another test set."""
    if name == test_set:
        return ""
    inner = name.removeprefix(f"{test_set} (")
    return inner[:-1] if inner != name and inner.endswith(")") else None
