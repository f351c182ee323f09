import logging
import os

import pytest

from openanimals.data.boxes import rows_with_bad_boxes
from openanimals.data.catalogue import CatalogueError
from openanimals.data.datasets import csv_table, load_catalogue
from tests.data.pictures import save_picture


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a table beside two photographs."""
    save_picture(tmp_path / "photos" / "1.jpg")
    save_picture(tmp_path / "photos" / "2.jpg")

    def write_lines(*lines, encoding="utf-8"):
        file = tmp_path / "herd.csv"
        file.write_text("\n".join(lines) + "\n", encoding=encoding)
        return file

    return write_lines


@pytest.mark.parametrize("viewpoint", ["viewpoint", "orientation", "Orientation"])
def test_all_columns(write, tmp_path, viewpoint):
    file = write(
        f"PATH, Identity,bbox,camera,date,sequence,{viewpoint},species,mask,split,weather",
        r"photos\1.jpg, 007,1 2 3.5 4,north,2025-04-01 09:32:14,12,left,cow,m/1.png,train,rain",
        "photos/2.jpg,unknown,,,,,,,,,",
    )
    catalogue = csv_table.read(file)
    assert catalogue.name == f"csv:{file}"
    assert catalogue.root == tmp_path
    assert catalogue.path(0).is_file()
    assert catalogue.table.values.tolist() == [
        [
            "photos/1.jpg",
            "007",
            (1.0, 2.0, 3.5, 4.0),
            "north",
            "2025-04-01T09:32:14",
            "12",
            "left",
            "cow",
            "m/1.png",
            "train",
            None,  # of cameras, none counts
        ],
        ["photos/2.jpg", "unknown", *[None] * 9],
    ]


@pytest.mark.parametrize(
    "box",
    [
        *("1.5 2 3 4", "1.5,2,3,4", "[1.5, 2, 3, 4]", "(1.5, 2., 3, 4e0)", "[1.5 2. 3. 4.]"),
        *("array([1.5, 2, 3, 4], dtype=float32)", "1,5 2,0 3,0 4,0"),
        "[np.float64(1.5), np.int64(2), np.int64(3), np.int64(4)]",
    ],
)
def test_boxes_as_people_numpy_and_spreadsheets_write_them(write, box):
    file = write("path;identity;bbox", f"photos/1.jpg;a;{box}", "photos/2.jpg;a;")
    assert csv_table.read(file).column("bbox") == [(1.5, 2.0, 3.0, 4.0), None]


def test_a_box_of_nan_is_bad(write):
    catalogue = csv_table.read(write("path,identity,bbox", "photos/2.jpg,a,nan nan nan nan"))
    assert rows_with_bad_boxes(catalogue) == [0]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_separators_and_byte_order_mark(write, separator, encoding):
    lines = ["path,identity,camera", "photos/1.jpg,Bjørk,c", "", "photos/2.jpg,NA,c"]
    catalogue = csv_table.read(
        write(*(x.replace(",", separator) for x in lines), encoding=encoding)
    )
    assert catalogue.identities == ["Bjørk", "NA"]


def test_paths_of_masks_are_like_those_of_images_and_shapes_stay_as_they_are(write):
    packed = r'{"size": [120, 90], "counts": "\\?1Vh00oL0R^O0^]20dkN0ejN0k`00l\\O0]e00m50YM0[L"}'
    quoted = '"' + packed.replace('"', '""') + '"'  # a cell, as spreadsheets write it
    masks = [r"masks\1.png", quoted, '"[1, 2, 3, 4, 5, 6]"', ""]
    catalogue = csv_table.read(write("path,identity,mask", *(f"photos/1.jpg,a,{m}" for m in masks)))
    assert catalogue.column("mask") == ["masks/1.png", packed, "[1, 2, 3, 4, 5, 6]", None]


def test_the_outline_of_a_mask_may_be_long(write):
    outline = str([[0, 0, *range(40_000), 0, 9]])
    catalogue = csv_table.read(write("path,identity,mask", f'photos/1.jpg,Ada,"{outline}"'))
    assert catalogue.column("mask") == [outline]
    assert len(outline) > 131072  # the limit of a cell, unless it is raised


def test_dates_of_file_names_fill_only_the_gaps(write, tmp_path):
    save_picture(tmp_path / "2020-05-06.jpg")
    file = write("path,identity,date", "2020-05-06.jpg,a,2025-04-01", "2020-05-06.jpg,b,")
    pattern = r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
    catalogue = load_catalogue(f"csv:{file}", date_pattern=pattern)
    assert catalogue.column("date") == ["2025-04-01", "2020-05-06"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,identiy", r"unknown column 'identiy' \(did you mean 'identity'\?\); known: path"),
        ("path,identity,bbxo", r"unknown column 'bbxo' \(did you mean 'bbox'\?\)"),
        ("path,name", "no column 'identity'; the columns are path, name"),
        ("path,identity,path", "two columns are called 'path'"),
        ("path,identity,bbox_x", "columns bbox_x; expected either bbox or all of bbox_x, bbox_y"),
        ("path,identity,bbox,bbox_x,bbox_y,bbox_w,bbox_h", "bbox_h and bbox; expected either"),
    ],
)
def test_wrong_headers(write, header, message):
    with pytest.raises(CatalogueError, match=message):
        csv_table.read(write(header, ",".join("x" for _ in header.split(","))))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("photos/1.jpg,,,,", "line 4 has no identity"),
        (",a,,,", "line 4 has no path"),
        (
            "photos/1.jpg,a,1 2 3,,",
            "line 4 has bbox '1 2 3', expected four numbers: x, y, width, height",
        ),
        ("photos/1.jpg,a,1 2 3 x,,", "line 4 has bbox '1 2 3 x'"),
        ("photos/1.jpg,a,1_0 2 3 4,,", "line 4 has bbox '1_0 2 3 4'"),
        ('photos/1.jpg,a,"1,5 2 3",,', "line 4 has bbox '1,5 2 3'"),
        ("photos/1.jpg,a,,25/04/2025,", "nobody can tell whether the day comes first"),
        ("photos/1.jpg,a,,2025-04-01-02,", "line 4 has date '2025-04-01-02'"),
        # On Python 3.10, the csv module refuses the file and names no line.
        ("photos/\0.jpg,a,,,", "line 4 has a NUL character in path|line contains NUL"),
        ("photos/1.jpg,a,,1.4.2025,", "line 4 has date '1.4.2025', expected year-month-day"),
        ("photos/1.jpg,a,,2025-02-31,", "line 4 has date '2025-02-31'"),
        ("photos/1.jpg,a,,,tain", r"line 4 has split 'tain' \(did you mean 'train'\?\)"),
        ("photos/1.jpg,a", "line 4 has 2 cells instead of 5"),
    ],
)
def test_wrong_cells_are_named_by_the_line_of_the_file(write, line, message):
    file = write("path,identity,bbox,date,split", "photos/1.jpg,a,,,", "", line)
    with pytest.raises(CatalogueError, match=message):
        csv_table.read(file)


def test_many_wrong_lines_are_counted(write):
    with pytest.raises(CatalogueError, match="line 2 .*line 6 has no identity .*; and 4 more$"):
        csv_table.read(write("path,identity", *["photos/1.jpg,"] * 9))


def test_some_missing_images_are_left_to_the_check_but_not_all(write, tmp_path):
    assert len(csv_table.read(write("path,identity", "gone.jpg,a", "photos/1.jpg,a"))) == 2
    with pytest.raises(CatalogueError, match=f"none of its 2 images exists.*{tmp_path}/gone.jpg"):
        csv_table.read(write("path,identity", "gone.jpg,a", "gone2.jpg,a"))


def test_absolute_paths_and_other_working_directory(write, tmp_path, monkeypatch):
    file = write("path,identity", f"{tmp_path}/photos/1.jpg,a", "photos/2.jpg,b")
    monkeypatch.chdir(tmp_path)
    catalogue = csv_table.read(file.name)
    assert catalogue.name == "csv:herd.csv"
    assert catalogue.path(0).is_file()
    assert catalogue.path(1).is_file()


def test_files_that_are_no_table(write, tmp_path):
    for lines, message in (
        ([""], "the file is empty"),
        (["path,identity"], "a header but no row"),
        (["path,identity", 'photos/1.jpg,"a"b'], "not a table of cells"),
    ):
        with pytest.raises(CatalogueError, match=message):
            csv_table.read(write(*lines))
    with pytest.raises(CatalogueError, match="not UTF-8 text"):
        csv_table.read(write("path,identity", encoding="utf-16"))
    with pytest.raises(CatalogueError, match="does not exist"):
        csv_table.read(tmp_path / "nowhere.csv")
    os.mkfifo(tmp_path / "fifo.csv")
    with pytest.raises(CatalogueError, match="is a FIFO or device"):
        csv_table.read(tmp_path / "fifo.csv")
    with pytest.raises(CatalogueError, match="is a folder; .*folder:"):
        csv_table.read(tmp_path)


def test_columns_of_the_users_own_are_ignored(write, caplog):
    header = "path,identity,site,name,id,image,notes,weight"
    with caplog.at_level(logging.WARNING):
        catalogue = csv_table.read(write(header, "photos/1.jpg,a,1,2,3,4,5,6"))
    assert len(catalogue) == 1
    assert not caplog.records


@pytest.mark.parametrize("cell", ["1.5;2;3.25;4", '"1,5";2;"3,25";4'])
def test_four_columns_of_a_box_with_points_or_commas(write, cell):
    rows = [f"{cell};photos/1.jpg;a", ";;;;photos/2.jpg;a"]
    file = write("sep=;", "bbox_x;bbox_y;bbox_w;bbox_h;path;identity", *rows)
    assert csv_table.read(file).column("bbox") == [(1.5, 2.0, 3.25, 4.0), None]
    with pytest.raises(CatalogueError, match="line 2 has bbox '1,5;2;;'"):
        csv_table.read(write("bbox_x;bbox_y;bbox_w;bbox_h;path;identity", "1,5;2;;;photos/1.jpg;a"))


def test_a_repeated_row_is_refused(write):
    rows = ["photos/1.jpg,a,1 2 3 4", "photos/1.jpg,b,5 5 3 3", "./photos/1.jpg,a,1.0 2 3 4"]
    assert len(load_catalogue(f"csv:{write('path,identity,bbox', *rows[:2])}")) == 2
    with pytest.raises(CatalogueError, match="rows 0 and 2, counted from 0, are the same: ./p"):
        load_catalogue(f"csv:{write('path,identity,bbox', *rows)}")
