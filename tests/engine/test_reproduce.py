"""The tool on cells whose training is a stand-in: what runs, what is refused, what is shown."""

import csv
import json
import os
import re
import statistics
import sys

import pytest

from openanimals.cli import main
from openanimals.engine import run as engine_run
from openanimals.engine.reproduction import records, runner
from openanimals.engine.reproduction import reproduce as tool
from openanimals.engine.reproduction.grid import Grid
from openanimals.engine.reproduction.records import GridError
from openanimals.engine.reproduction.reproduce import CellsFailedError, collect, reproduce
from openanimals.engine.reproduction.request import Request
from openanimals.engine.reproduction.runner import locked
from openanimals.engine.reproduction.tables import write_tables
from tests.engine.reproduction import finish, write_results


def rows_of(path, heading):
    """The Markdown table under a heading, as lists of cells without its rule."""
    part = path.read_text().split(f"## {heading}")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if "--" not in line
    ]


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# Tables


def test_mean_and_deviation_beside_the_published(tmp_path):
    grid = Grid("main", tmp_path)
    for seed, pair in enumerate([(70.0, 40.0), (73.0, 44.0), (79.0, 45.0)]):
        finish(grid, "ARBase", "hyena", seed, *pair)
    finish(grid, "SBS-fair", "hyena", 0, 50.0, 30.0)
    write_tables(grid, ["BoT"])
    head, bot, fair, arbase = rows_of(tmp_path / "main.md", "hyena")
    assert head == ["method", "seeds", "Rank-1", "mAP", "Rank-1 published", "mAP published"]
    assert arbase == ["ARBase", "3", "74.00 ± 4.58", "43.00 ± 2.65", "73.18", "44.87"]
    assert fair == ["SBS-fair", "1", "50.00 [40.0, 60.0]", "30.00 [25.0, 35.0]", "–", "–"]
    assert bot == ["BoT", "0", "–", "–", "58.64", "34.96"]
    line = next(line for line in read_csv(tmp_path / "main.csv") if line["row"] == "ARBase")
    assert float(line["Rank-1"]) == 74 and float(line["Rank-1 published"]) == 73.18
    assert float(line["Rank-1 deviation"]) == pytest.approx(21**0.5)  # (16 + 1 + 25) / 2
    assert float(line["mAP deviation"]) == pytest.approx(statistics.stdev([40, 44, 45]))
    assert line["seeds"] == "3" and line["Rank-1 low"] == ""


def test_cells_as_csv_and_how_they_were_made(tmp_path):
    grid = Grid("main", tmp_path)
    finish(grid, "BoT", "hyena", 0, 58.0, 34.0, encounter=(41.0, 21.0))
    write_tables(grid)
    first, second = read_csv(tmp_path / "main-cells.csv")
    assert (first["results on"], first["Rank-1"]) == ("Animals-HyenaID2022", "58.0")
    assert (second["results on"], second["mAP"]) == ("Animals-HyenaID2022 (encounter)", "21.0")
    assert first["command"].startswith("python -m openanimals.cli train --resume --config-file")
    assert first["schedule"] == "120 epochs of 23 iterations"
    assert first["environment"] == "Python 3.12, torch 2, cpu"
    assert "torch=" in first["versions"] and first["commit"] and float(first["seconds"]) >= 0
    head, row = rows_of(tmp_path / "main.md", "hyena")
    assert head[4:6] == ["Rank-1 (encounter)", "mAP (encounter)"]
    assert row[4:6] == ["41.00 [31.0, 51.0]", "21.00 [16.0, 26.0]"]
    text = (tmp_path / "main.md").read_text()
    assert "- BoT on hyena: 120 epochs of 23 iterations" in text
    assert "`python tools/reproduce.py`" in text and "torch" in text


def test_rows_that_are_the_same_show_the_same_cells(tmp_path):
    finish(Grid("techniques", tmp_path), "bnneck-on", "demo", 0, 60.0, 30.0)
    write_tables(Grid("techniques", tmp_path), ["bnneck-on", "bnneck-off"])
    rows = {row[0]: row[1:] for row in rows_of(tmp_path / "techniques.md", "demo")}
    shown = ["1", "60.00 [50.0, 70.0]", "30.00 [25.0, 35.0]"]
    assert rows["bnneck-on (= random-erasing-on)"] == [*shown, "yes"]
    assert rows["random-erasing-on"] == [*shown, "no"]
    assert rows["bnneck-off"] == ["0", "–", "–", "yes"]


def test_nothing_published_is_no_column(tmp_path):
    finish(Grid("main", tmp_path), "BoT", "demo", 0, 60.0, 30.0)
    write_tables(Grid("main", tmp_path))
    assert rows_of(tmp_path / "main.md", "demo")[0] == ["method", "seeds", "Rank-1", "mAP"]


def test_collect_needs_no_settings_and_refuses_a_mixture(tmp_path, caplog):
    with pytest.raises(GridError, match="no cells in"):
        collect(Request(("main",), tmp_path))
    finish(Grid("main", tmp_path, "cpu", 5), "BoT", "demo", 0, 60.0, 30.0)
    collect(Request(("main",), tmp_path))
    assert "size cpu for 5 epochs" in (tmp_path / "main.md").read_text()
    finish(Grid("main", tmp_path, "cpu", 6), "SBS", "demo", 0, 60.0, 30.0)
    with pytest.raises(GridError, match="for 6 epochs.*another --output"):
        collect(Request(("main",), tmp_path))


# Runs


@pytest.fixture
def trained(monkeypatch):
    """Replaces training; the names of the cells that were trained, and those that must fail."""
    seen, fails = [], {}

    def train(cfg, resume):
        assert resume
        name = "/".join(cfg.OUTPUT_DIR.split("/")[-3:])
        seen.append(name)
        if name in fails:
            raise fails[name]
        write_results(cfg, 50.0, 25.0)

    monkeypatch.setattr(engine_run, "train", train)
    monkeypatch.setattr(tool, "_training_images", lambda cfg: (40, ""))
    return seen, fails


def toy(folder, *rows, **more):
    return Request(("main",), folder, rows, ("demo",), 1, "smoke", 2, **more)


def test_a_finished_cell_is_never_repeated(tmp_path, trained):
    seen, _ = trained
    reproduce(toy(tmp_path, "BoT", "SBS"))
    reproduce(toy(tmp_path, "BoT", "SBS", "ARBase"))
    assert seen == ["BoT/demo/seed0", "SBS/demo/seed0", "ARBase/demo/seed0"]
    (tmp_path / "main/SBS/demo/seed0/results.json").unlink()
    reproduce(toy(tmp_path))
    assert seen[3:5] == ["AGW/demo/seed0", "SBS/demo/seed0"] and len(seen) == 8


def test_a_failed_cell_is_shown_the_rest_goes_on_and_the_next_call_tries_again(tmp_path, trained):
    seen, fails = trained
    fails["SBS/demo/seed0"] = RuntimeError("out of\n memory")
    with pytest.raises(CellsFailedError, match="1 of 3 cells failed.*main.md"):
        reproduce(toy(tmp_path, "BoT", "SBS", "ARBase"))
    assert len(seen) == 3
    rows = {row[0]: row[1:] for row in rows_of(tmp_path / "main.md", "demo")}
    assert rows["SBS"] == ["0, 1 failed", "failed", "failed"] and rows["ARBase"][0] == "1"
    text = (tmp_path / "main.md").read_text()
    assert "- SBS on demo, seed 0: RuntimeError: out of memory" in text
    lines = read_csv(tmp_path / "main-cells.csv")
    assert [line["error"] for line in lines if line["status"] == "failed"] == [
        "RuntimeError: out of memory"
    ]
    fails.clear()
    reproduce(toy(tmp_path, "BoT", "SBS", "ARBase"))
    assert seen[3:] == ["SBS/demo/seed0"]
    assert "failed" not in (tmp_path / "main.md").read_text()


def test_other_settings_are_fine_where_nothing_was_trained(tmp_path, trained):
    _, fails = trained
    fails["BoT/demo/seed0"] = ValueError("no such device")
    with pytest.raises(CellsFailedError):
        reproduce(toy(tmp_path, "BoT", overrides=("MODEL.DEVICE", "cuda")))
    fails.clear()
    reproduce(toy(tmp_path, "BoT", overrides=("MODEL.DEVICE", "cpu")))
    assert records.read(tmp_path / "main/BoT/demo/seed0").settings["overrides"] == {
        "MODEL.DEVICE": "cpu"
    }


def test_seconds_add_up_over_starts(tmp_path, trained):
    reproduce(toy(tmp_path, "BoT"))
    folder = tmp_path / "main/BoT/demo/seed0"
    record = records.read(folder)
    assert record.starts == 1
    record.status, record.resumed, record.seconds = "running", "2026-01-01T00:00:00+00:00", 100.0
    records.write(folder, record)  # killed ...
    for file in folder.iterdir():
        os.utime(file, (1767225600 + 40, 1767225600 + 40))  # ... 40 seconds after it was resumed
    reproduce(toy(tmp_path, "BoT"))
    assert records.read(folder).starts == 2
    assert 140 <= records.read(folder).seconds < 150


def test_a_folder_of_anything_else_is_refused(tmp_path, trained):
    seen, _ = trained
    folder = tmp_path / "main/SBS/demo/seed0"
    folder.mkdir(parents=True)
    (folder / "model_final.pth").touch()
    with pytest.raises(GridError, match="seed0 holds files, but no cell.json"):
        reproduce(toy(tmp_path))
    (folder / "cell.json").write_text("{}")
    with pytest.raises(GridError, match="not the record of a cell"):
        reproduce(toy(tmp_path))
    assert not seen


def test_cells_of_other_settings_or_files_are_refused(tmp_path, trained):
    seen, _ = trained
    reproduce(toy(tmp_path, "BoT"))
    with pytest.raises(GridError, match="trained at size smoke for 2 epochs, and now .*BASE_LR 1"):
        reproduce(toy(tmp_path, "AGW", overrides=("SOLVER.BASE_LR", "1")))
    record = records.read(tmp_path / "main/BoT/demo/seed0")
    record.config["SOLVER.BASE_LR"] = 0.5  # as if a file in configs/ had been changed since
    records.write(tmp_path / "main/BoT/demo/seed0", record)
    with pytest.raises(GridError, match=r"another configuration: SOLVER.BASE_LR \(0.5 -> 0.00035"):
        reproduce(toy(tmp_path, "BoT"))
    assert len(seen) == 1
    reproduce(toy(tmp_path, "AGW", overrides=("DATALOADER.NUM_WORKERS", "1")))
    assert len(seen) == 2, "where a cell runs does not matter"


def test_two_tools_do_not_share_a_folder(tmp_path, trained, monkeypatch):
    monkeypatch.setattr(runner, "PATIENCE", 0.2)
    with locked(tmp_path / "main"), pytest.raises(GridError, match="worked on by another"):
        reproduce(toy(tmp_path, "BoT"))
    reproduce(toy(tmp_path, "BoT"))


def test_missing_data_fail_all_cells_of_a_species_at_once(tmp_path, capsys):
    arguments = ["--table", "ablation", "--species", "demo", "--output", str(tmp_path)]
    missing = ["DATASETS.NAMES", "folder:nowhere/at/all", "MODEL.DEVICE", "cpu"]
    assert main(["reproduce", *arguments, "--seeds", "2", *missing]) == 2
    told = capsys.readouterr()
    assert "18 of 18 cells failed" in told.err
    assert told.out.count("cells failed before they started") == 1
    rows = rows_of(tmp_path / "ablation.md", "demo")
    assert len(rows) == 10
    assert all(row[1:] == ["0, 2 failed", "failed", "failed"] for row in rows[1:])
    assert "nowhere/at/all" in (tmp_path / "ablation.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "main", "--species", "hyenna"], "unknown species 'hyenna' .*'hyena'"),
        (["--table", "main", "--methods", "BOT"], "unknown row 'BOT' .*'BoT'"),
        (["--table", "main", "--seeds", "0"], "--seeds is 0"),
        (["--table", "main", "--size", "cpu"], "--epochs"),
        (["--table", "main", "--gpus", "99"], "--gpus is 99, but PyTorch sees"),
        (["--table", "main", "DATASETS.NAMES", "folder:x"], "name it by --species"),
        (["--table", "main", "SEED", "3"], "use --seeds"),
        (["--table", "main", "SOLVER.BASE_LRR", "3"], "unknown key SOLVER.BASE_LRR"),
        (["--smoke", "--methods", "BoT"], "--methods are rows of one table"),
    ],
)
def test_mistakes_end_in_a_message(arguments, message, tmp_path, capsys):
    assert main(["reproduce", "--output", str(tmp_path), *arguments]) == 2
    assert not list(tmp_path.rglob("*.json"))
    assert re.search(message, capsys.readouterr().err)


# Processes


STAND_IN = """#!/bin/sh
for folder; do :; done  # the last argument is OUTPUT_DIR
case $folder in
  *SBS*) echo "noise"; echo "error: 2 mistakes:"; echo "  - one"; exit 2;;
  *AGW*) kill -9 $$;;
  *MGN*) exit 0;;
esac
echo "$CUDA_VISIBLE_DEVICES" > "$folder/gpu"
sleep 0.3
echo '{"Animals-SyntheticHerd": {}}' > "$folder/results.json"
"""


def test_processes_fail_one_by_one_and_each_has_its_gpu(tmp_path, monkeypatch):
    script = tmp_path / "stand_in.sh"
    script.write_text(STAND_IN)
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,9")
    rows = ["BoT", "SBS", "AGW", "MGN", "ARBase"]
    cells = [c for r in rows for c in Grid("main", tmp_path).cells([r], "demo", 1, 800)]
    ended = {}
    with locked(tmp_path / "main") as lock:
        runner.run_in_processes(
            cells,
            tool._gpus(2),
            lock,
            lambda cell: cell.folder.mkdir(parents=True),
            lambda cell, error: ended.update({cell.row: error}),
        )
    assert ended.pop("MGN").startswith("no results on Animals-SyntheticHerd in")
    assert ended == {
        "BoT": "",
        "SBS": "2 mistakes:\n  - one",
        "AGW": "killed by SIGKILL",
        "ARBase": "",
    }
    gpus = {(tmp_path / f"main/{row}/demo/seed0/gpu").read_text().strip() for row in rows[::4]}
    assert gpus <= {"4", "7"}
    assert json.loads((cells[0].folder / "results.json").read_text())
