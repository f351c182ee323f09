"""Photographs in, from tables as people write them."""

from datetime import date, datetime, time

import openpyxl
import pytest

from openanimals.identification.importing import import_catalogue
from openanimals.utils.errors import UserError
from tests.identification.importing.importing_fixtures import column, photograph, said, tagged


@pytest.fixture
def folder(tmp_path):
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        photograph(tmp_path / name, size=(200, 100), xmp=tagged("individual|tag"))
    return tmp_path


def imported(folder, text, **options):
    (folder / "table.csv").write_text(text, encoding="utf-8")
    return import_catalogue(folder / "table.csv", **options)


def test_columns_are_guessed_and_shown(folder):
    result = imported(
        folder,
        "sep=;\nNr;Image File;Individual_ID;Site;Flank;Date;Time;Lat;Ring\n"
        "1;1.jpg;007;North;L;2021-05-17;9:32;-1,5;r1\n"
        "2;2.jpg;;North;Right side;2021-05-18;21:05:06;;\n",
    )
    first, second = result.table.to_dict("records")
    assert first["identity"] == "007" and first["camera"] == "North"
    assert (first["date"], first["viewpoint"], first["latitude"]) == (
        "2021-05-17T09:32:00",
        "left",
        "-1.5",
    )
    assert (first["Nr"], first["Ring"]) == ("1", "r1")
    assert (second["date"], second["viewpoint"]) == ("2021-05-18T21:05:06", "right")
    assert second["identity"] is None  # left open, whatever the tag says
    assert "2.jpg (tag)" in said(result, "as the table leaves it open")
    line = said(result, "columns: ")
    assert "path = 'Image File', identity = 'Individual_ID', date = 'Date'" in line
    assert "kept as they are: 'Nr', 'Ring'" in line


def test_columns_can_be_named(folder):
    text = "photo,name,Name of the animal,date\n1.jpg,x,Ana,2021-05-17\n"
    result = imported(folder, text, columns={"identity": "Name of the animal"})
    (row,) = result.table.to_dict("records")
    assert (row["path"], row["identity"], row["name"]) == ("1.jpg", "Ana", "x")
    for columns, message in (
        ({"identity": "Nme"}, "no column 'Nme' .did you mean 'name'"),
        ({"identiti": "name"}, "no 'identiti' .did you mean 'identity'"),
        ({"identity": "name", "camera": "name"}, "'name' is named for two things"),
    ):
        with pytest.raises(UserError, match=message):
            imported(folder, text, columns=columns)


def test_a_number_of_the_row_is_no_individual(folder):
    result = imported(folder, "id,file\n1,1.jpg\n2,2.jpg\n3,3.jpg\n")
    assert {*result.table["identity"]} == {"tag"}
    assert said(result, "differs in every row")
    assert {*imported(folder, "id,file\n1,1.jpg\n1,2.jpg\n").table["identity"]} == {"1"}


def test_a_real_spreadsheet(folder):
    book = openpyxl.Workbook()
    for cells in (
        ["filename", "name", "date", "time", "x", "y", "width", "height"],
        ["1.jpg", 7.0, datetime(2021, 5, 3), time(9, 32), 1, 2, 30, 40],
        ["2.jpg", "Ana", date(2021, 5, 4), None, None, None, None, None],
    ):
        book.active.append(cells)
    book.save(folder / "table.xlsx")
    first, second = import_catalogue(folder / "table.xlsx").table.to_dict("records")
    assert (first["identity"], first["date"]) == ("7", "2021-05-03T09:32:00")
    assert (first["bbox"], second["bbox"], second["date"]) == ("1 2 30 40", None, "2021-05-04")


@pytest.mark.parametrize(
    ("dates", "options", "found"),
    [
        (("3/4/2021", "13/4/2021 9:05"), {}, ("2021-04-03", "2021-04-13T09:05:00")),
        (("3/4/2021", "4/13/2021 9:05 PM"), {}, ("2021-03-04", "2021-04-13T21:05:00")),
        (("3.4.21", "4.5.21"), {"day_first": True}, ("2021-04-03", "2021-05-04")),
        (("3/4/2021", "4/5/2021"), {"day_first": False}, ("2021-03-04", "2021-04-05")),
        (("4/4/2021", "2021-04-05 9:32"), {}, ("2021-04-04", "2021-04-05T09:32:00")),
        (("3 Apr 2021", "April 5, 2021 09:32"), {}, ("2021-04-03", "2021-04-05T09:32:00")),
        (("2021-04-03 9:32:01 pm", ""), {}, ("2021-04-03T21:32:01", None)),
    ],
)
def test_dates(folder, dates, options, found):
    text = f'file,datetime\n1.jpg,"{dates[0]}"\n2.jpg,"{dates[1]}"\n'
    result = imported(folder, text, **options)
    assert tuple(result.table["date"]) == found
    if "13" in dates[1]:
        assert dates[1] in said(result, "comes first")


def test_times_with_a_zone(folder):
    text = "file,date\n1.jpg,2021-03-27T23:30:00Z\n2.jpg,2021-03-28T23:30:00+00:00\n"
    text += "3.jpg,2021-03-28 23:30\n"  # of nobody knows where: as it is
    result = imported(folder, text, zone="Europe/Berlin")
    assert [*result.table["date"]] == [
        "2021-03-28T00:30:00",  # an hour ahead; in that night summer time begins
        "2021-03-29T01:30:00",
        "2021-03-28T23:30:00",
    ]
    assert "2 times turned into those of Europe/Berlin" in said(result, "Berlin")
    result = imported(folder, text)
    assert [*result.table["date"]] == [
        "2021-03-27T23:30:00",
        "2021-03-28T23:30:00",
        "2021-03-28T23:30:00",
    ]
    assert "2 times say a zone, such as 2021-03-27T23:30:00Z, and are kept" in said(result, "zone")
    with pytest.raises(UserError, match="'Europe/Berln' .did you mean 'Europe/Berlin'"):
        imported(folder, text, zone="Europe/Berln")
    with pytest.raises(UserError, match="zone is for a table or a package, and this is a folder"):
        import_catalogue(folder, zone="Europe/Berlin")


@pytest.mark.parametrize(
    ("dates", "options", "message"),
    [
        (("3/4/2021", "4/5/2021"), {}, "line 2 has date 3/4/2021, and no date proves.*day_first"),
        (("13/4/2021", "4/13/2021"), {}, "in line 2 the day comes first .* in line 3 the month"),
        (("13/4/2021", "1/2/2021"), {"day_first": False}, "line 2 has date '13/4/2021'"),
        (("yesterday", "44319"), {}, "line 2 has date 'yesterday'.*line 3 has date '44319'"),
        (("30/2/2021", "1/2/2021"), {}, "line 2 has date '30/2/2021', expected day/month"),
    ],
)
def test_dates_that_could_be_two_or_are_none(folder, dates, options, message):
    with pytest.raises(UserError, match=message):
        imported(folder, f"file,date\n1.jpg,{dates[0]}\n2.jpg,{dates[1]}\n", **options)


def test_a_day_takes_its_time_from_the_photograph(folder):
    photograph(folder / "1.jpg", date="2021:05:17 09:32:11")
    photograph(folder / "2.jpg", date="2021:05:17 09:32:11")
    result = imported(folder, "file,date\n1.jpg,2021-05-17\n2.jpg,2021-05-18\n")
    assert [*result.table["date"]] == ["2021-05-17T09:32:11", "2021-05-18"]
    assert "2.jpg (2021-05-18; EXIF: 2021-05-17T09:32:11)" in said(result, "two times")


PIXELS = "1 2 30 40", "150 20 50 60", "100 50 100 50"
BOXES = {  # of photographs of 200 x 100 pixels
    "pixels": PIXELS,
    "relative": (".005 .02 .15 .4", ".75 .2 .25 .6", ".5 .5 .5 .5"),
    "corners": ("1 2 31 42", "150 20 200 80", "100 50 200 100"),
}


def box_table(form, header="file;bbox"):
    lines = [f"{n}.jpg;{box}" for n, box in enumerate(BOXES[form], 1)]
    return "\n".join([header, *lines])


@pytest.mark.parametrize("form", BOXES)
def test_boxes_of_each_form(folder, form):
    assert tuple(imported(folder, box_table(form), boxes=form).table["bbox"]) == PIXELS
    if form == "pixels":
        assert tuple(imported(folder, box_table(form)).table["bbox"]) == PIXELS
    else:
        with pytest.raises(UserError, match="say --boxes"):
            imported(folder, box_table(form))


def test_a_form_of_boxes_where_there_are_none_is_told(folder):
    assert said(imported(folder, "file,box 1\n1.jpg,1 2 3 4\n", boxes="corners"), "no box")


def test_columns_called_like_corners_are_asked_about(folder):
    text = "file,xmin,ymin,xmax,ymax\n1.jpg,1,2,31,42\n"
    with pytest.raises(UserError, match="say --boxes corners"):
        imported(folder, text)
    assert [*imported(folder, text, boxes="corners").table["bbox"]] == ["1 2 30 40"]
    shares = "file,xmin,ymin,xmax,ymax\n1.jpg,.005,.02,.155,.42\n"
    result = imported(folder, shares, boxes="corners")
    assert [*result.table["bbox"]] == ["1 2 30 40"]
    assert said(result, "in shares") == (
        "1 boxes read as left, top, right, bottom in shares of the photograph"
    )


@pytest.mark.parametrize("box", ["1 2 3", "1 2 3 x", "250 2 30 40", "1 2 0 5", "nan 2 3 4"])
def test_boxes_that_are_none(folder, box):
    with pytest.raises(UserError, match=r"1\.jpg has bbox"):
        imported(folder, f"file,bbox\n1.jpg,{box}\n", boxes="pixels")


def test_boxes_of_turned_photographs_are_of_the_upright_one(folder):
    photograph(folder / "1.jpg", size=(200, 100), orientation=6)
    assert [*imported(folder, "file,bbox\n1.jpg,0 0 1 1\n", boxes="relative").table["bbox"]] == [
        "0 0 100 200"
    ]


def test_files_are_found_by_folder_name_or_stem(folder):
    photograph(folder / "deep" / "er" / "IMG_9.JPG")
    result = imported(folder, "file\nIMG_9\n1.jpg\nC:\\old\\none.jpg\n")
    assert [*column(result, "path")] == ["deep/er/IMG_9.JPG", "1.jpg"]
    assert "IMG_9 is deep/er/IMG_9.JPG" in said(result, "by the name of the file")
    assert "none.jpg" in said(result, "not there")
    assert [*imported(folder, "RelativePath,File\ndeep\\er,IMG_9.JPG\n").table["path"]] == [
        "deep/er/IMG_9.JPG"
    ]
    photograph(folder / "other" / "IMG_9.JPG")
    with pytest.raises(UserError, match=r"IMG_9\.JPG \(deep/er/IMG_9\.JPG or other/IMG_9\.JPG\)"):
        imported(folder, "file\nIMG_9.JPG\n")
    with pytest.raises(UserError, match="not one of its 1 photographs can be opened"):
        imported(folder, "file\nnone.jpg\n")


def test_rows_of_one_photograph(folder):
    result = imported(folder, "file,name\n1.jpg,Ana\n1.jpg,Ana\n2.jpg,?\n")
    assert [*column(result, "identity").values()] == ["Ana", None]
    assert said(result, "say the same")
    with pytest.raises(UserError, match=r"1\.jpg is in two rows .*Ana and Bo"):
        imported(folder, "file,name\n1.jpg,Ana\n1.jpg,Bo\n")
    two = imported(folder, "file;name;bbox\n1.jpg;Ana;1 2 30 40\n1.jpg;Bo;50 2 30 40\n")
    assert [*two.table["identity"]] == ["Ana", "Bo"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,date\nAna,2021-05-17\n", "no column of photographs; the columns are name, date"),
        ("file,name\n", "a header but no row"),
        ("file,name\n1.jpg,Ana\n,Bo\n", "line 3 has no file"),
        ("file,lat\n1.jpg,123\n", r"1\.jpg has latitude '123', expected degrees"),
    ],
)
def test_tables_that_cannot_be_used(folder, text, message):
    with pytest.raises(UserError, match=message):
        imported(folder, text)


def test_one_box_that_can_only_be_corners_is_asked_about(folder):
    with pytest.raises(UserError, match="say --boxes relative.*corners"):
        imported(folder, "file,bbox\n1.jpg,150 20 200 80\n2.jpg,1 2 31 42\n")
