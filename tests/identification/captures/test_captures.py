"""Capture histories, held against a published one, day counts by hand and a naive loop."""

import logging
from datetime import date, timedelta

import numpy as np
import openpyxl
import pandas as pd
import pytest

from openanimals.identification.captures.capture_history import capture_history
from openanimals.identification.captures.stations import read_stations
from openanimals.identification.catalogue_file import as_table
from openanimals.identification.dates import clock_offset
from openanimals.utils.errors import UserError


def seen_at(*lines: str) -> pd.DataFrame:
    """A catalogue from lines ``identity camera date viewpoint``; ``-`` is not known."""
    names = ("identity", "camera", "date", "viewpoint")
    rows = [dict(zip(names, line.split(), strict=False)) for line in lines]
    return as_table(
        [
            {"path": f"{n}.jpg", **{k: None if v == "-" else v for k, v in row.items()}}
            for n, row in enumerate(rows)
        ]
    )


@pytest.fixture
def stations(tmp_path):
    """Write a table of stations and read it; the default has one that was off for two days."""

    def read(
        *lines: str, header="Station,x,y,Setup_date,Retrieval_date,Problem1_from,Problem1_to", **how
    ):
        file = tmp_path / "stations.csv"
        default = (
            "A,0,0,2020-01-01,2020-01-10,,",
            "B,100,0,2020-01-03,2020-01-10,2020-01-05,2020-01-06",
        )
        file.write_text("\n".join([header, *(lines or default)]))
        return read_stations(file, **how)

    return read


def test_a_station_that_is_off_does_not_look(stations, caplog):
    table = seen_at("a A 2020-01-01", "b A 2020-01-09", "a B 2020-01-10T23:59:59")
    history = capture_history(table, stations=stations(), days=3)
    assert history.effort.tolist() == [[3, 3, 3, 1], [1, 1, 3, 1]]
    assert history.lengths.tolist() == [3, 3, 3, 1]
    assert "the last occasion, to 2020-01-10, has 1 days instead of 3" in caplog.text
    assert history.texts() == ["1001", "0010"]
    assert history.summary().splitlines()[-1].split() == ["2020-01-10", "1", "2", "1", "0"]


def test_an_occasion_without_any_effort_is_missing_unless_a_photograph_proves_it(stations, caplog):
    off = stations("A,0,0,2020-01-01,2020-01-06,2020-01-03,2020-01-04")
    history = capture_history(seen_at("a A 2020-01-01"), stations=off, days=2)
    assert history.texts() == ["1.0"]
    assert "from 2020-01-03: missing, not 'not seen'" in caplog.text
    history = capture_history(seen_at("a A 2020-01-01", "- A 2020-01-04"), stations=off, days=2)
    assert history.texts() == ["100"]
    assert history.effort.tolist() == [[2, 1, 2]]
    assert "1 photographs were taken when their station was off by its dates" in caplog.text
    assert "A on 2020-01-04" in caplog.text
    history = capture_history(seen_at("a A 2020-01-01", "b - 2020-01-04"), stations=off, days=2)
    assert history.texts() == ["100", "010"]


def test_a_random_survey_as_a_naive_loop_counts_it(stations):
    generator = np.random.default_rng(3)
    day = [date(2020, 1, 1) + timedelta(int(n)) for n in generator.integers(0, 10, 60)]
    rows = [(f"i{generator.integers(5)}", "AB"[generator.integers(2)], d) for d in day]
    history = capture_history(
        seen_at(*(f"{i} {c} {d}" for i, c, d in rows)), stations=stations(), days=4
    )
    for who, name in enumerate(history.individuals):
        for k in range(3):
            first = date(2020, 1, 1) + timedelta(4 * k)
            inside = [c for i, c, d in rows if i == name and first <= d < first + timedelta(4)]
            assert history.counts[who, k] == len(inside)
            assert history.by_station[who, k].tolist() == [inside.count("A"), inside.count("B")]


def test_which_viewpoints_count(caplog):
    table = seen_at(
        *("a A 2020-01-01 left", "a A 2020-01-02 Right_flank", "a A 2020-01-03 front"),
        *("b A 2020-01-02 left", "c A 2020-01-03 right"),
    )

    def texts(viewpoints):
        found = capture_history(table, viewpoints=viewpoints, start="2020-01-01", end="2020-01-03")
        return dict(zip(found.individuals, found.texts(), strict=True))

    assert texts("linked") == {"a": "111", "b": "010", "c": "001"}
    assert texts("left") == {"a": "100", "b": "010"}
    assert texts("right") == {"a": "010", "c": "001"}
    assert texts("both") == {"a": "111"}
    assert "2 individuals are not known from left and right and do not count: b, c" in caplog.text
    with pytest.raises(UserError, match=r"did you mean 'left'\?"):
        texts("lefft")
    with pytest.raises(UserError, match="no known individual has such photographs"):
        capture_history(table.assign(viewpoint=None), viewpoints="left")


def test_clocks_move_photographs_to_their_day():
    table = seen_at("a A 2020-01-01T23:30:00", "b B 2020-01-01T23:30:00", "c A 2020-01-01")
    clock = dict([clock_offset("A=+1h")])
    history = capture_history(table, clock=clock)
    assert (history.n.tolist(), history.individuals) == ([2, 1], ("a", "b", "c"))
    assert history.texts() == ["01", "10", "10"]  # a day without a time stays
    back = capture_history(table, clock={"A": timedelta(hours=-1)}, end="2020-01-01")
    assert back.texts() == ["1", "1", "1"]
    for wrong, message in (("A", "expected a station and"), ("A=soon", "expected a station and")):
        with pytest.raises(UserError, match=message):
            clock_offset(wrong)
    with pytest.raises(UserError, match="no photograph was taken at 'AA'"):
        capture_history(table, clock={"AA": timedelta(hours=1)})


def test_what_does_not_count_is_told(stations, caplog):
    caplog.set_level(logging.INFO)
    table = seen_at(
        *("a A 2020-01-02", "- A 2020-01-02", "a A -", "a A 2021-01-02", "b AA 2020-01-03"),
        "c - 2020-01-04",
    )
    history = capture_history(table, stations=stations(), days=5)
    assert history.individuals == ("a", "b", "c")
    assert history.counts.tolist() == [[1, 0]] * 3
    assert (history.by_station.sum(), history.elsewhere) == (1, 2)
    for message in (
        *("1 photographs of nobody known", "1 photographs of known individuals have no date"),
        "1 photographs were taken before 2020-01-01 or after 2020-01-10",
        "2 photographs count as seen, but at no station: 'AA'",
        "stations without a photograph, kept with their effort: B",
    ):
        assert message in caplog.text
    with pytest.raises(UserError, match="no photograph of a known individual lies between"):
        capture_history(table, stations=stations(), start="2020-01-06")
    with pytest.raises(UserError, match="no photograph has a date"):
        capture_history(seen_at("a A -"))
    with pytest.raises(UserError, match="0 days; expected a whole number"):
        capture_history(table, days=0)
    with pytest.raises(UserError, match="start is '2.1.2020'; expected a day such as"):
        capture_history(table, start="2.1.2020")


def test_without_stations_every_day_counts_as_looked():
    history = capture_history(seen_at("a - 2020-01-01", "a - 2020-01-05"), days=2)
    assert history.texts() == ["101"]
    assert history.effort.shape == (0, 3)
    assert capture_history(seen_at("a - 2020-01-01"), days=30).lengths.tolist() == [1]


# Stations

DATES = "Station,Setup_date,Retrieval_date"


def test_stations_of_a_spreadsheet_with_real_dates(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["station", "Longitude", "Latitude", "Setup date", "RETRIEVAL DATE"])
    book.active.append(["A", 45.0, 45.0, date(2020, 1, 1), "2020-01-10 18:00"])
    book.active.append(["B", 45.01, 45.0, date(2020, 1, 1), date(2020, 1, 10)])
    book.active.append(["C", 45.0, 45.01, date(2020, 1, 1), date(2020, 1, 10)])
    book.save(tmp_path / "stations.xlsx")
    stations = read_stations(tmp_path / "stations.xlsx")
    assert (
        stations.active(np.array(["2019-12-31", "2020-01-10"], "datetime64[D]")).tolist()
        == [[False, True]] * 3
    )
    # A degree at 45 degrees north is 78 847 m east and 111 132 m north (WGS84).
    np.testing.assert_allclose(np.ptp(stations.metres(), axis=0), [788.47, 1111.32], atol=0.2)


def test_the_better_of_two_columns_is_read_and_told(stations, caplog):
    header = f"Camera,{DATES},x,y,latitude,longitude"
    read = stations("C1,A,2020-01-01,2020-01-02,500000,9800000,-1,36", header=header)
    assert (read.names, read.metres().tolist()) == (("A",), [[500000, 9800000]])
    assert "Station is read, and column Camera is not" in caplog.text
    assert "x and y are read, and longitude and latitude are not" in caplog.text


def test_the_order_of_day_and_month_is_proven_or_asked_for(stations):
    day = stations("A,02/04/2009,14/05/2009", header=DATES)
    month = stations("A,04.02.2009,5.14.2009", header=DATES)
    assert day.span == month.span == ((np.datetime64("2009-04-02"), np.datetime64("2009-05-14")),)
    with pytest.raises(
        UserError, match="line 2 .* no date proves whether the day or the month comes first"
    ):
        stations("A,02/04/2009,12/05/2009", header=DATES)
    told = stations("A,02/04/2009,12/05/2009", header=DATES, day_first=True)
    assert told.span[0][1] == np.datetime64("2009-05-12")
    with pytest.raises(UserError, match=r"in line 2 the day comes first \(14/05/2009\), in line 2"):
        stations("A,14/05/2009,05/14/2009", header=DATES)
    with pytest.raises(UserError, match="line 2 has Retrieval_date '14/05/2009', expected month/"):
        stations("A,02/04/2009,14/05/2009", header=DATES, day_first=False)


TWO_DAYS = "2020-01-01,2020-01-02"


@pytest.mark.parametrize(
    "header, line, message",
    [
        ("Station,Setup_date,Retreival_date", f"A,{TWO_DAYS}", r"is it 'Retreival_date'\?"),
        (f"{DATES},Problem1_form", f"A,{TWO_DAYS},", r"did you mean 'Problem1_from'\?"),
        (f"{DATES},Problem1_from", f"A,{TWO_DAYS},", "problem1from has no column problem1to"),
        (f"{DATES},x", f"A,{TWO_DAYS},1", "only one of the columns x and y"),
        (DATES, "A,2020-01-02,2020-01-01", "2 has Retrieval_date 2020-01-01 before Setup_date"),
        (DATES, "A,2020-01-02,", "line 2 has Retrieval_date '', expected a date .*; it is empty"),
        (None, f"A,east,0,{TWO_DAYS},,", "line 2 has x 'east', expected a number"),
        (None, f"A,0,0,{TWO_DAYS},2020-01-01,", "only one of Problem1_from, Problem1_to"),
        (DATES, f"A,{TWO_DAYS}\nA,{TWO_DAYS}", "station 'A' is there twice"),
    ],
)
def test_wrong_stations_are_named_with_their_line(stations, header, line, message):
    with pytest.raises(UserError, match=message):
        stations(line, **({"header": header} if header else {}))
