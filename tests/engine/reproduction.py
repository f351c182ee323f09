"""What the tests of tools/reproduce.py share: options, cells never trained, reading tables."""

import csv
import json
from pathlib import Path

from openanimals.engine.reproduction import records
from openanimals.engine.reproduction.grid import Grid


def options(**given):
    """The options of the verb, as argparse has them."""
    usual = {"table": None, "species": [], "methods": [], "seeds": None, "output": "out"}
    usual |= {"size": "published", "epochs": 0, "gpus": 0, "smoke": False, "opts": []}
    return usual | given


def result(rank_1: float, mean_ap: float) -> dict:
    """What results.json says of a test set."""
    return {
        "Rank-1": rank_1,
        "mAP": mean_ap,
        "Rank-1 interval": [rank_1 - 10, rank_1 + 10],
        "mAP interval": [mean_ap - 5, mean_ap + 5],
    }


def write_results(cfg, rank_1: float, mean_ap: float, **others) -> None:
    """Write results.json as a run does; others are by protocol."""
    (name,) = cfg.DATASETS.TESTS
    entries = {name: result(rank_1, mean_ap)}
    entries |= {f"{name} ({protocol})": result(*pair) for protocol, pair in others.items()}
    Path(cfg.OUTPUT_DIR, "results.json").write_text(json.dumps(entries))


def finish(grid: Grid, row: str, species: str, seed: int, *numbers: float, **others) -> Path:
    """Leave a finished cell, as if it had been trained; return its folder."""
    cell = list(grid.cells([row], species, seed + 1, 100))[seed]
    record = records.begin(cell, None, records.settings_of(grid), "python tools/reproduce.py")
    write_results(cell.config, *numbers, **others)
    (cell.folder / "log.txt").write_text(
        "10:00:00 Python 3.12, torch 2, cpu\n10:00:00 schedule: 120 epochs of 23 iterations\n"
    )
    records.end(cell.folder, record)
    return cell.folder


def rows_of(path, heading):
    """The Markdown table under a heading, as lists of cells without its rule."""
    part = path.read_text().split(f"## {heading}")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if "--" not in line
    ]


def read_csv(path):
    """The lines of a CSV file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
