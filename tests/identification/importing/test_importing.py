"""Photographs in, from folders and from what the photographs themselves say."""

import os
import time
from datetime import datetime, timedelta

import pytest
from PIL import ImageFile

from openanimals.identification.catalogue_file import read_catalogue
from openanimals.identification.importing import import_catalogue
from openanimals.identification.importing.exif import camera_and_time, read_tags
from openanimals.identification.importing.folders import viewpoint_of
from openanimals.utils.errors import UserError
from tests.identification.importing.importing_fixtures import column, photograph, said, tagged


def test_folders_with_viewpoints_in_any_spelling(tmp_path):
    for path in ("Ana/Left/1.jpg", "Ana/RIght/2.jpg", "Bo/lft/3.jpg", "Bo/4.JPG", "L/R/5.jpg"):
        photograph(tmp_path / path)
    photograph(tmp_path / "Unknown" / "6.jpg")
    photograph(tmp_path / "7.jpg")
    imported = import_catalogue(tmp_path)
    assert column(imported, "identity") == {
        "Ana/Left/1.jpg": "Ana",
        "Ana/RIght/2.jpg": "Ana",
        "Bo/lft/3.jpg": "Bo",
        "Bo/4.JPG": "Bo",
        "L/R/5.jpg": "L",
        "Unknown/6.jpg": None,
        "7.jpg": None,
    }
    assert [*column(imported, "viewpoint").values()].count("left") == 2
    assert column(imported, "viewpoint")["L/R/5.jpg"] == "right"
    assert said(imported, "viewpoint right") == "viewpoint right from folders RIght (1), R (1)"
    assert "(7.jpg)" in said(imported, "in no individual's folder")
    assert "(Unknown)" in said(imported, "names of nobody")


@pytest.mark.parametrize(
    ("text", "viewpoint"),
    [
        *[
            (text, "left")
            for text in ("L", "LEFT", "lefft", "lfet", "Left side", "left_flank", "lft")
        ],
        *[(text, "right") for text in ("r", "Rigth", "rght", "RHS", "right photos")],
        ("front-left", "frontleft"),
        ("Front", "front"),
        *[(text, None) for text in ("Bright", "loft", "light", "night", "left2", "Left Right Ana")],
    ],
)
def test_words_for_viewpoints(text, viewpoint):
    assert viewpoint_of(text) == viewpoint


@pytest.mark.parametrize(
    ("paths", "identities"),
    [
        (("1.jpg", "2.jpg"), {None}),
        (("DCIM/100CANON/IMG_0001.JPG", "DCIM/101CANON/IMG_0001.JPG"), {None}),
        (("photos/1.jpg", "photos/2.jpg"), {None}),
        (("Left/1.jpg", "Right/2.jpg"), {None}),
        (("Left/Ana/1.jpg", "Right/Bo/2.jpg"), {"Ana", "Bo"}),
        (("all/seals/Ana/1.jpg", "all/seals/Bo/2.jpg"), {"Ana", "Bo"}),
        (("Ana/1.jpg", "Ana/2.jpg"), {"Ana"}),
        (("Ana/Left/1.jpg", "Ana/Right/2.jpg"), {"Ana"}),
        (("Ana/2015/1.jpg", "Bo/2016/2.jpg"), {"Ana", "Bo"}),
    ],
)
def test_which_folders_are_individuals(tmp_path, paths, identities):
    for path in paths:
        photograph(tmp_path / path)
    assert {*import_catalogue(tmp_path).table["identity"]} == identities
    assert {*import_catalogue(tmp_path, flat=True).table["identity"]} == {None}


def test_time_position_and_tags_of_the_photographs(tmp_path):
    south = ("S", (1.0, 30.0, 0.0), "E", (36.0, 45.0, 36.0))
    photograph(tmp_path / "a.jpg", date="2021:05:17 09:32:11", position=south)
    photograph(tmp_path / "b.png", xmp=tagged("Species|Leopard Cat", "Individual|007", "side|L"))
    photograph(
        tmp_path / "c.jpg", xmp=tagged("individual|1", "individual|2"), date="0000:00:00 00:00:00"
    )
    photograph(tmp_path / "d.jpg", position=("N", (0.0, 0.0, 0.0), "E", (0.0, 0.0, 0.0)))
    imported = import_catalogue(tmp_path)
    first, second, third, fourth = imported.table.to_dict("records")
    assert first["date"] == "2021-05-17T09:32:11"
    assert (float(first["latitude"]), float(first["longitude"])) == (-1.5, 36.76)
    assert (second["identity"], second["species"], second["viewpoint"]) == (
        "007",
        "Leopard Cat",
        "left",
    )
    assert (third["identity"], third["note"], third["date"]) == (None, "tags 1, 2", None)
    assert (fourth["latitude"], fourth["longitude"]) == (None, None)
    assert "c.jpg (1, 2)" in said(imported, "tags of several individuals")
    assert said(imported, "without a date").startswith("without a date: 3")


def test_a_folder_and_a_tag_that_disagree_are_told(tmp_path):
    photograph(tmp_path / "Ana" / "a.jpg", xmp=tagged("individual|Bo"))
    imported = import_catalogue(tmp_path)
    assert column(imported, "identity") == {"Ana/a.jpg": "Ana"}
    assert "Ana/a.jpg (tag Bo; Ana is kept)" in said(imported, "another name")


def test_tags_are_read_without_entities(tmp_path):
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaa">]>' + tagged("individual|&a;")
    with pytest.raises(ValueError, match="document type"):
        read_tags(bomb)
    photograph(tmp_path / "a.jpg", xmp=bomb, date="2021:05:17 09:32:11")
    photograph(tmp_path / "b.jpg", xmp=tagged("individual|3")[:-60])
    imported = import_catalogue(tmp_path)
    assert column(imported, "identity") == {"a.jpg": None, "b.jpg": None}
    assert said(imported, "tags not read").startswith("tags not read, in photographs: 2")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("StationA__2009-04-21__00-40-00(1).JPG", ("StationA", "2009-04-21T00:40:00")),
        ("a/Station_B__Cam1__2009-04-21__00-40-00(12).JPG", ("Station_B", "2009-04-21T00:40:00")),
        ("IMG_20240517_093211.jpg", (None, "2024-05-17T09:32:11")),
        ("PXL_20240517_093211123.jpg", (None, "2024-05-17T09:32:11")),
        ("2024-05-17 09.32.11.jpg", (None, "2024-05-17T09:32:11")),
        ("20250401093214_20250401093754_0018_cls0.jpg", (None, "2025-04-01T09:32:14")),
        ("IMG_20241517_093211.jpg", (None, None)),
        ("IMG_20240517_253211.jpg", (None, None)),
        ("IMG_0412.jpg", (None, None)),
        ("2024-05-17.jpg", (None, None)),
    ],
)
def test_names_of_files(name, found):
    assert camera_and_time(name) == found


def test_exif_goes_before_the_name_and_a_disagreement_is_told(tmp_path):
    photograph(tmp_path / "A__2021-05-17__09-32-11(1).jpg", date="2021:05:17 09:33:11")
    photograph(tmp_path / "A__2021-05-17__09-32-11(2).jpg", date="2021:05:17 10:32:11")
    photograph(tmp_path / "A__2021-05-17__09-32-11(3).jpg")
    imported = import_catalogue(tmp_path)
    assert [*column(imported, "date").values()] == [
        "2021-05-17T09:33:11",
        "2021-05-17T10:32:11",
        "2021-05-17T09:32:11",
    ]
    assert {*column(imported, "camera").values()} == {"A"}
    assert said(imported, "two times").startswith("two times: 1 (A__2021-05-17__09-32-11(2).jpg")


def test_what_is_odd_is_told(tmp_path):
    photograph(tmp_path / "Ana" / "1.jpg", colour=5)
    photograph(tmp_path / "ana " / "2.jpg", colour=5)
    photograph(tmp_path / "Bo" / "3.jpg", colour=6, date="1999:12:31 00:00:00")
    photograph(tmp_path / "Bo" / "4.jpg", colour=6, date="1999:12:31 00:00:00")
    soon = datetime.now() + timedelta(days=3)
    photograph(tmp_path / "Bo" / "5.jpg", date=f"{soon:%Y:%m:%d %H:%M:%S}")
    photograph(tmp_path / "@eaDir" / "thumb.jpg")
    (tmp_path / "Bo" / "notes.txt").write_text("x")
    (tmp_path / "Bo" / "broken.jpg").write_bytes(b"no photograph")
    imported = import_catalogue(tmp_path)
    assert "Ana/1.jpg = ana /2.jpg (Ana, ana )" in said(imported, "under two names")
    assert "(Bo/3.jpg = Bo/4.jpg)" in said(imported, "more than once")
    assert "'Ana' = 'ana '" in said(imported, "names nearly equal")
    assert said(imported, "before 2000").startswith("a date before 2000: 2 (Bo/3.jpg")
    assert "Bo/5.jpg" in said(imported, "in the future")
    assert "(@eaDir)" in said(imported, "junk folders")
    assert "(.txt 1)" in said(imported, "no photographs")
    assert "Bo/broken.jpg" in said(imported, "cannot be opened")
    assert "Bo/broken.jpg" not in column(imported, "identity")


def numbered(folder, minutes):
    """Photographs of one camera, their number by their minute."""
    start = datetime(2021, 5, 17)
    for number, minute in minutes.items():
        moment = start + timedelta(minutes=minute)
        photograph(folder / f"IMG_{number:04}.jpg", date=f"{moment:%Y:%m:%d %H:%M:%S}")


def test_a_clock_that_runs_backwards_is_told_with_its_place(tmp_path):
    numbered(tmp_path, {8: 0, 9: 30, 10: 29.5, 11: 5, 12: 6})
    line = said(import_catalogue(tmp_path), "run backwards")
    assert ": 1 (IMG_0011.jpg (2021-05-17 00:05:00) after IMG_0010.jpg" in line


def test_a_counter_that_begins_again_is_no_jump(tmp_path):
    numbered(tmp_path, {9998: 0, 9999: 30, 1: 60, 2: 61})
    assert not [line for line in import_catalogue(tmp_path).report if "backwards" in line]


def test_stations_give_cameras_and_places(tmp_path):
    for path in (
        "photos/North/1.jpg",
        "photos/Suth/2.jpg",
        "photos/Ana/North__2021-05-17__09-32-11(1).jpg",
    ):
        photograph(tmp_path / path)
    (tmp_path / "s.csv").write_text(
        "Station,latitude,longitude,Setup_date,Retrieval_date\n"
        "North,-1.5,36.25,2021-05-01,2021-06-01\nSouth,-2,36,2021-05-01,2021-06-01\n"
    )
    imported = import_catalogue(tmp_path / "photos", stations=tmp_path / "s.csv")
    first = imported.table.set_index("path").loc["North/1.jpg"]
    assert (first["camera"], first["identity"], first["latitude"]) == ("North", None, "-1.5")
    named = imported.table.set_index("path").loc["Ana/North__2021-05-17__09-32-11(1).jpg"]
    assert (named["camera"], named["identity"], named["longitude"]) == ("North", "Ana", "36.25")


def test_written_catalogue_names_the_same_files(tmp_path):
    photograph(tmp_path / "photos" / "Ana" / "1.jpg")
    imported = import_catalogue(tmp_path / "photos")
    for file, path in (
        (tmp_path / "catalogue.csv", "photos/Ana/1.jpg"),
        (tmp_path / "elsewhere" / "catalogue.csv", (tmp_path / "photos/Ana/1.jpg").as_posix()),
    ):
        imported.write(file)
        assert read_catalogue(file)["path"].tolist() == [path]


def test_sources_that_cannot_be_used(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.pdf").write_bytes(b"x")
    photograph(tmp_path / "photos" / "1.jpg")
    for source, options, message in (
        (tmp_path / "none", {}, "does not exist"),
        (tmp_path / "empty", {}, "no photograph in it"),
        (tmp_path / "a.pdf", {}, "expected a folder"),
        (tmp_path / "photos", {"columns": {"path": "a"}}, "columns is for a table"),
    ):
        with pytest.raises(UserError, match=message):
            import_catalogue(source, **options)


def test_headers_alone_are_read(tmp_path, monkeypatch):
    for number in range(200):
        photograph(tmp_path / f"{number}.{'png' if number % 2 else 'jpg'}")
    monkeypatch.setattr(
        ImageFile.ImageFile, "load", lambda self: pytest.fail("pixels were decoded")
    )
    start = time.process_time()
    import_catalogue(tmp_path)
    assert time.process_time() - start < 2  # of a thousand, a few seconds


def test_leopard_cats(shared):
    imported = import_catalogue(shared / "data" / "LeopardCats" / "photographs")
    table = imported.table
    assert len(table) == 26
    assert {*table["identity"]} == {"1", "2", "3"}
    assert {*table["camera"]} == {"StationA", "StationB", "StationC"}
    assert {*table["species"]} == {"Leopard Cat"}
    for path, camera, date in table[["path", "camera", "date"]].values.tolist():
        day, clock = date.split("T")
        assert path.startswith(f"{camera}__{day}__{clock.replace(':', '-')}")
    assert not [line for line in imported.report if "two times" in line]


def test_harbour_seals(shared):
    imported = import_catalogue(shared / "data" / "HarbourSeals")
    table = imported.table
    assert len(table) == 104 and table["identity"].nunique() == 13
    assert table["viewpoint"].value_counts().to_dict() == {"right": 52, "left": 48}
    assert table.loc[table["viewpoint"].isna(), "identity"].nunique() == 3
    assert {date[:4] for date in table["date"].dropna()} == {"2015", "2016", "2017"}
    assert "RIght (5)" in said(imported, "viewpoint right")
    assert "DSCN3284.jpg" in said(imported, "under two names")


def test_a_name_that_is_not_unicode_is_left_out(tmp_path):
    photograph(tmp_path / "Ana" / "1.jpg")
    try:
        (tmp_path / "Ana" / "1.jpg").rename(
            os.fsdecode(os.fsencode(tmp_path / "Ana") + b"/\xf1.jpg")
        )
    except OSError:
        pytest.skip("this file system has Unicode names only")
    photograph(tmp_path / "Ana" / "2.jpg")
    imported = import_catalogue(tmp_path)
    assert [*column(imported, "identity")] == ["Ana/2.jpg"]
    assert "its name is not Unicode" in said(imported, "cannot be opened")
    "\n".join(imported.report).encode()
