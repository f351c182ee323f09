import pandas as pd
import pytest

from openanimals.data.catalogue import Catalogue
from openanimals.data.splits import Split
from openanimals.data.validate import check_data
from tests.data.pictures import save_picture


@pytest.fixture
def herd(tmp_path):
    """A catalogue with one of each fault; the numbers in the tests are counted by hand."""
    rows = [
        ("a/1.png", "a", (1, 1, 4, 4)),
        ("a/2.png", "a", (5, 2, 9, 3)),  # leaves the image of 8 x 6
        ("a/3.png", "a", (8, 0, 3, 3)),  # wholly outside
        ("a/4.png", "a", (2, 2, 0, 3)),  # empty
        ("b/1.png", "b", None),
        ("b/2.png", "b", None),
        ("b/gone.png", "b", None),
        ("c/1.png", "c", None),
        ("c/1.png", "d", None),  # one photograph, two names
        ("c/1.png", "c", None),  # twice the same
        ("u/1.png", "unknown", None),
    ]
    for path, _, _ in rows:
        if "gone" not in path:
            save_picture(tmp_path / path)
    save_picture(tmp_path / "b/1.png", (40, 10))
    whole = save_picture(tmp_path / "b/2.png", (200, 200)).read_bytes()
    (tmp_path / "b/2.png").write_bytes(whole[: len(whole) // 2])
    table = pd.DataFrame(rows, columns=["path", "identity", "bbox"], dtype=object)
    return Catalogue("herd", tmp_path, table)


def test_every_fault_is_found(herd):
    report = check_data(herd)
    assert (report.images, report.individuals, report.unknown) == (11, 4, 1)
    assert report.images_each == (1, 2.5, 4)  # a 4, b 3, c 2, d 1
    assert report.widths == (8, 8, 40)
    assert report.heights == (6, 6, 10)
    assert report.box_widths == (4, 6.5, 9)
    assert report.missing == [str(herd.root / "b/gone.png")]
    assert len(report.broken) == 1
    assert str(herd.root / "b/2.png") in report.broken[0]
    assert [text.split(" ")[0] for text in report.bad_boxes] == [
        str(herd.root / "a/3.png"),
        str(herd.root / "a/4.png"),
    ]
    assert report.cut_boxes == 1
    assert report.contradictions == ["c/1.png: c, d"]
    assert report.repetitions == 1
    assert report.single == ["d"]
    assert report.few == ["b", "c"]
    assert report.faults == 5
    assert report.parts == {}


def test_what_evaluation_can_use_is_counted(tmp_path):
    save_picture(tmp_path / "1.png")
    columns = {
        "date": ["2025-04-01", "2025-04-01 09:32", None, None],
        "sequence": ["s1", None, None, None],
        "viewpoint": ["left", "front", "Right", "backright"],
        "mask": ["1.png", "gone.png", "[[0, 0, 4, 0, 4, 4]]", None],
    }
    table = pd.DataFrame({"path": "1.png", "identity": list("abcd"), **columns}, dtype=object)
    report = check_data(Catalogue("x", tmp_path, table))
    counts = {"date": 2, "time of day": 1, "sequence": 1, "known side": 3, "mask": 3}
    assert report.filled == counts
    assert report.missing == [str(tmp_path / "gone.png")]
    lines = [" ".join(line.split()) for line in report.as_table().splitlines()]
    assert all(f"with a {what} {count}" in lines for what, count in counts.items())


def test_masks_that_cannot_be_used_are_found(tmp_path):
    save_picture(tmp_path / "1.png")  # 8 x 6
    save_picture(tmp_path / "tall.png", (6, 8))
    (tmp_path / "broken.png").write_text("no picture")
    masks = ["broken.png", "tall.png", "[[0, 0, 1]]", "[[0, 0, 4, 0, 4, 4]]", "gone.png", None]
    table = pd.DataFrame({"path": "1.png", "identity": "a", "mask": masks}, dtype=object)
    report = check_data(Catalogue("x", tmp_path, table))
    assert report.missing == [str(tmp_path / "gone.png")]
    for cause, word in zip(report.broken, ["broken.png", "6 x 8", "not a shape"], strict=True):
        assert word in cause
    assert (report.faults, report.widths) == (4, (8, 8, 8))


def test_individuals_with_too_few_images_depend_on_the_sampler(herd):
    assert check_data(herd, min_images=5).few == ["a", "b", "c"]
    assert check_data(herd, min_images=2).few == []
    free = check_data(herd, min_images=None)
    assert free.few == [] and "... with less than" not in free.as_table()


def test_splits_are_looked_at(tmp_path):
    names = ["a"] * 12 + ["b"] * 12 + ["c", "c", "d", "e"]
    save_picture(tmp_path / "1.png")
    catalogue = Catalogue("x", tmp_path, pd.DataFrame({"path": "1.png", "identity": names}))
    report = check_data(catalogue, Split(list(range(24)), [24, 26], [25, 27]))
    assert report.parts == {"train": (24, 2), "query": (2, 2), "gallery": (2, 2)}
    assert report.near_empty == ["query", "gallery"]
    assert report.unmatched == 1
    one_individual = check_data(catalogue, Split(list(range(12)), list(range(12, 24)), [24]))
    assert one_individual.near_empty == ["train", "query", "gallery"]


def test_the_table_says_it_all(herd):
    table = check_data(herd, Split([0, 1, 2, 3], [4], [5, 6])).as_table()
    lines = dict(line.strip().split("  ", 1) for line in table.splitlines()[1:-1])
    lines = {label: text.strip() for label, text in lines.items()}
    assert table.startswith("herd\n")
    assert lines["individuals"] == "4 (and 1 images of unknown ones)"
    assert lines["images each"] == "min 1, median 2.5, max 4"
    assert lines["train"] == "4 images of 1 individuals  <- near empty"
    assert lines["missing files"] == f"1 ({herd.root / 'b/gone.png'})"
    assert lines["boxes empty or outside"].startswith("2 (")
    assert lines["individuals with 1 image"] == "1 (d)"
    assert lines["... with less than 4"] == "2 (b; c)"
    assert table.endswith("5 faults to mend")


def test_a_sound_catalogue_has_no_faults(tmp_path):
    paths = [f"{identity}/{number}.png" for identity in "ab" for number in range(4)]
    for path in paths:
        save_picture(tmp_path / path)
    table = pd.DataFrame({"path": paths, "identity": [path[0] for path in paths]})
    report = check_data(Catalogue("x", tmp_path, table))
    assert report.faults == 0
    assert report.as_table().endswith("no faults")
    assert "box width" not in report.as_table()


def test_long_lists_are_cut(tmp_path):
    table = pd.DataFrame({"path": [f"{n}.png" for n in range(9)], "identity": "a"})
    save_picture(tmp_path / "0.png")
    report = check_data(Catalogue("x", tmp_path, table))
    assert len(report.missing) == 8
    assert f"8 ({tmp_path}/1.png; {tmp_path}/2.png; {tmp_path}/3.png; ...)" in report.as_table()


def test_where_no_file_can_be_read_there_are_no_sizes(tmp_path):
    table = pd.DataFrame({"path": ["0.png"], "identity": "unknown"})
    report = check_data(Catalogue("x", tmp_path, table))
    assert (report.widths, report.images_each, report.individuals) == (None, None, 0)
    assert "image width  " in report.as_table()
