import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from openanimals.data.catalogue import COLUMNS, Catalogue, CatalogueError, concatenate
from openanimals.utils.viewpoints import lateral_viewpoint


def catalogue(name="zoo", root="/data/zoo", **columns):
    columns = {"path": ["a.jpg", "b.jpg", "c.jpg"], "identity": ["ada", "bo", "ada"], **columns}
    return Catalogue(name, root, pd.DataFrame(columns))


def test_columns_are_text_or_none_and_others_are_dropped():
    table = catalogue(
        identity=[7, 8, 7], date=[pd.Timestamp("2020-01-02"), pd.NaT, None], weight=[1, 2, 3]
    )
    assert tuple(table.table.columns) == (*COLUMNS, "counted_camera")
    assert table.identities == ["7", "8", "7"]
    assert table.column("date") == ["2020-01-02T00:00:00", None, None]
    assert table.column("camera") == [None] * 3
    assert len(table) == 3
    assert repr(table) == "Catalogue('zoo', 3 images, 2 identities)"


def test_paths_start_at_the_root_unless_absolute():
    table = catalogue(path=["sub/a.jpg", "/elsewhere/b.jpg", "c.jpg"])
    assert table.path(0) == Path("/data/zoo/sub/a.jpg")
    assert table.path(1) == Path("/elsewhere/b.jpg")


def test_boxes_are_four_numbers_or_none():
    boxes = [(1, 2, 3, 4), None, np.array([0, 0, np.nan, 5]), [np.nan] * 4]
    table = catalogue(path=list("abcd"), identity="i", bbox=boxes)
    first, second, third, fourth = table.column("bbox")
    assert first == (1.0, 2.0, 3.0, 4.0) and all(type(v) is float for v in first)
    assert second is None
    assert np.isnan(third[2])  # kept, so that the row can be dropped and counted later
    assert len(fourth) == 4 and np.isnan(fourth).all()


@pytest.mark.parametrize("box", [(1, 2, 3), "1 2 3 4", 5, ("a", 1, 2, 3)])
def test_wrong_box_is_named(box):
    with pytest.raises(CatalogueError, match=r"zoo: row 1 has bbox .*expected four numbers"):
        catalogue(bbox=[None, box, None])


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2025-04-01", "2025-04-01"),
        *(("2025-4-1", "2025-04-01"), ("2025/04/01", "2025-04-01")),
        *(("2025-04-01 9:32", "2025-04-01T09:32:00"), ("2025-4-1 9:32:14", "2025-04-01T09:32:14")),
        ("2025:04:01 09:32:14", "2025-04-01T09:32:14"),
        ("2025-04-01 09:32", "2025-04-01T09:32:00"),
        ("2025-04-01T09:32:14.700", "2025-04-01T09:32:14"),
        ("2025-04-01T09:32:14Z", "2025-04-01T09:32:14"),
        ("2025-04-01T09:32:14+02:00", "2025-04-01T09:32:14"),
    ],
)
def test_dates_have_one_form(given, kept):
    assert catalogue(date=[None, given, None]).column("date") == [None, kept, None]


@pytest.mark.parametrize("date", ["1.4.2025", "2025", "2025-04", "2025-02-31", "2025-04-01 noon"])
def test_a_date_that_names_no_day_is_an_error(date):
    with pytest.raises(CatalogueError, match=f"zoo: row 1 has date '{date}'; expected year-month"):
        catalogue(date=[None, date, None])


def test_masks_are_files_or_shapes():
    table = catalogue(mask=["m/[1].png", "[[1, 2, 3, 4, 5, 6]]", None])
    masks = [table.mask(row) for row in range(3)]
    assert masks == ["/data/zoo/m/[1].png", "[[1, 2, 3, 4, 5, 6]]", None]
    assert concatenate([table, table]).column("mask") == masks * 2


def test_whether_cameras_count_stays_with_the_rows():
    table = pd.DataFrame({"path": ["a", "b"], "identity": "i", "camera": ["1", None]})
    person, animal = Catalogue("p", ".", table), Catalogue("a", ".", table, cameras_count=False)
    assert person.column("counted_camera") == person.column("camera") == ["1", None]
    assert animal.column("counted_camera") == [None, None]
    assert animal.column("camera") == ["1", None]  # which samplers may use
    for parts in ([person, animal], [animal, person]):
        joined = concatenate(parts).select([3, 2, 1, 0])
        counted = {
            n.split("/")[0]: c for n, c in joined.table[["identity", "counted_camera"]].values
        }
        assert counted == {"p": "1", "a": None}


@pytest.mark.parametrize(
    ("viewpoint", "side"),
    [
        *(("left", "left"), ("RIGHT", "right"), ("backleft", "left"), ("topright", "right")),
        *(("Left flank", "left"), ("front", None), ("left and right", None), ("", None)),
        (None, None),
    ],
)
def test_a_viewpoint_may_name_a_side(viewpoint, side):
    assert lateral_viewpoint(viewpoint) == side


def test_wildlife_datasets_calls_a_viewpoint_an_orientation():
    assert catalogue(orientation=["left", None, "up"]).column("viewpoint") == ["left", None, "up"]
    both = catalogue(orientation=["left"] * 3, viewpoint=["right", None, None])
    assert both.column("viewpoint") == ["right", None, None]


def test_missing_columns_and_values_are_named():
    with pytest.raises(CatalogueError, match="zoo: no column identity; the columns are path, id"):
        Catalogue("zoo", ".", pd.DataFrame({"path": ["a"], "id": ["ada"]}))
    with pytest.raises(CatalogueError, match="no column path and no column identity"):
        Catalogue("zoo", ".", pd.DataFrame())
    with pytest.raises(CatalogueError, match="zoo: row 2 has no identity"):
        catalogue(identity=["ada", "bo", None])
    with pytest.raises(CatalogueError, match="zoo: row 0 has no path"):
        catalogue(path=[float("nan"), "b", "c"])


def test_select_keeps_the_given_order():
    table = catalogue(camera=["1", "2", "3"])
    picked = table.select([2, 0])
    assert picked.column("path") == ["c.jpg", "a.jpg"]
    assert picked.column("camera") == ["3", "1"]
    assert picked.path(0) == Path("/data/zoo/c.jpg")
    assert len(table.select([])) == 0
    assert len(table) == 3  # itself unchanged


def test_digest_is_that_of_paths_identities_and_boxes_in_order():
    rows = [["a.jpg", "1", None], ["b.jpg", "2", [1.0, 2.0, 3.0, 4.0]]]
    columns = dict(zip(("path", "identity", "bbox"), zip(*rows, strict=True), strict=True))
    table = Catalogue("zoo", "/anywhere", pd.DataFrame({k: list(v) for k, v in columns.items()}))
    assert table.digest() == hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    assert table.select([1, 0]).digest() != table.digest()


def test_joined_catalogues_keep_equal_names_and_files_apart():
    first = catalogue("zoo", "/data/zoo", mask=["m.png", None, None])
    second = catalogue(
        "farm", "/data/farm", path=["a.jpg", "/abs/b.jpg", "c.jpg"], camera=["1", "2", "3"]
    )
    joined = concatenate([first, second])
    assert joined.name == "zoo + farm"
    assert joined.identities == ["zoo/ada", "zoo/bo", "zoo/ada", "farm/ada", "farm/bo", "farm/ada"]
    assert [str(joined.path(row)) for row in (0, 3, 4)] == [
        "/data/zoo/a.jpg",
        "/data/farm/a.jpg",
        "/abs/b.jpg",
    ]
    assert joined.column("mask") == ["/data/zoo/m.png", None, None, None, None, None]
    assert joined.column("camera") == [None, None, None, "1", "2", "3"]
    assert first.identities == ["ada", "bo", "ada"]  # itself unchanged
    assert first.name == "zoo"
    assert concatenate([first]) is first
