"""Splits by wildlife-datasets' rules: against that package, naive loops and counts by hand."""

import logging
import random

import numpy as np
import pytest

from openanimals.config import load
from openanimals.data import build as sets
from openanimals.data.build import load_sets
from openanimals.data.splits import Split, make_split, read_split, write_split
from openanimals.data.validate import unmatched
from tests.data.test_splits import catalogue_of


def some_animals(seed):
    """Some 100 rows: text identities of 1 to 20 images, unknown ones, rows without a date."""
    draw = random.Random(seed)
    names = [f"{draw.choice('abXY')}{draw.randint(0, 9)}" for _ in range(draw.randint(60, 140))]
    days = [f"2020-0{draw.randint(1, 4)}-1{draw.randint(0, 2)}" for _ in names]
    dates = [draw.choice([day, f"{day}T0{draw.randint(0, 9)}:30:00", None]) for day in days]
    return catalogue_of([draw.choice([*[name] * 9, "unknown"]) for name in names], date=dates)


@pytest.mark.parametrize("seed", range(2))
def test_the_same_as_wildlife_datasets(seed):
    package = pytest.importorskip("wildlife_datasets.splits", exc_type=ImportError)
    catalogue = some_animals(seed)
    frame = catalogue.table[["identity", "date"]].copy()
    frame["date"] = [date and date[:10] for date in frame["date"]]
    for how, splitter in (
        ("closed", package.ClosedSetSplit(0.8)),
        ("time", package.TimeProportionSplit()),
    ):
        train, test = map(sorted, splitter.split(frame)[0])
        split = make_split(catalogue, how)
        assert (sorted(split.train), split.gallery, split.query) == (train, train, test)


def test_closed_draws_by_the_published_generator():
    identities = ["b", "a", "b", "a", "a", "b", "b", "c", "b", "unknown"]
    draws, state = [], 666
    for _ in range(9):
        state = (state * 1103515245 + 12345) % 2**31
        draws.append(state)
    # a has 3 images, of which round(2.4) are known; b has 5, 4 known; c has one.
    rows = {"a": [1, 3, 4], "b": [0, 2, 5, 6, 8], "c": [7]}
    last_a = rows["a"][int(np.argmax(draws[:3]))]
    last_b = rows["b"][int(np.argmax(draws[3:8]))]
    split = make_split(catalogue_of(identities), "closed")
    assert split.query == sorted([last_a, last_b])
    grouped = [row for own in rows.values() for row in own]
    assert split.train == [row for row in grouped if row not in split.query]
    assert split.gallery == sorted(split.train)


def test_time_asks_for_the_later_days(caplog):
    days = ["2020-05-02", "2020-05-01T23:00:00", "2020-05-03", "2020-05-01", None, "2021-01-01"]
    with caplog.at_level(logging.WARNING):
        split = make_split(catalogue_of([*"aaaaab", "unknown"], date=[*days, None]), "time")
    assert "herd: DATASETS.SPLIT time leaves out 1 images that are without a date" in caplog.text
    # Three days: round(1.5) = 2 are known. The time of day does not count. b was seen once.
    assert split == Split([0, 1, 3, 5], [2], [0, 1, 3, 5])


def test_original_halves_of_the_same_individuals(caplog):
    halves = ["test", "train", "test", None, "train", "test"]
    catalogue = catalogue_of(["a", "b", "b", "b", "a", "new"], split=halves)
    with caplog.at_level(logging.WARNING):
        assert make_split(catalogue, "original") == Split([4, 1], [0, 2, 5], [1, 4])
    assert "leaves out 1 images that are neither in train nor in test" in caplog.text


def test_original_halves_of_other_individuals_are_searched_like_the_papers():
    identities = ["a"] * 3 + ["b"] * 4 + ["c"] * 2
    catalogue = catalogue_of(identities, split=["train"] * 3 + ["test"] * 6)
    draw = np.random.RandomState(666)
    query = sorted(3 + draw.choice(np.arange(4), 2, replace=False))  # c has too few images
    split = make_split(catalogue, "original")
    assert (split.train, split.query) == ([0, 1, 2], query)
    assert sorted(split.query + split.gallery) == list(range(3, 9))


def test_an_original_split_into_three_is_taken_as_it_is():
    catalogue = catalogue_of(list("aabb"), split=["train", "train", "query", "gallery"])
    assert make_split(catalogue, "original") == Split([0, 1], [2], [3])


def test_auto_says_that_it_does_not_use_halves(caplog):
    catalogue = catalogue_of(list("aaabbb"), split=["train", "test"] * 3)
    with caplog.at_level(logging.WARNING):
        assert make_split(catalogue) == make_split(catalogue_of(list("aaabbb")), "paper")
    assert "DATASETS.SPLIT original divides by them" in caplog.text


@pytest.mark.parametrize(
    ("how", "columns", "message"),
    [
        ("closed", {}, "'closed', but no individual of herd has two images"),
        ("time", {}, "images of two days; 0 of its 3 images have a date"),
        ("time", {"date": ["2020-01-01", None, "2020-01-02"]}, "2 of its 3 images have a date"),
        ("original", {}, "'original', but herd has no train and test of its own"),
        ("original", {"split": ["train", None, None]}, "has no split"),
    ],
)
def test_splits_that_cannot_be_made(how, columns, message):
    with pytest.raises(ValueError, match=message):
        make_split(catalogue_of(list("abc"), **columns), how)


def test_a_split_of_known_individuals_survives_its_file(tmp_path, caplog):
    catalogue = some_animals(0)
    split = make_split(catalogue, "closed")
    write_split(tmp_path / "split.json", catalogue, split)
    with caplog.at_level(logging.WARNING):
        assert read_split(tmp_path / "split.json", catalogue) == split
    assert not caplog.records  # individuals in train and test are what it is about


# In a run


@pytest.fixture
def load_herd(monkeypatch):
    """Return a function that loads the sets of ten individuals with ten images each."""
    catalogue = catalogue_of([f"n{row // 10}" for row in range(100)])
    monkeypatch.setattr(sets, "load_catalogue", lambda *_, **__: catalogue)

    def load_them(**keys):
        pairs = [part for key, value in keys.items() for part in (f"DATASETS.{key}", value)]
        return load_sets(load(None, ["DATASETS.NAMES", ("herd",), *pairs]))

    return load_them


def test_known_individuals_are_trained_and_searched(load_herd):
    found = load_herd(SPLIT="closed")
    test = found.tests[0]
    assert len(found.train.images) == len(test.gallery) == 80
    assert set(test.gallery.column("path")) == set(found.train.images.column("path"))
    assert len(test.query) == 20 and unmatched(test.query, test.gallery) == (0, 0)
    assert set(test.query.column("path")).isdisjoint(test.gallery.column("path"))


def test_combineall_trains_on_no_image_twice(load_herd):
    paths = load_herd(SPLIT="closed", COMBINEALL=True).train.images.column("path")
    assert len(paths) == len(set(paths)) == 100


def test_individuals_held_out_for_validation_are_still_searched(load_herd):
    found = load_herd(SPLIT="closed", VAL_FRACTION=0.3)
    validated = {*found.validation.query.identities, *found.validation.gallery.identities}
    assert len(validated) == 3 and validated.isdisjoint(found.train.identities)
    assert len(set(found.tests[0].gallery.identities)) == 10
    asked = set(found.tests[0].query.column("path"))
    assert asked.isdisjoint(found.validation.query.column("path"))
    assert asked.isdisjoint(found.validation.gallery.column("path"))


def test_a_row_without_a_usable_box_is_dropped_from_both_lists(load_herd, monkeypatch):
    row = load_herd(SPLIT="closed").splits["herd"][1].train[0]
    monkeypatch.setattr(sets, "rows_with_bad_boxes", lambda _: [row])
    found = load_herd(SPLIT="closed")
    assert found.dropped == {"herd": 1}
    assert (len(found.train.images), len(found.tests[0].gallery)) == (79, 79)
