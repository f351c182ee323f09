"""A grid of real trainings that is killed half way and started again, and the whole toy grid."""

import csv
import json
import os
import subprocess
import sys
import time

import pytest

from openanimals.cli import main
from openanimals.engine.reproduction.grid import SPECIES, TABLES
from openanimals.engine.reproduction.runner import locked
from tests.conftest import REPOSITORY
from tests.engine.tiny_run import overrides

METHODS = ("BoT", "SBS-fair", "ARBase")
SECONDS = 600  # for what takes 20 on an idle machine


def command(output, root):
    keys = overrides(output, root, IMPORTS=["tests.tiny"], MODEL__BACKBONE__WITH_NL=False)
    pairs = dict(zip(keys[::2], keys[1::2], strict=True))
    del pairs["OUTPUT_DIR"], pairs["SOLVER.MAX_EPOCH"]
    options = ["--table", "main", "--species", "demo", "--seeds", "2", "--epochs", "2"]
    options += ["--output", str(output), "--methods", *METHODS]
    texts = [str(part) for pair in pairs.items() for part in pair]
    return [sys.executable, "tools/reproduce.py", *options, *texts]


def records_of(output):
    files = sorted(output.glob("main/*/demo/seed?/cell.json"))
    return {file.parent: json.loads(file.read_text()) for file in files}


def wait_until(holds):
    late = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < late
        time.sleep(0.05)


@pytest.mark.cli
def test_a_grid_killed_half_way_goes_on_where_it_was(tmp_path, herd_root):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = tmp_path / "told.txt"
    with open(told, "w") as file:
        tool = subprocess.Popen(
            command(tmp_path, herd_root),
            cwd=REPOSITORY,
            env=environment,
            stdout=file,
            stderr=file,
        )

    def finished():
        return [f for f, record in records_of(tmp_path).items() if record["status"] == "finished"]

    def in_the_fourth_training():
        assert tool.poll() is None, told.read_text()
        folders = set(records_of(tmp_path)) - set(finished())
        return len(finished()) == 3 and any((f / "metrics.json").is_file() for f in folders)

    try:
        wait_until(in_the_fourth_training)
    finally:
        tool.kill()
        tool.wait()
    (running,) = [f for f, r in records_of(tmp_path).items() if r["status"] == "running"]
    with locked(tmp_path / "main"):  # the training holds this as long as it lives
        assert not (running / "results.json").exists()
    before = {folder: (folder / "cell.json").read_bytes() for folder in finished()}
    assert "± " in (tmp_path / "main.md").read_text(), "the table is written after each cell"

    again = subprocess.run(
        command(tmp_path, herd_root),
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert again.returncode == 0, again.stderr
    assert "3 cells finished, 0 running, 3 to come" in again.stdout
    assert len(finished()) == 6
    assert all((folder / "cell.json").read_bytes() == text for folder, text in before.items())
    record = records_of(tmp_path)[running]
    assert record["starts"] == 2 and record["seconds"] > 0
    assert record["schedule"][0].startswith("2 epochs of ")
    with open(tmp_path / "main.csv", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["protocol"] == "headline"]
    assert [line["row"] for line in lines] == list(METHODS)
    assert all(line["seeds"] == "2" and line["Rank-1 deviation"] for line in lines)


@pytest.mark.slow
def test_the_whole_grid_at_toy_size(tmp_path):
    began = time.monotonic()
    assert main(["reproduce", "--smoke", "--output", str(tmp_path)]) == 0
    assert time.monotonic() - began < 20 * 60
    for table, rows in TABLES.items():
        with open(tmp_path / f"{table}.csv", newline="") as file:
            lines = list(csv.DictReader(file))
        headlines = [line for line in lines if line["protocol"] == "headline"]
        assert len(headlines) == len(rows) * len(SPECIES[table])
        assert all(line["Rank-1"] and line["mAP"] for line in lines)
