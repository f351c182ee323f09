"""The files that programs for population estimates read, read again as these read them."""

import csv

import numpy as np
import pandas as pd
import pytest

from openanimals.identification.captures.capture_history import capture_history
from openanimals.identification.captures.formats import FORMATS, write_captures
from openanimals.identification.captures.stations import read_stations
from openanimals.identification.catalogue_file import as_table, read_catalogue
from openanimals.identification.importing import import_catalogue
from openanimals.utils.errors import UserError


@pytest.fixture
def history(tmp_path):
    """Three individuals at two stations; nobody looked on the second of four occasions."""
    file = tmp_path / "stations.csv"
    file.write_text(
        "Station,x,y,Setup_date,Retrieval_date,Problem1_from,Problem1_to\n"
        "North 1,526000,604000.25,2020-01-01,2020-01-07,2020-01-03,2020-01-04\n"
        "North_1,523000,606000,2020-01-05,2020-01-07,,\n"
    )
    seen = [
        *(("Old */ Tom", "North 1", "2020-01-01"), ("Old */ Tom", "North 1", "2020-01-02")),
        *(("Old */ Tom", "North_1", "2020-01-05"), ("Éva", "North_1", "2020-01-07")),
        *(("007", "North 1", "2020-01-06"), ("007", "North_1", "2020-01-06")),
    ]
    names = ("identity", "camera", "date")
    rows = [{"path": f"{n}", **dict(zip(names, one, strict=True))} for n, one in enumerate(seen)]
    return capture_history(as_table(rows), stations=read_stations(file), days=2)


ORACLE = {"007": "0.10", "Old */ Tom": "1.10", "Éva": "0.01"}


def test_table(history, tmp_path):
    (file,) = write_captures(history, tmp_path / "out.csv", "table")
    with open(file, encoding="utf-8-sig", newline="") as handle:
        header, *lines = csv.reader(handle)
    assert header == ["identity", "2020-01-01", "2020-01-03", "2020-01-05", "2020-01-07"]
    assert {name: "".join(signs) for name, *signs in lines} == ORACLE
    assert file.read_bytes().startswith(b"\xef\xbb\xbf"), "Excel would take it for another encoding"


def test_mark(history, tmp_path, caplog):
    (file,) = write_captures(history, tmp_path, "mark")
    assert file.name == "captures.inp"
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines == ["/* 007 */ 0.10 1;", "/* Old....Tom */ 1.10 1;", "/* Éva */ 0.01 1;"]
    assert "Old */ Tom -> Old....Tom" in caplog.text


def test_rmark(history, tmp_path):
    (file,) = write_captures(history, tmp_path / "new" / "folder", "rmark")
    table = pd.read_csv(file, sep=r"\s+", dtype=str, quotechar='"', comment="#")
    assert list(table) == ["ch", "id"]
    assert table.ch.tolist() == list(ORACLE.values())


def test_secr(history, tmp_path, caplog):
    captures, traps = write_captures(history, tmp_path, "secr")
    assert "stations as the program can read them: North 1 -> North.1, North_1 -> North.1.2" in (
        caplog.text
    )
    lines = captures.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("#")
    assert lines[1:] == [
        "1 007 3 North.1",
        "1 007 3 North.1.2",
        "1 Old....Tom 1 North.1",  # twice photographed
        "1 Old....Tom 3 North.1.2",
        "1 Éva 4 North.1.2",
    ]
    lines = traps.read_text().splitlines()
    assert "binary.usage = FALSE" in lines[0] and lines[1].startswith("#")
    assert lines[2:] == ["North.1 526000 604000.25 2 0 2 1", "North.1.2 523000 606000 0 0 2 1"]


def test_oscr(history, tmp_path):
    edf, tdf = (
        pd.read_csv(file) for file in write_captures(history, tmp_path, "oscr", decimals=-4)
    )
    assert list(edf) == ["session", "individual", "occasion", "trap"]
    assert set(edf.trap) <= set(tdf.trap) and set(edf.session) == {1}
    y = np.zeros((3, 2, 4), dtype=int)  # as data2oscr makes it
    order = sorted(set(edf.individual))
    for row in edf.itertuples():
        y[order.index(row.individual), tdf.trap.tolist().index(row.trap), row.occasion - 1] += 1
    expected = (history.by_station > 0).transpose(0, 2, 1)
    np.testing.assert_array_equal(y, expected)
    assert list(tdf)[3:9] == ["1", "2", "3", "4", "sep", "effort.1"]
    assert tdf[["1", "2", "3", "4"]].values.tolist() == [[1, 0, 1, 1], [0, 0, 1, 1]]
    assert tdf[[f"effort.{k}" for k in range(1, 5)]].values.tolist() == history.effort.tolist()
    assert tdf[["X", "Y"]].values.tolist() == [[530000, 600000], [520000, 610000]]


def test_leopard_cats(shared, tmp_path):
    """Photographs, catalogue file, stations: the published history in all formats."""
    folder = shared / "data" / "LeopardCats"
    import_catalogue(folder / "photographs").write(tmp_path / "catalogue.csv")
    stations = read_stations(folder / "stations.csv")
    history = capture_history(
        read_catalogue(tmp_path / "catalogue.csv"), stations=stations, days=10
    )
    assert str(history.occasions[0]) == "2009-04-02"
    assert (history.n.tolist(), history.u.tolist()) == ([2, 2, 3, 2, 1], [2, 0, 1, 0, 0])
    texts = {"1": "11110", "2": "11101", "3": "00110"}
    assert dict(zip(history.individuals, history.texts(), strict=True)) == texts
    assert history.counts.sum() == history.by_station.sum() == 26
    # StationC is off from 12 May to its retrieval.
    looked = ("04-02", "05-14"), ("04-03", "05-16"), ("04-04", "05-11")
    days = [len(pd.date_range(*(f"2009-{end}" for end in ends))) for ends in looked]
    assert history.effort.sum(1).tolist() == days
    for name in FORMATS:
        write_captures(history, tmp_path / name, name)
    table = pd.read_csv(tmp_path / "table" / "captures.csv", index_col="identity", dtype=str)
    assert {name: "".join(row) for name, row in table.iterrows()} == texts
    mark = (tmp_path / "mark" / "captures.inp").read_text()
    assert mark == "".join(f"/* {name} */ {text} 1;\n" for name, text in texts.items())
    rmark = pd.read_csv(tmp_path / "rmark" / "rmark.txt", sep="\t", dtype=str)
    assert dict(zip(rmark["id"], rmark["ch"], strict=True)) == texts
    detected = [line.split() for line in (tmp_path / "secr" / "captures.txt").open()][1:]
    edf = pd.read_csv(tmp_path / "oscr" / "edf.csv", dtype=str).values.tolist()
    assert detected == edf and len(edf) == 15
    for name, text in texts.items():
        occasions = {int(line[2]) for line in detected if line[1] == name}
        assert occasions == {k for k, sign in enumerate(text, 1) if sign == "1"}
    traps = [line.split() for line in (tmp_path / "secr" / "traps.txt").open()][2:]
    assert traps[2] == ["StationC", "525000", "607050", "8", "10", "10", "10", "0"]
    tdf = pd.read_csv(tmp_path / "oscr" / "tdf.csv", dtype=str)
    assert tdf.filter(like="effort").values.tolist() == [line[3:] for line in traps]


def test_what_a_format_cannot_do_without(history, tmp_path):
    with pytest.raises(UserError, match=r"did you mean 'rmark'\?"):
        write_captures(history, tmp_path, "r-mark")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="secr writes two files into a folder"):
        write_captures(history, tmp_path / "file", "secr")
    rows = [{"path": "1", "identity": "a", "date": "2020-01-01"}]
    with pytest.raises(UserError, match="oscr needs to know where the cameras stood"):
        write_captures(capture_history(as_table(rows)), tmp_path, "oscr")
    strange = capture_history(as_table(rows), stations=history.places)
    with pytest.raises(UserError, match="secr needs the station of each photograph, and 1 that"):
        write_captures(strange, tmp_path, "secr")
    place = tmp_path / "nowhere.csv"
    place.write_text("Station,Setup_date,Retrieval_date\nA,2020-01-01,2020-01-02\n")
    rows[0]["camera"] = "A"
    nowhere = capture_history(as_table(rows), stations=read_stations(place))
    assert nowhere.texts() == ["10"]
    with pytest.raises(UserError, match="station A has no coordinates"):
        write_captures(nowhere, tmp_path, "secr")
