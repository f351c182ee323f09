"""From the runs of a folder to a table in Markdown and two in CSV, published numbers beside."""

import pandas as pd

from openanimals.utils.errors import FileError
from openanimals.utils.files import read_json, write_text
from reproduce.grid import KNOWN_SPECIES, TABLES, Grid
from reproduce.run import read

METRICS = ["Rank-1", "mAP"]
LIMITS = [f"{metric} {limit}" for metric in METRICS for limit in ("low", "high")]
PUBLISHED = [f"{metric} published" for metric in METRICS]
TEXTS = ["status", "error", "started", "command", "commit", "versions", "device", "schedule"]
RUNS = ["species", "row", "seed", "results on", "protocol", "Rank-1", "Rank-5", "Rank-10"]
RUNS += ["mAP", "mINP", *LIMITS, "seconds", *TEXTS]
HEADLINE = "headline"


def write_tables(grid: Grid) -> None:
    """Write ``<table>.md``, ``<table>.csv`` and ``<table>-runs.csv`` from the runs there are."""
    runs = read_runs(grid)
    lines = aggregate(grid, runs)
    for name, content in (
        (f"{grid.table}.md", _markdown(grid, runs, lines)),
        (f"{grid.table}.csv", lines.to_csv(index=False)),
        (f"{grid.table}-runs.csv", runs.to_csv(index=False)),
    ):
        write_text(grid.output / name, content)


def read_runs(grid: Grid) -> pd.DataFrame:
    """Return a line for each run in the folder, and each test set and protocol of its results."""
    lines = []
    for file in sorted(grid.folder.glob("*/*/seed*/run.json")):
        row, species, seed = file.parts[-4:-1]
        run = dict.fromkeys(TEXTS, "") | read(file.parent)
        run |= {"row": row, "species": species, "seed": int(seed.removeprefix("seed"))}
        results: dict[str, dict] = {"": {}}
        test_set = ""
        if run["status"] == "finished":
            results = read_json(file.parent / "results.json")
            if not results:
                raise FileError(f"{file.parent / 'results.json'} is damaged: it holds no result")
            test_set = next(iter(results))  # the headline
        for name, result in results.items():
            protocol = name.removeprefix(f"{test_set} (").removesuffix(")")
            protocol = HEADLINE if name == test_set else protocol
            line = {**run, **result, "results on": name, "protocol": protocol}
            for metric in METRICS:
                low_high = line.get(f"{metric} interval", (None, None))
                line[f"{metric} low"], line[f"{metric} high"] = low_high
            lines.append(line)
    return pd.DataFrame(lines, columns=RUNS)


def aggregate(grid: Grid, runs: pd.DataFrame) -> pd.DataFrame:
    """Return a line for each species, row and protocol, with mean and deviation over seeds.

    Args:
        grid: the table. What it asks for has a line even without a run; rows that are the same
            show the same runs.
        runs: as read from its folder.
    """
    rows = {row for row, twin in grid.twins.items() if twin in set(runs["row"])} | {*grid.rows}
    species = {*grid.species, *runs["species"]}
    shown = [row for row in grid.twins if row in rows]
    places = [(s, r, grid.twins[r]) for s in KNOWN_SPECIES if s in species for r in shown]
    lines = pd.DataFrame(places, columns=["species", "row", "trained as"])

    runs = runs.rename(columns={"row": "trained as", "results on": "test set"})
    group = ["species", "trained as"]
    groups = runs[runs["status"] == "finished"].groupby([*group, "protocol"], sort=False)
    numbers = groups[[*METRICS, *LIMITS]].mean()
    numbers[[f"{metric} deviation" for metric in METRICS]] = groups[METRICS].std()  # n - 1
    numbers[["test set", "schedule"]] = groups[["test set", "schedule"]].first()
    numbers["seeds"] = groups.size()
    numbers.loc[numbers["seeds"] > 1, LIMITS] = None  # the interval is that of a single seed
    lines = lines.merge(numbers.reset_index(), how="left", on=group)

    once = runs.drop_duplicates([*group, "seed"])
    states = pd.DataFrame({"failed": once["status"] == "failed"})
    states["unfinished"] = ~once["status"].isin(["finished", "failed"])
    states = states.groupby([once["species"], once["trained as"]]).sum()
    lines = lines.merge(states.reset_index(), how="left", on=group)
    counts = ["seeds", "failed", "unfinished"]
    lines[counts] = lines[counts].fillna(0).astype(int)
    lines["protocol"] = lines["protocol"].fillna(HEADLINE)

    published = [
        (name, row, HEADLINE, *numbers)
        for row, facts in TABLES[grid.table]["rows"].items()
        for name, numbers in facts.get("published", {}).items()
    ]
    columns = ["species", "row", "protocol", *PUBLISHED]
    return lines.merge(pd.DataFrame(published, columns=columns), how="left")


def _markdown(grid: Grid, runs: pd.DataFrame, lines: pd.DataFrame) -> str:
    text = [f"# {grid.table}", "", *_explained(grid), ""]
    for species, of_species in lines.groupby("species", sort=False):
        headlines = of_species[of_species["protocol"] == HEADLINE]
        names = ", ".join(headlines["test set"].dropna().unique())
        text += [f"## {species}" + (f" ({names})" if names else ""), ""]
        text += [*_species_table(grid, of_species), ""]
    schedules = lines.dropna(subset="schedule").groupby("schedule", sort=False)
    text += ["## Schedules", ""] if len(schedules) else []
    for schedule, of_schedule in schedules:
        who = (of_schedule["row"] + " on " + of_schedule["species"]).unique()
        text += [f"- {', '.join(who)}: {schedule}"]
    runs = runs.drop_duplicates(["species", "row", "seed"])
    text += ["", "## How it was made", ""]
    for what, facts in (
        ("command", [f"`{command}`" for command in runs["command"] if command]),
        ("commit", " ".join(runs["commit"]).split()),
        ("versions", runs["versions"].tolist()),
        ("device", runs["device"].tolist()),
    ):
        different = "; ".join(filter(None, dict.fromkeys(facts)))
        text += [f"- {what}: {different}"] if different else []
    text += [f"- time: {runs['seconds'].sum() / 3600:.2f} hours in {len(runs)} runs", ""]
    failed = runs[runs["status"] == "failed"]
    text += ["## Failed", ""] if len(failed) else []
    text += [f"- {r.row} on {r.species}, seed {r.seed}: {r.error}" for r in failed.itertuples()]
    return "\n".join([*text, ""])


def _explained(grid: Grid) -> list[str]:
    lines = [
        "Percentages. Several seeds: mean ± standard deviation (n - 1). One seed: [95 % interval, "
        "bootstrap over the individuals of the queries].",
        '"published": arXiv 2410.00204 (ICCV 2025), not measured here.',
        TABLES[grid.table].get("note", ""),
    ]
    if grid.size != "published" or grid.epochs:
        epochs = f" for {grid.epochs} epochs, schedules in proportion" if grid.epochs else ""
        lines.append(
            f"These runs were trained at size {grid.size}{epochs}, so the published numbers are no "
            "measure for them."
        )
    return list(filter(None, lines))


def _species_table(grid: Grid, lines: pd.DataFrame) -> list[str]:
    protocols = lines["protocol"].unique()
    with_published = lines[PUBLISHED].notna().any(axis=None)
    table = []
    for row, of_row in lines.groupby("row", sort=False):
        by_protocol = {line["protocol"]: line for line in of_row.to_dict("records")}
        first = next(iter(by_protocol.values()))
        twin = first["trained as"]
        states = [f"{first[state]} {state}" for state in ("failed", "unfinished") if first[state]]
        cells = {
            "method": row if twin == row else f"{row} (= {twin})",
            "seeds": ", ".join([str(first["seeds"]), *states]),
        }
        for protocol in protocols:
            under = "" if protocol == HEADLINE else f" ({protocol})"
            for metric in METRICS:
                cells[metric + under] = _number(by_protocol.get(protocol), metric)
        if grid.table == "techniques":
            cells["published"] = TABLES[grid.table]["rows"][row]["helps"]
        elif with_published:
            numbers = {name: first[name] for name in PUBLISHED}
            cells |= {n: "–" if pd.isna(value) else f"{value:.2f}" for n, value in numbers.items()}
        table.append(cells)
    columns = list(table[0])
    rows = [columns, ["---"] * len(columns), *([*cells.values()] for cells in table)]
    return [f"| {' | '.join(row)} |" for row in rows]


def _number(line: dict | None, metric: str) -> str:
    if line is None or not line["seeds"]:
        return "failed" if line and line["failed"] else "–"
    if line["seeds"] > 1:
        return f"{line[metric]:.2f} ± {line[f'{metric} deviation']:.2f}"
    return f"{line[metric]:.2f} [{line[f'{metric} low']:.1f}, {line[f'{metric} high']:.1f}]"
