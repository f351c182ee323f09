"""The catalogue as a file: what spreadsheets do to it, and that nothing wrong passes."""

import csv
from datetime import datetime
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from openanimals.data.catalogue import UNKNOWN
from openanimals.identification.catalogue_file import (
    COLUMNS,
    annotation_ids,
    as_catalogue,
    as_table,
    find_annotations,
    read_catalogue,
    rebase,
    write_catalogue,
)
from openanimals.utils.errors import UserError


def written(folder: Path, text: str, name: str = "catalogue.csv") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_round_trip_and_what_excel_sees(tmp_path):
    rows = [
        {"path": "a/1.jpg", "identity": 'Ñu, "the" one', "bbox": "1 2 30.5 40", "Ring": "0071"},
        {
            "path": "a/1.jpg",
            "date": "2025-04-01T09:32:14",
            "bbox": "50 2 30 40",
            "latitude": "-1.5",
        },
    ]
    table = as_table(rows, ["Ring"])
    file = tmp_path / "new" / "catalogue.csv"
    write_catalogue(file, table)
    assert file.read_bytes().startswith(b"\xef\xbb\xbfpath,identity,date,camera,")
    with open(file, encoding="utf-8-sig", newline="") as handle:  # by another reader than ours
        assert next(csv.DictReader(handle))["identity"] == 'Ñu, "the" one'
    pd.testing.assert_frame_equal(read_catalogue(file), table)
    assert [*table.columns] == [*COLUMNS, "Ring"]


def test_a_table_saved_by_excel(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["Path", "IDENTITY", "date", "orientation", "Ring", None])
    book.active.append(["a\\1.jpg", 7.0, datetime(2025, 4, 1), "left", None, None])
    book.active.append([None] * 6)
    book.active.append(["a\\2.jpg", "Unknown 3", datetime(2025, 4, 1, 9, 32, 14, 3), None, 12.5])
    book.save(tmp_path / "catalogue.xlsx")
    table = read_catalogue(tmp_path / "catalogue.xlsx")
    assert table["path"].tolist() == ["a/1.jpg", "a/2.jpg"]
    assert table["identity"].tolist() == ["7", None]
    assert table["date"].tolist() == ["2025-04-01", "2025-04-01T09:32:14"]
    assert table["viewpoint"].tolist() == ["left", None]
    assert table["Ring"].tolist() == [None, "12.5"]


@pytest.mark.parametrize(
    "text",
    [
        "path;identity;latitude\n1.jpg;007;-1,25\n",
        "sep=;\npath;identity;latitude\n1.jpg;007;-1,25\n",
        "\ufeffpath\tidentity\tlatitude\n\n1.jpg\t 007 \t-1.25\n\t\t\n",
    ],
)
def test_separators(tmp_path, text):
    (row,) = read_catalogue(written(tmp_path, text)).to_dict("records")
    assert (row["path"], row["identity"], row["latitude"]) == ("1.jpg", "007", "-1.25")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,date\n1.jpg,03/04/2025\n", "line 2 has date '03/04/2025', expected year-month-day"),
        ("path,bbox\n1.jpg,1 2 3\n", "line 2 has bbox '1 2 3', expected four numbers"),
        ("path,bbox\n1.jpg,1 2 0 4\n", "line 2 has bbox"),
        ("path,bbox\n1.jpg,1 2 nan 4\n", "line 2 has bbox"),
        ("path,latitude\n\n1.jpg,91\n", "line 3 has latitude '91'"),
        ("path,identity\n,a\n", "line 2 has no path"),
        ("path,identity\na.jpg\n", "line 2 has 1 values instead of 2"),
        ("path,identiy\na.jpg,b\n", "did you mean 'identity'"),
        ("path,Path\na.jpg,b\n", "'path' is there twice"),
        ("path,x,x\na.jpg,b,c\n", "'x' is there twice"),
        ("file,name\na.jpg,b\n", "no column 'path'; the columns are file, name"),
        ("path,identity\na.jpg,b\nb.jpg,c\na.jpg,c\n", "line 4 and line 2 are both a.jpg"),
        ("", "is empty"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    file = written(tmp_path, text)
    with pytest.raises(UserError) as error:
        read_catalogue(file)
    assert message in str(error.value)
    assert "catalogue.csv" in str(error.value)


def test_five_lines_and_the_number_of_the_rest(tmp_path):
    text = "path,date\n" + "".join(f"{n}.jpg,yesterday\n" for n in range(9))
    with pytest.raises(UserError, match=r"line 6 has .*; and 4 more"):
        read_catalogue(written(tmp_path, text))


def test_files_that_are_no_tables(tmp_path):
    (tmp_path / "latin.csv").write_bytes("path,identity\n1.jpg,Ñu\n".encode("cp1252"))
    (tmp_path / "old.xls").write_bytes(b"")
    written(tmp_path, "path\n1.jpg\n", "text.xlsx")
    for name, message in (
        ("latin.csv", "CSV UTF-8"),
        ("old.xls", "save it as .xlsx"),
        ("text.xlsx", "cannot be read as a spreadsheet"),
        ("none.csv", "does not exist"),
        (".", "is no file"),
    ):
        with pytest.raises(UserError, match=message):
            read_catalogue(tmp_path / name)
    with pytest.raises(UserError, match=r"ends in \.csv"):
        write_catalogue(tmp_path / "a.xlsx", as_table([{"path": "1.jpg"}]))


def test_annotation_ids():
    table = as_table(
        [{"path": "1.jpg"}, {"path": "2.jpg", "bbox": "1 2.50 3 4"}, {"path": "2.jpg"}]
    )
    assert annotation_ids(table) == ["1.jpg", "2.jpg#1,2.5,3,4", "2.jpg"]
    with pytest.raises(UserError, match=r"row 2 and row 1 are both 1\.jpg"):
        annotation_ids(as_table([{"path": "1.jpg"}, {"path": "1.jpg"}]))


def test_an_animal_is_found_by_its_photograph_if_that_shows_no_other():
    ids = ["1.jpg", "2.jpg#1,2,3,4", "3.jpg#1,2,3,4", "3.jpg#5,6,7,8", "33.jpg"]
    found = find_annotations(["2.jpg", "1.jpg", "3.jpg#5,6,7,8"], ids, "the catalogue")
    assert found == ["2.jpg#1,2,3,4", "1.jpg", "3.jpg#5,6,7,8"]
    with pytest.raises(UserError, match="3.jpg shows 2 animals: 3.jpg#1,2,3,4, 3.jpg#5,6,7,8"):
        find_annotations(["3.jpg"], ids, "the catalogue")
    with pytest.raises(UserError, match="the catalogue has no photograph '1.jp' .did you mean"):
        find_annotations(["1.jp"], ids, "the catalogue")


def test_as_catalogue(tmp_path):
    table = as_table([{"path": "1.jpg", "bbox": "1 2 3.5 4"}, {"path": "2.jpg", "identity": "a"}])
    catalogue = as_catalogue(table, tmp_path)
    assert catalogue.identities == [UNKNOWN, "a"]
    assert catalogue.column("bbox") == [(1.0, 2.0, 3.5, 4.0), None]
    assert catalogue.path(1) == tmp_path / "2.jpg"


def test_rebase_keeps_every_file(tmp_path):
    table = as_table([{"path": "a/1.jpg", "mask": "a/1.png"}, {"path": "2.jpg"}])
    moved = rebase(table, tmp_path / "photos", tmp_path)
    assert moved["path"].tolist() == ["photos/a/1.jpg", "photos/2.jpg"]
    assert moved["mask"].tolist() == ["photos/a/1.png", None]
    deeper = rebase(moved, tmp_path, tmp_path / "photos" / "a")
    assert deeper["path"].tolist() == ["1.jpg", (tmp_path / "photos/2.jpg").as_posix()]


def test_lines_are_counted_as_a_spreadsheet_does_and_its_errors_are_named(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["path", "identity"])
    book.active.append([])
    book.active.append(["1.jpg", "#NAME?"])
    book.save(tmp_path / "catalogue.xlsx")
    with pytest.raises(UserError, match=r"line 3 has #NAME\?, an error of"):
        read_catalogue(tmp_path / "catalogue.xlsx")
