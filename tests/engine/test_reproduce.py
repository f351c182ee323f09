"""The tool on cells whose training is a stand-in: what runs, and what is refused."""

import json
import os
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from openanimals.cli import main
from openanimals.config import load
from openanimals.engine import train as engine_run
from openanimals.engine.reproduction import records, runner
from openanimals.engine.reproduction import reproduce as tool
from openanimals.engine.reproduction.grid import Grid
from openanimals.engine.reproduction.records import GridError
from openanimals.engine.reproduction.reproduce import CellsFailedError, reproduce
from openanimals.engine.reproduction.request import Request
from openanimals.engine.reproduction.runner import locked
from tests.engine.reproduction import read_csv, rows_of, write_results

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
    with pytest.raises(GridError, match=r"other settings: SOLVER.BASE_LR \(unset -> 1\)\. "):
        reproduce(toy(tmp_path, "AGW", overrides=("SOLVER.BASE_LR", "1")))
    record = records.read(tmp_path / "main/BoT/demo/seed0")
    record.config["SOLVER.BASE_LR"] = 0.5  # as if a file in configs/ had been changed since
    records.write(tmp_path / "main/BoT/demo/seed0", record)
    with pytest.raises(
        GridError, match=r"another configuration: SOLVER.BASE_LR \(0.5 -> 0.00035\)\. "
    ):
        reproduce(toy(tmp_path, "BoT"))
    assert len(seen) == 1
    reproduce(toy(tmp_path, "AGW", overrides=("DATALOADER.NUM_WORKERS", "1")))
    assert len(seen) == 2, "where a cell runs does not matter"


def test_a_species_has_the_same_data_in_all_rows(tmp_path, trained):
    seen, _ = trained
    herds = [f"Animals-SyntheticHerd:identities={n}" for n in (16, 17)]
    reproduce(toy(tmp_path, "BoT", overrides=("DATASETS.NAMES", herds[0])))
    with pytest.raises(GridError, match="on other data: .*identities=16.*-> .*identities=17"):
        reproduce(toy(tmp_path, "AGW", overrides=("DATASETS.NAMES", herds[1])))
    assert len(seen) == 1


def test_damaged_results_are_named(tmp_path, trained):
    reproduce(toy(tmp_path, "BoT"))
    file = tmp_path / "main/BoT/demo/seed0/results.json"
    file.write_text("{")
    with pytest.raises(GridError, match="BoT/demo/seed0/results.json is damaged.*delete it"):
        reproduce(toy(tmp_path, "BoT"))


def test_what_a_killed_tool_was_writing_is_removed(tmp_path, trained):
    for name in (".main.md.x1.tmp", ".main-cells.csv.x2.tmp", ".ablation.md.x3.tmp"):
        (tmp_path / name).touch()
    reproduce(toy(tmp_path, "BoT"))
    assert [file.name for file in tmp_path.glob(".*.tmp")] == [".ablation.md.x3.tmp"]


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
    assert "``" not in (tmp_path / "ablation.md").read_text(), "no command has run"
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
        (["--table", "main", "--gpus", "-1"], "--gpus is -1; expected 0 or more"),
        (["--table", "main", "--epochs", "-1"], "--epochs is -1; expected 0 or more"),
        (["--smoke", "--gpus", "2"], "--smoke is one process"),
        (["--table", "main", "DATASETS.NAMES", "folder:x"], "name it by --species"),
        (["--table", "main", "SEED", "3"], "use --seeds"),
        (["--table", "main", "SOLVER.BASE_LRR", "3"], "unknown key SOLVER.BASE_LRR"),
        (["--smoke", "--methods", "BoT"], "--methods are rows of one table"),
    ],
)
def test_mistakes_end_in_a_message(arguments, message, tmp_path, capsys):
    assert main(["reproduce", "--output", str(tmp_path), *arguments]) == 2
    assert not list(tmp_path.iterdir())
    assert re.search(message, capsys.readouterr().err)


# Processes


STAND_IN = """#!/bin/sh
for config; do :; done  # the last argument
folder=$(dirname "$config")
case $folder in
  *SBS*) echo "noise"; echo "error: 2 mistakes:"; echo "  - one"; exit 2;;
  *AGW*) kill -9 $$;;
  *MGN*) exit 0;;
esac
echo "$CUDA_VISIBLE_DEVICES" > "$folder/gpu"
echo "$config" > "$folder/trained as"
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


def test_a_cell_runs_the_package_of_the_tool(tmp_path, monkeypatch):
    """And not another checkout that happens to be the working directory."""
    (tmp_path / "openanimals").mkdir()
    (tmp_path / "openanimals/__init__.py").write_text("raise SystemExit('the wrong package')")
    monkeypatch.chdir(tmp_path)
    cell = SimpleNamespace(folder=tmp_path, config=SimpleNamespace(dump=lambda: "SEEED: 1"))
    with locked(tmp_path / "main") as lock:
        job = runner._Job(cell, {}, lock)
        job.process.wait(60)
        assert "unknown key SEEED" in job.error()


def test_a_cell_is_trained_as_it_was_planned(tmp_path, monkeypatch):
    """Although a file in configs/ may be changed while cells wait."""
    script = tmp_path / "stand_in.sh"
    script.write_text(STAND_IN)
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    (cell,) = Grid("main", tmp_path).cells(["BoT"], "demo", 1, 800)
    file = tmp_path / "row.yml"
    file.write_text(f"_BASE_: {cell.files[0].resolve()}\nSOLVER:\n  BASE_LR: 0.1\n")
    cell = replace(cell, files=(file, *cell.files[1:]))
    planned = records.flat(cell.config)
    file.write_text(file.read_text().replace("0.1", "0.2"))
    cell.folder.mkdir(parents=True)
    with locked(tmp_path / "main") as lock:
        runner.run_in_processes([cell], [{}], lock, lambda cell: None, lambda cell, error: None)
    trained = load((cell.folder / "trained as").read_text().strip())
    assert records.flat(trained) == planned and trained.SOLVER.BASE_LR == 0.1
