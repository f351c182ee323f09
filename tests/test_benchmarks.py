"""The benchmarks' own arithmetic, with clocks of the test's making; no real time is measured."""

import re
import runpy
import sys
from types import SimpleNamespace

import pytest

from benchmarks import harness
from tests.conftest import REPOSITORY

SCRIPTS = sorted(
    path.stem
    for path in (REPOSITORY / "benchmarks").glob("*.py")
    if path.stem not in ("__init__", "harness", "training")
)


@pytest.fixture
def page(tmp_path, monkeypatch):
    path = tmp_path / "performance.md"
    path.write_text("# Title\n\n<!-- one -->\nold\n<!-- /one -->\n\n<!-- two -->\n<!-- /two -->\n")
    monkeypatch.setattr(harness, "PAGE", path)
    return path


def test_alternatives_run_in_turn_and_the_first_round_does_not_count(monkeypatch):
    now, order = [0.0], []
    monkeypatch.setattr(harness, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    seconds = {"slow": iter([100, 4, 40, 6]), "fast": iter([100, 2, 10, 3])}

    def alternative(name):
        order.append(name)
        now[0] += next(seconds[name])

    times = harness.in_turn({name: lambda name=name: alternative(name) for name in seconds}, 3)
    assert order == ["slow", "fast"] * 4
    assert times == {"slow": [4, 40, 6], "fast": [2, 10, 3]}
    assert times.median("slow") == 6
    assert times.ratio("slow", over="fast") == 2  # of 2, 4 and 2; the second round was slow


def test_a_report_replaces_its_section_and_nothing_else(page, capsys):
    for text in ("first", "second"):
        report = harness.Report("one", "python -m benchmarks.one")
        report.line(text)
        report.table([{"": "a", "ratio": 2.34567}, {"": "b", "ratio": 12345.6}])
        report.publish(write=True)
    written = page.read_text()
    assert written.startswith("# Title\n\n<!-- one -->\n\n`python -m benchmarks.one`, ")
    assert written.endswith(
        "\n\nsecond\n\n|  | ratio |\n| --- | --- |\n| a | 2.35 |\n| b | 12346 |\n\n"
        "<!-- /one -->\n\n<!-- two -->\n<!-- /two -->\n"
    )
    assert "old" not in written and "first" not in written
    assert "second" in capsys.readouterr().out


def test_the_memory_of_a_process_is_its_own():
    large = b"x" * 2**28  # 256 MiB, which ru_maxrss would hand on to the new process
    answer, peak = harness.in_process("math:hypot", 3, 4)
    assert answer == 5
    assert 1 < peak < len(large) / 2**20


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_has_the_common_options(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    monkeypatch.delitem(sys.modules, f"benchmarks.{script}", raising=False)
    with pytest.raises(SystemExit) as left:
        runpy.run_module(f"benchmarks.{script}", run_name="__main__")
    assert left.value.code == 0
    assert {"--write", "--rounds"} <= set(re.findall(r"--\w+", capsys.readouterr().out))


def test_each_script_has_a_section_and_make_runs_it():
    sections = (REPOSITORY / "docs" / "performance.md").read_text()
    targets = (REPOSITORY / "Makefile").read_text()
    areas = re.search(r"BENCHMARKS := (.*)", targets)[1].split()
    assert set(SCRIPTS) <= {*areas, "gpu"}
    for area in (*areas, "gpu"):
        assert sections.count(f"<!-- {area} -->") == sections.count(f"<!-- /{area} -->") == 1
