import logging
import os
from pathlib import Path

import pytest

from openanimals.data.catalogue import CatalogueError
from openanimals.data.datasets import folder, load_catalogue
from tests.data.pictures import save_picture

TIME = r"(T(?P<hour>\d\d)(?P<minute>\d\d))?"
DATE = r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
RECORDING = (
    r"^(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)"
    r"(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)_"
)
DOCS = Path(__file__).parents[2] / "docs"


def herd(root, *paths):
    for path in paths:
        save_picture(root / path)
    return root


def dated(root, pattern):
    return load_catalogue(f"folder:{root}", date_pattern=pattern).column("date")


def test_rows_are_in_code_point_order_of_the_relative_path(tmp_path):
    # "-" sorts before "/", capitals before small letters, "10" before "9", "ä" after "z".
    expected = ["B/1.jpg", "a-b/1.jpg", "a/10.jpg", "a/9.jpg", "a/ä.jpg", "z/1.jpg"]
    catalogue = folder.read(herd(tmp_path, *reversed(expected)))
    assert catalogue.column("path") == expected
    assert catalogue.identities == ["B", "a-b", "a", "a", "a", "z"]
    assert catalogue.name == f"folder:{tmp_path}"
    assert all(catalogue.path(row).is_file() for row in range(len(catalogue)))


def test_every_image_suffix_counts_in_any_case_and_nothing_hidden(tmp_path):
    names = ["1.JPG", "2.jpeg", "3.Png", "4.bmp", "5.tif", "6.TIFF", "7.webp"]
    herd(tmp_path, *(f"cow/{name}" for name in names), "cow/.8.jpg", ".git/9.jpg", "cow/.x/0.jpg")
    assert folder.read(tmp_path).column("path") == [f"cow/{name}" for name in names]


def test_folders_inside_an_individuals_folder_belong_to_it(tmp_path):
    catalogue = folder.read(herd(tmp_path, "007/1.jpg", "007/left/2.jpg", "008/left/a/3.jpg"))
    assert catalogue.identities == ["007", "007", "008"]


def test_links_do_not_multiply_images(tmp_path, caplog):
    herd(tmp_path, "a/1.jpg", "b/1.jpg", "b/left/2.jpg")
    links = {"a/l": "b", "b/l": "a", "c": "a", "b/a": "b/left"}  # to others, back, and within
    links |= {"a/root": "", "a/above": "..", "loop": "loop", "a/loop": "a/loop"}
    for link, target in links.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    with caplog.at_level(logging.WARNING):
        found = folder.read(tmp_path).column("path")
    assert found == ["a/1.jpg", "b/1.jpg", "b/left/2.jpg"]
    assert "skipped 6 folders that links reach a second time, for instance a/above" in caplog.text
    with pytest.raises(CatalogueError, match="does not exist"):
        folder.read(tmp_path / "loop")


def test_two_links_to_one_folder_elsewhere_are_one_individual(tmp_path):
    herd(tmp_path, "elsewhere/left/1.jpg", "herd/z/2.jpg")
    for link, target in {"x": "", "y": "", "z/left": "left"}.items():
        (tmp_path / "herd" / link).symlink_to(tmp_path / "elsewhere" / target)
    assert folder.read(tmp_path / "herd").column("path") == ["x/left/1.jpg", "z/2.jpg"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    herd(tmp_path, "cow/1.jpg", "secret/1.jpg")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CatalogueError, match=f"cannot list {tmp_path}/secret: Permission denied"):
        folder.read(tmp_path)


def test_what_is_skipped_is_counted(tmp_path, caplog):
    herd(tmp_path, "cow/1.jpg", "loose1.jpg", "loose2.jpg")
    for name in ("a.heic", "b.heic", "notes.txt"):
        (tmp_path / "cow" / name).touch()
    with caplog.at_level(logging.WARNING):
        assert len(folder.read(tmp_path)) == 1
    assert "skipped 2 images that lie in no individual's sub-folder" in caplog.text
    assert "skipped 3 files that are not images (.heic 2, .txt 1)" in caplog.text


def test_folders_of_storage_servers_are_skipped_and_counted(tmp_path, caplog):
    system = ["@eaDir/IMG/1.jpg", "cow/@eaDir/1.jpg", "#recycle/1.jpg", "$RECYCLE.BIN/S-1/1.jpg"]
    herd(tmp_path, "cow/1.jpg", "#12/1.jpg", *system)
    with caplog.at_level(logging.WARNING):
        assert folder.read(tmp_path).identities == ["#12", "cow"]
    assert "skipped 4 folders of a system, for instance #recycle" in caplog.text


def test_the_home_of_nobody(tmp_path):
    for form in ("folder", "csv"):
        with pytest.raises(ValueError, match="~no-such-user/x: there is no user 'no-such-user'"):
            load_catalogue(f"{form}:~no-such-user/x")


def test_dates_are_read_from_the_file_name_alone(tmp_path, caplog):
    herd(tmp_path, "1999-01-01/2025-04-01 a.jpg", "b/2025-02-31.jpg", "b/no date.jpg")
    with caplog.at_level(logging.WARNING):
        assert dated(tmp_path, DATE) == ["2025-04-01", None, None]
    assert "no date in 2 of 3 file names" in caplog.text
    assert "b/2025-02-31.jpg" in caplog.text


@pytest.mark.parametrize(
    ("pattern", "name", "date"),
    [
        (DATE + TIME, "2025-04-01T0932.jpg", "2025-04-01T09:32:00"),
        (DATE + TIME, "2025-04-01.jpg", "2025-04-01"),
        (r"(?P<day>\d+)\.(?P<month>\d+)\.(?P<year>\d\d)", "1.4.25.jpg", "2025-04-01"),
        (r"(?P<day>\d+)\.(?P<month>\d+)\.(?P<year>\d\d)", "1.4.98.jpg", "1998-04-01"),
        (r"(?P<month>\w+)_(?P<day>\d+)_(?P<year>\d+)", "April_1_2025.jpg", None),
    ],
)
def test_date_patterns(tmp_path, pattern, name, date):
    assert dated(herd(tmp_path, f"cow/{name}"), pattern) == [date]


def test_the_pattern_of_the_docs_finds_when_holstein_recordings_began(tmp_path):
    names = {
        "004.jpg": None,
        "20250414224303_20250414224820_0003_cls0.jpg": "2025-04-14T22:43:03",
        "20250415102036_20250415102807_20250418_17474361_000067_obj1_cls0.jpg": (
            "2025-04-15T10:20:36"
        ),
        "417-1-6-5(5).jpg": None,
        "J29_2025.03.2623_12_18_manual_20250416_20271347_000001_obj0_cls0.jpg": None,
    }
    herd(tmp_path, *(f"cow/{name}" for name in names))
    assert dated(tmp_path, RECORDING) == list(names.values())
    assert RECORDING in (DOCS / "your-photos.md").read_text(encoding="utf-8")


def test_holstein_names_that_carry_a_time(shared):
    dates = dated(shared / "data" / "HolsteinFaces", RECORDING)
    assert (len(dates), sum(date is not None for date in dates)) == (3621, 1554)
    assert len({date[:10] for date in dates if date}) == 7


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(?P<year>\d{4}", "DATASETS.DATE_PATTERN .* is not a regular expression"),
        (r"(?P<year>\d{4})", "DATASETS.DATE_PATTERN .* has no group month and no group day"),
    ],
)
def test_a_wrong_pattern_names_the_key(tmp_path, pattern, message):
    with pytest.raises(ValueError, match=message):
        dated(herd(tmp_path, "cow/1.jpg"), pattern)


def test_where_there_is_nothing(tmp_path):
    with pytest.raises(CatalogueError, match=f"{tmp_path}/nowhere does not exist"):
        folder.read(tmp_path / "nowhere")
    with pytest.raises(CatalogueError, match="is a file; expected a folder"):
        folder.read(save_picture(tmp_path / "1.jpg"))
    (tmp_path / "herd/cow").mkdir(parents=True)
    with pytest.raises(CatalogueError, match="no image in .*, no file; expected one sub-folder"):
        folder.read(tmp_path / "herd")
    (tmp_path / "herd/cow/1.heic").touch()
    with pytest.raises(CatalogueError, match=r"only 1 other files \(.heic 1\); expected one sub"):
        folder.read(tmp_path / "herd")


def test_one_level_too_deep_or_too_high_names_the_right_folder(tmp_path):
    herd(tmp_path, "herd/cow1/1.jpg", "herd/cow2/1.jpg")
    with pytest.raises(CatalogueError, match=f"folder above it: folder:{tmp_path}/herd\\)"):
        folder.read(tmp_path / "herd" / "cow1")
    with pytest.raises(CatalogueError, match=f"2 sub-folders .* name folder:{tmp_path}/herd"):
        folder.read(tmp_path)


def test_perhaps_one_level_too_high_is_a_warning(tmp_path, caplog):
    herd(tmp_path, "a/left/1.jpg", "a/right/1.jpg", "b/left/1.jpg")
    with caplog.at_level(logging.WARNING):
        assert folder.read(tmp_path).identities == ["a", "a", "b"]
    assert "each of the 2 top folders is taken as one individual, not each of the 3" in caplog.text
