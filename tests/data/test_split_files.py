"""Splits in files: ours, and those of the release."""

import json
import logging
import random

import pandas as pd
import pytest

from openanimals.data.catalogue import Catalogue
from openanimals.data.splits import Split, make_split, read_split, write_split
from tests.data.test_splits import catalogue_of, some_identities


def test_a_split_survives_its_file_and_another_row_order(tmp_path):
    boxes = [None, (1, 2, 3, 4), (0.5, 2, 3, 4), (float("nan"), 0, 1, 1)] * 15
    catalogue = catalogue_of(some_identities(1, rows=60), bbox=boxes)
    split = make_split(catalogue)
    write_split(tmp_path / "new/split.json", catalogue, split)
    assert make_split(catalogue, "file", tmp_path / "new/split.json") == split

    order = random.Random(0).sample(range(60), 60)
    moved = read_split(tmp_path / "new/split.json", catalogue.select(order))
    assert [order[row] for row in moved.train] == split.train
    assert [order[row] for row in moved.query] == split.query
    assert [order[row] for row in moved.gallery] == split.gallery


def test_a_split_file_names_rows_by_path_and_box(tmp_path):
    catalogue = catalogue_of(list("abc"), bbox=[None, (1, 2.5, 3, 4), None])
    write_split(tmp_path / "split.json", catalogue, Split([1], [0], [2]))
    expected = {
        "catalogue": "herd",
        "train": [["001.jpg", [1, 2.5, 3, 4]]],
        "query": ["000.jpg"],
        "gallery": ["002.jpg"],
    }
    assert json.loads((tmp_path / "split.json").read_text()) == expected
    expected["train"][0][1] = [1.0, 2.5, 3e0, 4.0]  # as written by hand
    (tmp_path / "split.json").write_text(json.dumps(expected))
    assert read_split(tmp_path / "split.json", catalogue) == Split([1], [0], [2])


def test_rows_of_the_same_name_stay_apart_and_lists_may_be_empty(tmp_path):
    paths = ["x.jpg"] * 3 + ["é \udcff.jpg"]  # the last one: a file name that is not UTF-8
    table = pd.DataFrame({"path": paths, "identity": list("abca")}, dtype=object)
    catalogue = Catalogue("herd", "/photos", table)
    for split in (Split([3], [2, 0], [1]), Split([0], [], [])):
        write_split(tmp_path / "split.json", catalogue, split)
        assert read_split(tmp_path / "split.json", catalogue) == split


def release_file(tmp_path, train, query=(), gallery=()):
    content = {"IDX_TRAIN": train, "IDX_QUERY": list(query), "IDX_GALLERY": list(gallery)}
    (tmp_path / "partition.json").write_text(json.dumps(content))
    return tmp_path / "partition.json"


def test_the_file_of_the_release_can_be_read(tmp_path):
    file = release_file(tmp_path, [3, 0], [1], [2])
    assert read_split(file, catalogue_of(list("abba"))) == Split([3, 0], [1], [2])


@pytest.mark.parametrize("identities", ["abbac", ["a", "b", "unknown", "a", "b", "c"]])
def test_a_file_of_the_release_for_other_data_is_an_error(tmp_path, identities):
    file = release_file(tmp_path, [3, 0], [1], [4])
    with pytest.raises(ValueError, match="lists 4 rows, but herd has 5 of known identity"):
        read_split(file, catalogue_of(list(identities)))


def test_a_split_file_of_another_catalogue_is_a_warning(tmp_path, caplog):
    catalogue = catalogue_of(list("abcc"))
    write_split(tmp_path / "split.json", catalogue, Split([0, 1], [2], [3]))
    with caplog.at_level(logging.WARNING):
        read_split(tmp_path / "split.json", catalogue)
        assert not caplog.records
        catalogue.name = "flock"
        assert read_split(tmp_path / "split.json", catalogue) == Split([0, 1], [2], [3])
    assert "split.json: was made for herd, but is read for flock" in caplog.text


def test_identities_in_both_train_and_test_are_counted(tmp_path, caplog):
    file = release_file(tmp_path, [0, 1, 2], [3], [4, 5])
    with caplog.at_level(logging.WARNING):
        assert read_split(file, catalogue_of(list("abcbad"))) == Split([0, 1, 2], [3], [4, 5])
    assert "2 identities are in both train and test, for instance a" in caplog.text


@pytest.mark.parametrize("position", [4, -1, True, "0", None, 0.5, {}])
def test_a_position_that_is_none_is_an_error(tmp_path, position):
    with pytest.raises(ValueError, match=r"partition.json: IDX_TRAIN .* herd \(4 rows\) lacks"):
        read_split(release_file(tmp_path, [0, position]), catalogue_of(list("abba")))


def test_rows_that_the_catalogue_lacks_or_of_unknown_animals_are_named(tmp_path):
    with pytest.raises(ValueError, match="identity 'unknown'.*: 1"):
        read_split(release_file(tmp_path, [0, 1]), catalogue_of(["a", "unknown"]))
    write_split(tmp_path / "split.json", catalogue_of(["a"] * 9), Split([], [], list(range(9))))
    with pytest.raises(ValueError, match='gallery .* lacks: "002.jpg", .*"006.jpg" and 2 more'):
        read_split(tmp_path / "split.json", catalogue_of(["a"] * 2))


@pytest.mark.parametrize(
    ("train", "query", "gallery"), [([0, 0], [1], [2]), ([0, 1], [1], []), ([0], [1], [1, 2])]
)
def test_a_row_in_two_lists_is_an_error(tmp_path, train, query, gallery):
    # Only train and gallery may share rows: where individuals are known before the test.
    with pytest.raises(ValueError, match="more than once: [01]"):
        read_split(release_file(tmp_path, train, query, gallery), catalogue_of(list("abba")))


@pytest.mark.parametrize(
    "text, message",
    [
        ("[1, 2]", "expected a JSON object"),
        ('{"train": []', "not a readable split file"),
        ('{"train": [], "query": []}', "no list 'gallery'; expected the lists train, query"),
        ('{"train": 3, "query": [], "gallery": []}', "no list 'train'"),
        (None, "not a readable split file.*No such file"),
    ],
)
def test_a_file_that_is_no_split_is_an_error(tmp_path, text, message):
    if text is not None:
        (tmp_path / "split.json").write_text(text)
    with pytest.raises(ValueError, match=rf"split.json: .*{message}"):
        read_split(tmp_path / "split.json", catalogue_of(["a"]))
