"""What identification leaves behind, read back by other programs' readers."""

import csv
import json
import math
import os
from dataclasses import replace

import numpy as np
import openpyxl
import pandas as pd
import pytest

from openanimals.identification.matches import COLUMNS, NUMBERS, Candidate, Match, Matches
from openanimals.identification.ranking import Ranking
from openanimals.utils.errors import FileError, UserError

FORMULAE = ["=2+3", "+1", "-x", "@a", "'=q", "\t=1", "''=", "="]
STRANGE = [*FORMULAE, "007", "'Kesi", "#N/A", "3-1", "1e5", "NA", 'a,"b"\nc', "Żółw 山", "TRUE"]
STRANGE += ["'''", "O'Neil", "'a=b"]


def match(encounter="e1", names=("Kesi", "Mara"), decision="known", **changes):
    chances = [0.9, 0.06, 0.01, 0.01, 0.005, 0.005][: len(names)]
    files = changes.pop("annotations", ("new/a.jpg", "new/b.jpg#1,2,30,40"))
    candidates = tuple(
        Candidate(name, chance, f"{name}.jpg", files[-1])
        for name, chance in zip(names, chances, strict=True)
    )
    proposed = {"known": names[:1], "new": ["new"]}.get(decision, [""])[0]
    values = {
        **{"date": "2025-04-01", "place": "Camera 3", "viewpoints": ("left", "")[: len(files)]},
        **{"probability": 0.9, "new": 0.01, "candidates": candidates},
    }
    return Match(encounter, files, decision=decision, proposed=proposed, **{**values, **changes})


def matches(*found, **changes):
    values = {
        **{"fingerprint": "ab12", "matcher": "fusion", "catalogue": "herd.csv", "individuals": 24},
        **{"wrong_names": 0.01, "thresholds": {"known": 0.83}, "rates": {"wrong names": 0.0101}},
        "made": "2025-06-01T12:00:00",
    }
    return Matches([*found], **{**values, **changes})


def test_the_table_has_a_row_a_photograph():
    nothing = match("e2", (), "cannot tell", remark="black")
    table = matches(match(), nothing).table()
    assert table.columns.tolist() == list(COLUMNS)
    first = table.iloc[1].to_dict()
    assert (first["file"], first["viewpoint"]) == ("new/b.jpg#1,2,30,40", "")
    assert (first["proposed"], first["probability"], first["reviewed"]) == ("Kesi", 0.9, "")
    assert (first["candidate_2"], first["probability_2"]) == ("Mara", 0.06)
    assert (first["photograph_2"], first["new_probability"]) == ("Mara.jpg", 0.01)
    assert first["candidate_3"] == "" and math.isnan(first["probability_3"])
    assert table["decision"].tolist() == ["known"] * 2 + ["cannot tell"] * 2
    assert table.loc[2:, list(NUMBERS)].isna().all(axis=None)
    assert table.loc[2, "remark"] == "black" and set(table["model"]) == {"ab12"}
    assert matches().table().columns.tolist() == list(COLUMNS)


def test_the_cells_to_fill_offer_all_names_and_take_others(tmp_path):
    names = ["Zuri", "=2+3", "Kesi"]
    none = np.zeros((1, 3), int)
    ranking = Ranking(["e1"], names, ["Kesi.jpg"], none.astype(np.float32), none, none)
    _, file, *_ = replace(matches(match()), ranking=ranking).write(tmp_path)
    book = openpyxl.load_workbook(file)
    (offered,) = book["matches"].data_validations.dataValidation
    (reviewed,) = (cell for cell in book["matches"][1] if cell.value == "reviewed")
    letter, last = reviewed.column_letter, book["matches"].max_row
    assert str(offered.sqref) == f"{letter}2:{letter}{last}" and not offered.showErrorMessage
    assert (offered.type, offered.formula1) == ("list", "choices!$A$1:$A$6")
    listed = [cell.value for (cell,) in book["choices"]["A1:A6"]]
    assert listed == ["new", "?", "skip", *sorted(names)] and book["choices"].max_row == 6


def test_names_stay_what_they_are_in_both_spreadsheets(tmp_path):
    found = [match(f"{n}", (name,), annotations=(name,)) for n, name in enumerate(STRANGE)]
    file_csv, file_xlsx, *_ = matches(*found).write(tmp_path)

    sheet = openpyxl.load_workbook(file_xlsx)["matches"]
    read = list(sheet.iter_rows(min_row=2))
    column = {cell.value: n for n, cell in enumerate(sheet[1])}
    for name in ("file", "proposed", "candidate_1"):
        cells = [row[column[name]] for row in read]
        assert [cell.value for cell in cells] == STRANGE
        assert {(cell.data_type, cell.number_format) for cell in cells} == {("s", "@")}
    assert {row[column["probability"]].value for row in read} == {0.9}
    # What is still to be typed is text as well: Excel makes 7 of 007 elsewhere.
    assert {row[column["reviewed"]].number_format for row in read} == {"@"}
    assert sheet.freeze_panes == "B2"
    assert sheet.auto_filter.ref == sheet.dimensions
    assert pd.read_excel(file_xlsx, dtype=str, na_filter=False)["proposed"].tolist() == STRANGE

    assert file_csv.read_bytes().startswith(b"\xef\xbb\xbffile,")
    with open(file_csv, encoding="utf-8-sig", newline="") as handle:
        rows = [*csv.DictReader(handle)]
    assert [row["probability"] for row in rows] == ["0.9000"] * len(STRANGE)
    quoted = [f"'{name}" if name in FORMULAE else name for name in STRANGE]
    assert [row["proposed"] for row in rows] == quoted
    assert pd.read_csv(file_csv, dtype=str, na_filter=False)["file"].tolist() == quoted


def test_characters_that_no_file_can_have_stop_nothing(tmp_path):
    name = f"bell\a {os.fsdecode(b'caf' + bytes([233]))}.jpg"  # of a folder not in UTF-8
    file_csv, file_xlsx, file_json, *_ = matches(match(annotations=(name,))).write(tmp_path)
    assert "caf" in file_csv.read_text(encoding="utf-8")
    assert openpyxl.load_workbook(file_xlsx)["matches"]["A2"].value.startswith("bell\ufffd caf")
    assert Matches.read(file_json).matches[0].annotations == (name,)


def test_how_it_was_made_is_the_second_sheet(tmp_path):
    _, file, *_ = matches(match(), note="=few").write(tmp_path)
    about = dict(openpyxl.load_workbook(file)["about"].iter_rows(values_only=True))
    assert about["catalogue"] == "herd.csv, 24 individuals" and about["note"] == "=few"
    assert about["expected: wrong names"] == "0.0101"
    assert about["encounters"] == "0 unsure, 0 new, 1 known, 0 cannot tell"


def test_json_holds_everything(tmp_path):
    unsure = match("e2", decision="unsure", date=None)
    nothing = match("e3", (), "cannot tell")
    written = matches(match(), unsure, nothing, rates={"by size": {"10": [0.5, 3]}}, note="Ł")
    *_, file = written.write(tmp_path / "below")
    assert Matches.read(file) == written


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda content: content.pop("made"), "made"),
        (lambda content: content["matches"][0].pop("annotations"), "annotations"),
        (lambda content: content["matches"][0].update(further=1), "further"),
        (lambda content: content.update(matches=[3]), "damaged"),
    ],
)
def test_a_damaged_json_is_told(damage, told, tmp_path):
    *_, file = matches(match()).write(tmp_path)
    content = json.loads(file.read_text())
    damage(content)
    file.write_text(json.dumps(content))
    with pytest.raises(FileError, match=rf"(?s)matches\.json.*{told}"):
        Matches.read(file)
    with pytest.raises(UserError, match=r"none\.json cannot be read"):
        Matches.read(tmp_path / "none.json")


def test_the_work_of_a_reviewer_is_never_written_over(tmp_path, caplog):
    found = matches(match())
    found.write(tmp_path)
    found.write(tmp_path)  # nobody has changed anything
    assert len([*tmp_path.iterdir()]) == 3
    file = tmp_path / "matches.xlsx"
    book = openpyxl.load_workbook(file)
    book["matches"]["I2"] = "Zuri"
    book.save(file)
    found.write(tmp_path)
    (kept,) = tmp_path.glob("matches-changed-*.xlsx")
    assert openpyxl.load_workbook(kept)["matches"]["I2"].value == "Zuri"
    assert openpyxl.load_workbook(file)["matches"]["I2"].value is None
    assert kept.name in caplog.text
