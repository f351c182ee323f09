"""Real trainings by the command line: killed with the tool, gone on with, never repeated."""

import json
import multiprocessing
import subprocess
import sys
import time

import pandas as pd
import pytest

from reproduce.command import main
from reproduce.grid import TABLES
from tests.conftest import REPOSITORY
from tests.engine.tiny_run import overrides

SECONDS = 600  # for what takes 10 on an idle machine


def kill_when(holds, arguments):
    """Fork a tool, kill -9 it once a condition holds, and return its child processes."""
    tool = multiprocessing.get_context("fork").Process(target=main, args=(arguments,))
    tool.start()
    try:
        late = time.monotonic() + SECONDS
        while not holds():
            assert tool.is_alive() and time.monotonic() < late
            time.sleep(0.02)
        with open(f"/proc/{tool.pid}/task/{tool.pid}/children") as file:
            return file.read().split()
    finally:
        tool.kill()
        tool.join()


def is_alive(pid):
    """Whether a process runs; one that is dead and not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def command(output, root, *options):
    keys = overrides(output, root, IMPORTS=["tests.tiny"], MODEL__BACKBONE__WITH_NL=False)
    pairs = dict(zip(keys[::2], keys[1::2], strict=True))
    del pairs["OUTPUT_DIR"], pairs["SOLVER.MAX_EPOCH"]
    texts = [str(part) for pair in pairs.items() for part in pair]
    options = ["--table", "main", "--species", "demo", "--output", str(output), *options]
    return [*options, *texts]


@pytest.mark.cli
def test_a_tool_killed_half_way_goes_on_where_it_was(tmp_path, herd_root, monkeypatch, capfd):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arguments = command(tmp_path, herd_root, *["--methods", "BoT", "--seeds", "1", "--epochs", "4"])
    folder = tmp_path / "main/BoT/demo/seed0"
    (training,) = kill_when((folder / "model_last.pth").exists, arguments)
    late = time.monotonic() + 10
    while is_alive(training):
        assert time.monotonic() < late, "the training goes on without the tool"
        time.sleep(0.01)
    assert not (folder / "results.json").exists()
    assert main(arguments) == 0
    assert "0 runs finished, 0 failed, 0 running, 1 to come" in capfd.readouterr().out
    assert "resumed from" in (folder / "console.txt").read_text()
    assert json.loads((folder / "run.json").read_text())["seconds"] > 0
    line = pd.read_csv(tmp_path / "main.csv").iloc[0]
    result = json.loads((folder / "results.json").read_text())[line["test set"]]
    assert [line[metric] for metric in ("Rank-1", "mAP")] == pytest.approx(
        [result[metric] for metric in ("Rank-1", "mAP")]
    )


@pytest.mark.slow
def test_all_tables_at_toy_size(tmp_path):
    tool = [sys.executable, "tools/reproduce.py", "--smoke", "--output", str(tmp_path)]
    subprocess.run(tool, cwd=REPOSITORY, check=True)
    for name, table in TABLES.items():
        lines = pd.read_csv(tmp_path / f"{name}.csv")
        headlines = lines[lines["protocol"] == "headline"]
        assert len(headlines) == len(table["rows"]) * len(table["species"])
        assert headlines[["Rank-1", "mAP"]].notna().all(axis=None)
