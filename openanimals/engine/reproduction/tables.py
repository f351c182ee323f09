"""From the cells of a folder to a table in Markdown and two in CSV, published numbers beside."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean

from openanimals.engine.reproduction import published, records
from openanimals.engine.reproduction.grid import TABLES, Grid
from openanimals.engine.reproduction.groups import (
    METRICS,
    Group,
    Groups,
    deviation,
    group_cells,
    published_numbers,
)
from openanimals.engine.reproduction.records import Record
from openanimals.engine.reproduction.sheets import write_cells, write_groups
from openanimals.utils.files import atomic_path

NONE = "–"


def write_tables(grid: Grid, rows: Iterable[str] = (), species: Iterable[str] = ()) -> None:
    """Write ``<table>.md``, ``<table>.csv`` and ``<table>-cells.csv`` from the cells there are.

    Args:
        grid: whose folder is read.
        rows: to show even where they have no cells.
        species: the same.
    """
    order = list(TABLES[grid.table])
    cells = sorted(
        records.read_all(grid.folder),
        key=lambda cell: (cell[1].species, order.index(cell[1].row), cell[1].seed),
    )
    groups = group_cells(grid, cells, set(rows), set(species))
    flat = [group for of_species in groups.values() for group in of_species.values()]
    path = grid.output / grid.table
    with atomic_path(f"{path}.md") as temporary:
        temporary.write_text(_markdown(grid, groups, [r for _, r in cells]), encoding="utf-8")
    write_groups(Path(f"{path}.csv"), grid, flat)
    write_cells(Path(f"{path}-cells.csv"), cells)


def _markdown(grid: Grid, groups: Groups, cells: Sequence[Record]) -> str:
    lines = [f"# {grid.table}", "", *_explained(grid), ""]
    for species, of_rows in groups.items():
        names = dict.fromkeys(group.test_set for group in of_rows.values() if group.runs)
        lines += [f"## {species}" + (f" ({', '.join(names)})" if names else ""), ""]
        lines += [*_species_table(grid, list(of_rows.values())), ""]
    scheduled: dict[str, list[str]] = defaultdict(list)
    for of_rows in groups.values():
        for group in of_rows.values():
            if group.schedule():
                scheduled[group.schedule()].append(f"{group.row} on {group.species}")
    if scheduled:
        lines += ["## Schedules", ""]
        lines += [f"- {', '.join(who)}: {schedule}" for schedule, who in scheduled.items()] + [""]
    lines += ["## How it was made", "", *_provenance(cells), ""]
    failed = [record for record in cells if record.status == "failed"]
    if failed:
        lines += ["## Failed", ""]
        lines += [f"- {r.row} on {r.species}, seed {r.seed}: {r.error}" for r in failed] + [""]
    return "\n".join(lines)


def _explained(grid: Grid) -> list[str]:
    lines = [
        "Percentages. Several seeds: mean ± standard deviation (n - 1). One seed: [95 % interval, "
        "bootstrap over the individuals of the queries]."
    ]
    if grid.table == "techniques":
        lines.append(f'"published": whether it helps on animals, {published.SOURCE}.')
    else:
        lines.append(f'"published": {published.SOURCE}.')
    if grid.size != "published" or grid.epochs:
        lines.append(
            f"These cells were trained at size {grid.size}"
            + (f" for {grid.epochs} epochs, schedules in proportion" if grid.epochs else "")
            + ", so the published numbers are no measure for them."
        )
    if grid.table == "ablation":
        lines.append(
            "The one published row without multi-branch stands beside both versions; the authors' "
            "own file lacks the cosine schedule as well."
        )
    return lines


def _species_table(grid: Grid, groups: Sequence[Group]) -> list[str]:
    protocols = list(dict.fromkeys(p for group in groups for p in group.protocols())) or [""]
    published_columns = _published_columns(grid, groups)
    lines = [["method", "seeds", *(f"{m} ({p})" if p else m for p in protocols for m in METRICS)]]
    for group in groups:
        twin = grid.twins[group.row]
        line = [group.row + (f" (= {twin})" if twin != group.row else ""), group.seeds()]
        line += [_number(group, protocol, metric) for protocol in protocols for metric in METRICS]
        lines.append(line)
    lines = [[*line, *more] for line, more in zip(lines, published_columns, strict=True)]
    lines.insert(1, ["---"] * len(lines[0]))
    return [f"| {' | '.join(line)} |" for line in lines]


def _published_columns(grid: Grid, groups: Sequence[Group]) -> list[list[str]]:
    """Return the cells right of ours, header first; none where nothing was published."""
    if grid.table == "techniques":
        verdicts = [published.VERDICTS[group.row.rpartition("-")[0]] for group in groups]
        return [["published"], *([verdict] for verdict in verdicts)]
    numbers = [published_numbers(grid, group) for group in groups]
    if not any(numbers):
        return [[] for _ in range(len(groups) + 1)]
    head = [f"{metric} published" for metric in METRICS]
    return [head, *([f"{n:.2f}" for n in pair] or [NONE] * len(head) for pair in numbers)]


def _number(group: Group, protocol: str, metric: str) -> str:
    values = group.values(protocol, metric)
    if not values:
        return "failed" if group.failed and not protocol else NONE
    spread = deviation(values)
    if spread is not None:
        return f"{mean(values):.2f} ± {spread:.2f}"
    low, high = group.interval(protocol, metric) or (0.0, 0.0)
    return f"{values[0]:.2f} [{low:.1f}, {high:.1f}]"


def _provenance(cells: Sequence[Record]) -> list[str]:
    """Return what made the cells, each fact once."""
    facts = {
        "command": [f"`{record.tool}`" for record in cells if record.tool],
        "commit": [commit for record in cells for commit in record.commits],
        "versions": [", ".join(f"{k} {v}" for k, v in r.versions.items()) for r in cells],
        "device": [record.environment for record in cells],
    }
    lines = [f"- {what}: {'; '.join(dict.fromkeys(filter(None, f)))}" for what, f in facts.items()]
    hours = sum(record.seconds for record in cells) / 3600
    return [*lines, f"- time: {hours:.2f} hours in {len(cells)} cells"]
