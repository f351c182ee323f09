"""Decisions in their file: nothing that was said to be there is ever lost."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import datetime, timedelta

import pytest

from openanimals.identification.decisions.evidence import Evidence
from openanimals.utils.errors import FileError, UserError

# Decides without end, or as often as told, and says the number of each decision that is done.
WRITER = """
import sys, time
from openanimals.identification.decisions.evidence import Evidence
file, who, most = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Evidence(file) as evidence:
    for n in range(most):
        print(evidence.decide("same", f"{who}-{n}.jpg", "b.jpg", by=who), flush=True)
        time.sleep(0.001)  # SQLite lets others in between, but in no fair order
"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "herd.csv.decisions.sqlite"


def start(file, who, most, before="", to=subprocess.PIPE):
    command = [sys.executable, "-c", before + WRITER, str(file), who, str(most)]
    return subprocess.Popen(command, stdout=to, stderr=subprocess.PIPE, text=True)


def read(file):
    with Evidence(file) as evidence:
        return evidence.decisions()


def test_decisions_are_kept_in_order_with_who_and_when(file):
    with Evidence(file) as evidence:
        assert evidence.decisions() == []
        assert evidence.decide("same", "a.jpg", "b.jpg#1,2,3,4", by="Ada", note="the ear") == 1
        assert evidence.decide("rename", "007", "Zoë; '\"", by="Ben") == 2
        assert evidence.decide("skip", "a.jpg", by="Ben") == 3
    one, two, three = read(file)
    assert (one.kind, one.first, one.second) == ("same", "a.jpg", "b.jpg#1,2,3,4")
    assert (one.by, one.note, one.undone_by) == ("Ada", "the ear", None)
    assert (two.first, two.second, three.second) == ("007", "Zoë; '\"", None)
    when = datetime.fromisoformat(one.when)
    assert when.utcoffset() == timedelta(0)
    assert abs(datetime.now(when.tzinfo) - when) < timedelta(minutes=1)
    assert str(two) == f"2 {two.when} Ben: rename 007 Zoë; '\""


def test_the_same_decision_twice_is_one(file):
    with Evidence(file) as evidence:
        first = evidence.decide("different", "a.jpg", "b.jpg", by="Ada")
        assert evidence.decide("different", "b.jpg", "a.jpg", by="Ada") == first
        merged = evidence.decide("merge", "Kesi", "Duma", by="Ada")
        others = [
            evidence.decide("different", "a.jpg", "b.jpg", by="Ben"),
            evidence.decide("same", "a.jpg", "b.jpg", by="Ada"),
            evidence.decide("merge", "Duma", "Kesi", by="Ada"),
        ]
        assert len({first, merged, *others}) == 5 == len(evidence.decisions())


def test_undo_and_undo_of_the_undo(file):
    with Evidence(file) as evidence:
        number = evidence.decide("new", "a.jpg", by="Ada")
        undo = evidence.undo(number, by="Ben")
        assert evidence.undo(number, by="Ada") == undo
        assert [d.undone_by for d in evidence.decisions()] == [undo, None]
        redo = evidence.undo(undo, by="Ada")
        assert [d.undone_by for d in evidence.decisions()] == [None, redo, None]
        again = evidence.undo(number, by="Ben")
        assert again not in (number, undo, redo)
        # What is undone may be decided anew.
        assert evidence.decide("new", "a.jpg", by="Ada") == again + 1
    assert [d.undone_by for d in read(file)] == [again, redo, None, None, None]


def test_a_block_of_decisions_is_taken_whole_or_not_at_all(file):
    with Evidence(file) as evidence:
        with pytest.raises(UserError, match="'nmae' .did you mean 'name'"), evidence.transaction():
            evidence.decide("name", "a.jpg", "Kesi", by="Ada")
            evidence.decide("nmae", "b.jpg", "Kesi", by="Ada")
        assert evidence.decisions() == []
        with evidence.transaction():
            evidence.undo(evidence.decide("name", "a.jpg", "Kesi", by="Ada"), by="Ada")
    assert [d.undone_by for d in read(file)] == [2, None]


@pytest.mark.parametrize(
    ("arguments", "by", "message"),
    [
        (("same", "a.jpg"), "Ada", "about photograph and photograph; got 'a.jpg' and None"),
        (("new", "a.jpg", "b.jpg"), "Ada", "about photograph; got 'a.jpg' and 'b.jpg'"),
        (("same", "a.jpg", "a.jpg"), "Ada", "'a.jpg' and itself"),
        (("name", "a.jpg", " "), "Ada", "the name is empty"),
        (("name", "a.jpg", "Ke\0si"), "Ada", "no text"),
        (("name", "a\udc80.jpg", "Kesi"), "Ada", "no text"),
        (("name", "a.jpg", "Kesi"), " ", "nobody is named"),
        (("undo", "1"), "Ada", "Evidence.undo"),
        (("uniqe", "a.jpg"), "Ada", "there are same, different"),
    ],
)
def test_what_is_no_decision(file, arguments, by, message):
    with Evidence(file) as evidence:
        with pytest.raises(UserError, match=message):
            evidence.decide(*arguments, by=by)
        assert evidence.decisions() == []


def test_there_is_no_such_decision_to_undo(file):
    with Evidence(file) as evidence:
        with pytest.raises(UserError, match="no decision 1; there is none yet"):
            evidence.undo(1, by="Ada")
        evidence.decide("skip", "a.jpg", by="Ada")
        with pytest.raises(UserError, match="no decision 2; they go from 1 to 1"):
            evidence.undo(2, by="Ada")


def test_files_that_are_something_else(file, tmp_path):
    file.write_text("path,identity\na.jpg,Kesi\n" * 100)
    with pytest.raises(UserError, match="herd.csv.decisions.sqlite is no file of decisions"):
        Evidence(file)
    assert file.read_text().startswith("path")
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE birds (name)")
    connection.close()
    with pytest.raises(UserError, match="another program's"):
        Evidence(other)
    with pytest.raises(FileError, match="nowhere"):
        Evidence(tmp_path / "nowhere" / "decisions.sqlite")


def test_a_file_of_a_later_version(file):
    Evidence(file).close()
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(UserError, match="later version of OpenAnimals .format 99"):
        Evidence(file)


def test_processes_that_make_and_write_one_file_at_once(file):
    writers = [start(file, who, 25) for who in ("Ada", "Ben", "Cai")]
    said = [[int(line) for line in writer.communicate()[0].split()] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert sorted(number for numbers in said for number in numbers) == [*range(1, 76)]
    found = read(file)
    for who, numbers in zip(("Ada", "Ben", "Cai"), said, strict=True):
        own = [decision for decision in found if decision.by == who]
        assert [decision.number for decision in own] == numbers
        assert [decision.first for decision in own] == [f"{who}-{n}.jpg" for n in range(25)]


def test_killed_in_the_middle_of_writing(file, tmp_path):
    told = [tmp_path / f"{who}.txt" for who in ("Ada", "Ben")]
    with open(told[0], "w") as one, open(told[1], "w") as other:
        writers = [start(file, who, 10**6, to=to) for who, to in (("Ada", one), ("Ben", other))]
    until = time.monotonic() + 60
    while min(place.stat().st_size for place in told) < 20 and time.monotonic() < until:
        time.sleep(0.005)
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
    for writer in writers:
        writer.wait()
    said = {int(line) for place in told for line in place.read_text().split()}
    assert len(said) > 10

    log = file.with_name(f"{file.name}-wal")
    content = log.read_bytes()
    torn = tmp_path / "torn.sqlite"
    for damaged, whole in ((content[:-1000], False), (content + b"\x5a" * 3000, True)):
        shutil.copy(file, torn)
        torn.with_name("torn.sqlite-wal").write_bytes(damaged)
        numbers = [decision.number for decision in read(torn)]
        assert numbers == [*range(1, len(numbers) + 1)]
        assert len(numbers) >= (max(said) if whole else 1)
    found = read(file)
    assert [decision.number for decision in found] == [*range(1, len(found) + 1)]
    # What a writer had written but not told of yet may be there too.
    assert max(said) <= len(found) <= len(said) + 2
    with Evidence(file) as evidence:
        assert evidence.decide("skip", "a.jpg", by="Cai") == len(found) + 1


def test_a_full_disk_is_told_and_loses_nothing(file):
    pytest.importorskip("resource", reason="limits of a process, which Windows has not")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    writer = start(file, "Ada", 10**6, before=limit)
    said, error = writer.communicate()
    assert "FileError" in error and f"{file} cannot be used" in error
    numbers = [decision.number for decision in read(file)]
    assert numbers == [*map(int, said.split())] and len(numbers) > 5
