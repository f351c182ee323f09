"""Real trainings by the command line: killed with the tool, gone on with, never repeated."""

import json
import os
import subprocess
import sys
import time

import pandas as pd
import pytest

from reproduce.grid import TABLES
from tests.conftest import REPOSITORY
from tests.engine.tiny_run import overrides

SECONDS = 600  # for what takes 10 on an idle machine
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def kill_when(holds, arguments, told):
    """Start a tool, kill -9 it once a condition holds, and return its child processes."""
    with open(told, "w") as file:
        tool = subprocess.Popen(
            arguments, cwd=REPOSITORY, env=ENVIRONMENT, stdout=file, stderr=file
        )
    try:
        late = time.monotonic() + SECONDS
        while not holds():
            assert tool.poll() is None and time.monotonic() < late, told.read_text()
            time.sleep(0.02)
        with open(f"/proc/{tool.pid}/task/{tool.pid}/children") as file:
            return file.read().split()
    finally:
        tool.kill()
        tool.wait()


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
    return [sys.executable, "tools/reproduce.py", *options, *texts]


@pytest.mark.cli
def test_a_tool_killed_half_way_goes_on_where_it_was(tmp_path, herd_root):
    arguments = command(tmp_path, herd_root, *["--methods", "BoT", "--seeds", "2", "--epochs", "4"])
    first, second = (tmp_path / f"main/BoT/demo/seed{seed}" for seed in range(2))
    (training,) = kill_when((second / "model_last.pth").exists, arguments, tmp_path / "told.txt")
    late = time.monotonic() + 10
    while is_alive(training):
        assert time.monotonic() < late, "the training goes on without the tool"
        time.sleep(0.01)
    assert not (second / "results.json").exists()
    assert "| BoT | 1 |" in (tmp_path / "main.md").read_text(), "written after each run"
    before = {file: file.stat().st_mtime_ns for file in first.iterdir()}
    again = subprocess.run(
        arguments, cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert "1 runs finished, 0 failed, 0 running, 1 to come" in again.stdout
    assert {file: file.stat().st_mtime_ns for file in first.iterdir()} == before
    assert "resumed from" in (second / "console.txt").read_text()
    assert json.loads((second / "run.json").read_text())["seconds"] > 0
    line = pd.read_csv(tmp_path / "main.csv").iloc[0]
    results = [json.loads((folder / "results.json").read_text()) for folder in (first, second)]
    for metric in ("Rank-1", "mAP"):
        values = [result[line["test set"]][metric] for result in results]
        assert line[metric] == pytest.approx(sum(values) / 2)


@pytest.mark.slow
def test_all_tables_at_toy_size(tmp_path):
    tool = [sys.executable, "tools/reproduce.py", "--smoke", "--output", str(tmp_path)]
    subprocess.run(tool, cwd=REPOSITORY, check=True)
    for name, table in TABLES.items():
        lines = pd.read_csv(tmp_path / f"{name}.csv")
        headlines = lines[lines["protocol"] == "headline"]
        assert len(headlines) == len(table["rows"]) * len(table["species"])
        assert headlines[["Rank-1", "mAP"]].notna().all(axis=None)
