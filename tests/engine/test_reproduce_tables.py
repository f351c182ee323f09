"""What the tables show of the cells of a folder, and what is known of a cell."""

import statistics
import subprocess

import pytest

from openanimals.engine.reproduction import provenance, records
from openanimals.engine.reproduction.grid import Grid
from openanimals.engine.reproduction.records import GridError
from openanimals.engine.reproduction.reproduce import collect
from openanimals.engine.reproduction.request import Request
from openanimals.engine.reproduction.tables import write_tables
from tests.engine.reproduction import finish, read_csv, rows_of


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
    with pytest.raises(GridError, match=r"--epochs \(6 -> 5\).*another --output"):
        collect(Request(("main",), tmp_path))


def test_collect_heeds_what_is_asked_for(tmp_path):
    finish(Grid("main", tmp_path, "cpu", 5), "SBS", "demo", 0, 60.0, 30.0)
    collect(Request(("main",), tmp_path, ("AGW",), ("demo", "hyena"), size="cpu", epochs=5))
    assert rows_of(tmp_path / "main.md", "hyena")[1][:3] == ["AGW", "0", "–"]
    with pytest.raises(GridError, match=r"--epochs \(5 -> 6\)\. "):
        collect(Request(("main",), tmp_path, size="cpu", epochs=6))
    with pytest.raises(ValueError, match="unknown species 'hienna'"):
        collect(Request(("main",), tmp_path, species=("hienna",)))


def test_collect_is_not_misled_by_a_cell_that_failed_at_once(tmp_path):
    finish(Grid("main", tmp_path, "cpu", 5), "SBS", "demo", 0, 60.0, 30.0)
    other = Grid("main", tmp_path, "cpu", 6)
    (cell,) = other.cells(["AGW"], "demo", 1, 100)  # its folder is the first
    record = records.begin(cell, None, records.settings_of(other), "")
    records.end(cell.folder, record, "no such device")
    collect(Request(("main",), tmp_path))
    assert "for 5 epochs" in (tmp_path / "main.md").read_text()


def test_a_commit_is_that_of_its_moment(tmp_path, monkeypatch):
    """A grid runs for days; the checkout may be changed meanwhile."""

    def git(*arguments):
        author = ["-c", "user.name=a", "-c", "user.email=b"]
        command = ["git", "-C", str(tmp_path), *author, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.setattr(provenance, "CONFIGS", tmp_path / "configs")
    git("init")
    git("commit", "--allow-empty", "-m", "one")
    assert provenance.commit() == git("rev-parse", "HEAD")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/new.yml").touch()
    assert provenance.commit() == git("rev-parse", "HEAD") + "+"
    git("add", ".")
    git("commit", "-m", "two")
    assert provenance.commit() == git("rev-parse", "HEAD")
