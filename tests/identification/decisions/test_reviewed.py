"""A corrected spreadsheet, and what spreadsheet programs do to it."""

from datetime import date, datetime

import pytest
from openpyxl import Workbook, load_workbook

from openanimals.identification.decisions.evidence import Evidence
from openanimals.identification.decisions.individuals import resolve
from openanimals.identification.decisions.reviewed import apply_reviewed, read_reviewed
from openanimals.utils.errors import UserError

HEADER = ["file", "encounter", "proposed", "probability", "decision", "reviewed"]
NAMES = ["Kesi", "Duma", "007", "12", "3-1", "H-07"]
ENCOUNTERS = {"a.jpg": "e1", "b.jpg": "e1", "c.jpg": "e2", "d.jpg#1,2,3,4": "e3"}


def rows(**reviewed):
    """The lines of a sheet, answers by the first letter of the file."""
    return [
        [file, encounter, "Kesi", 0.97, "known", reviewed.get(file[0])]
        for file, encounter in ENCOUNTERS.items()
    ]


@pytest.fixture
def xlsx(tmp_path):
    def write(lines, header=HEADER):
        book = Workbook()
        for line in [header, *lines]:
            book.active.append(line)
        book.save(tmp_path / "matches.xlsx")
        return tmp_path / "matches.xlsx"

    return write


@pytest.fixture
def refused(xlsx):
    def message(lines, header=HEADER, **others):
        with pytest.raises(UserError) as error:
            read_reviewed(xlsx(lines, header), NAMES, ENCOUNTERS, **others)
        return str(error.value)

    return message


def test_there_and_back_through_a_real_spreadsheet(xlsx, tmp_path):
    file = xlsx(rows())
    book = load_workbook(file)  # somebody fills it in, and sorts it
    sheet = book.active
    sheet["F3"], sheet["F4"], sheet["F5"] = "Kesi", "new", "?"
    lines = [[cell.value for cell in line] for line in sheet.iter_rows(min_row=2)][::-1]
    file = xlsx([line[::-1] for line in lines], HEADER[::-1])

    reviewed = read_reviewed(file, NAMES, ENCOUNTERS)
    assert reviewed.told == []
    with Evidence(tmp_path / "decisions.sqlite") as evidence:
        numbers = apply_reviewed(reviewed, evidence, by="Ada")
        assert apply_reviewed(reviewed, evidence, by="Ada") == numbers
        decisions = evidence.decisions()
    assert sorted((d.kind, d.first, d.second, d.by) for d in decisions) == [
        ("incomparable", "d.jpg#1,2,3,4", None, "Ada"),
        ("name", "a.jpg", "Kesi", "Ada"),
        ("name", "b.jpg", "Kesi", "Ada"),
        ("new", "c.jpg", None, "Ada"),
    ]


def test_csv_as_a_german_excel_writes_it(tmp_path):
    file = tmp_path / "matches.csv"
    lines = [";".join(HEADER), "a.jpg;e1;Kesi;0,97;known;", "b.jpg;e1;Kesi;0,97;known;7"]
    file.write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n").encode())
    reviewed = read_reviewed(file, NAMES)
    assert reviewed.answers == [("name", "007", ["a.jpg", "b.jpg"])]
    assert reviewed.told == ["line 3: 7 is taken for 007, the only such name"]


@pytest.mark.parametrize("answer", [7, 7.0, "7", "7.0", "'007", "007", " 007 "])
def test_names_that_lost_their_zeros(xlsx, answer):
    assert read_reviewed(xlsx(rows(c=answer)), NAMES).answers == [("name", "007", ["c.jpg"])]


def test_numbers_that_two_names_could_be(xlsx):
    names = ["7", "007"]
    with pytest.raises(UserError, match="line 4 has '7', which could be 7 or 007"):
        read_reviewed(xlsx(rows(c=7)), names)
    assert read_reviewed(xlsx(rows(c="007")), names).answers == [("name", "007", ["c.jpg"])]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (date(2026, 1, 3), "line 4 has the date '2026-01-03' (perhaps 3-1)"),
        (datetime(2026, 3, 1, 12, 30), "line 4 has the date '2026-03-01T12:30:00' (perhaps 3-1)"),
        *[(text, "line 4 has the date") for text in ("03. Jan", "3-Mrz", "Jan-03", "01/03/2026")],
        ("1.23456789012346E+17", "digits a spreadsheet may have rounded"),
        ("#NAME?", "an error of the spreadsheet"),
        ("Kessi", "did you mean 'Kesi'?"),
        ("KESI", "did you mean 'Kesi'?"),
        ("H07", "did you mean 'H-07'?"),
        ("H-7", "did you mean 'H-07'?"),
        ("nwe", "did you mean 'new'?"),
        ("new-5", "no such new individual"),
        ("unknown", "write ? where nobody can tell"),
    ],
)
def test_answers_that_are_asked_about(refused, answer, message):
    found = refused(rows(c=answer))
    assert message in found and "matches.xlsx" in found and "line 4" in found


@pytest.mark.parametrize("answer", ["H-08", "Zuri", "5-2", "13"])
def test_new_names_are_taken_and_told(xlsx, answer):
    reviewed = read_reviewed(xlsx(rows(a=answer, c=answer)), NAMES, ENCOUNTERS)
    assert [name for _, name, _ in reviewed.answers] == [answer, answer]
    assert len(reviewed.told) == 1 and f"{answer} is a new individual" in reviewed.told[0]


def test_a_new_name_that_is_near_a_known_or_another_new_one(xlsx, refused):
    assert "did you mean 'Zuri'" in refused(rows(a="Zuri", c="Zurri"))
    reviewed = read_reviewed(xlsx(rows(c="Kessi")), NAMES, new_names=["Kessi"])
    assert reviewed.answers == [("name", "Kessi", ["c.jpg"])]


def test_an_individual_called_like_an_answer(xlsx):
    with pytest.raises(UserError, match="line 4 has 'new', but an individual is called so"):
        read_reviewed(xlsx(rows(c="new")), ["NEW", "Kesi"])


def test_accents_in_two_forms_are_one_name(xlsx):
    reviewed = read_reviewed(xlsx(rows(c="Zoë")), ["Zoe\u0308"])
    assert reviewed.answers == [("name", "Zoe\u0308", ["c.jpg"])]


def test_rows_that_do_not_fit_what_was_asked(refused, xlsx):
    assert "lines 2 and 3 are both of encounter 'e1', but say 'Kesi' and 'new'" in refused(
        rows(a="Kesi", b="new")
    )
    lines = rows(a="Kesi")
    lines[0][0] = "x/a.jpg"
    assert "line 2 has file 'x/a.jpg', which was not asked (did you mean 'a.jpg'?)" in refused(
        lines
    )
    files = [line[0] for line in rows()]
    alone = [[file, *line[1:]] for file, line in zip(files[::-1], rows(a="Kesi"), strict=True)]
    assert "was one column sorted without the others?" in refused(alone)
    reviewed = read_reviewed(xlsx(rows(a="Kesi")[:1]), NAMES, ENCOUNTERS)
    assert reviewed.answers == [("name", "Kesi", ["a.jpg"])]
    assert "3 photographs are not in" in reviewed.told[0] and "b.jpg, c.jpg" in reviewed.told[0]
    header = [*HEADER[:-1], "reveiwed"]
    assert "no column 'reviewed' (did you mean 'reveiwed'?)" in refused(rows(), header)


def test_a_spreadsheet_corrected_and_applied_again(xlsx, tmp_path):
    with Evidence(tmp_path / "decisions.sqlite") as evidence:

        def identities(by="Ada", **answers):
            reviewed = read_reviewed(xlsx(rows(**answers)), NAMES, ENCOUNTERS)
            apply_reviewed(reviewed, evidence, by=by)
            found = resolve([*ENCOUNTERS], {}, evidence.decisions())
            return [found.identity["a.jpg"], found.identity["b.jpg"], len(found.conflicts)]

        assert identities(a="Kesi") == ["Kesi", "Kesi", 0]
        assert identities(a="Duma") == ["Duma", "Duma", 0]
        new, again, _ = identities(a="new")
        assert new == again and new.startswith("new-")
        assert identities(a="new") == [new, new, 0]
        one, two, conflicts = identities(a="skip")
        assert one == two and not conflicts  # still the same animal
        assert identities(a="Kesi") == ["Kesi", "Kesi", 0]
        # Somebody else's answer is not replaced, but contradicted.
        assert identities(by="Ben", a="Duma")[2] == 1
