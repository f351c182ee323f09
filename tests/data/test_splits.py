"""The paper's partition against recorded values, and splits from sources."""

import hashlib
import json
import random

import numpy as np
import pandas as pd
import pytest

from openanimals.data.catalogue import Catalogue
from openanimals.data.splits import Split, hold_out, make_split, paper_partition, source_split
from openanimals.data.splits.paper import classic_argsort
from tests.reference import load_json

RECORDED = load_json("partition.json")
PUBLISHED = {  # SHA-256 of json.dumps(list), its first 16 digits, of train, query and gallery
    "HyenaID2022": ["67386fcf00b450d7", "25c9e16692c3fdc2", "1a6136d8493f9819"],
    "WhaleSharkID": ["4fe80819be478e0e", "e2be9dd156aa71e7", "f259ab0cb0a2c530"],
}


def catalogue_of(identities, **columns):
    paths = [f"{row:03}.jpg" for row in range(len(identities))]
    table = pd.DataFrame({"path": paths, "identity": identities, **columns})
    return Catalogue("herd", "/photos", table)


def some_identities(seed, rows=200, identities=30):
    draw = random.Random(seed)
    return [f"i{min(draw.randrange(identities), draw.randrange(identities))}" for _ in range(rows)]


# The partition


@pytest.mark.parametrize("name", PUBLISHED)
def test_paper_partition_is_the_published_one(shared, name):
    identities = (shared / f"partitions/{name}.identities.txt").read_text().splitlines()
    published = json.loads((shared / f"partitions/{name}.partition.json").read_text())
    lists = paper_partition(identities)
    assert list(lists) == [published[f"IDX_{part}"] for part in ("TRAIN", "QUERY", "GALLERY")]
    digests = [hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] for rows in lists]
    assert digests == PUBLISHED[name]


@pytest.mark.parametrize("case", RECORDED["disjoint"], ids=lambda c: str(len(c["identities"])))
def test_paper_partition_tests_the_recorded_identities(case):
    train, query, gallery = paper_partition(case["identities"])
    assert sorted({case["identities"][row] for row in query + gallery}) == case["test"]
    assert len(train) == case["train_images"]
    assert len(query + gallery) == case["test_images"]


@pytest.mark.parametrize("seed", range(3))
def test_paper_partition_draws_queries_row_by_row(seed):
    identities = some_identities(seed)
    _, query, gallery = paper_partition(identities)
    assert (query, gallery) == walk(identities, sorted(query + gallery))


def walk(identities, rows):
    """The rule of the paper as a walk over the test rows, one image after the other."""
    random_state = np.random.RandomState(666)
    drawn, seen, query, gallery = {}, {}, [], []
    for row in rows:
        name = identities[row]
        images = [other for other in rows if identities[other] == name]
        if name not in drawn:
            few = len(images) < 3
            drawn[name] = () if few else random_state.choice(np.arange(len(images)), 2, False)
        k = seen[name] = seen.get(name, -1) + 1
        (query if k in drawn[name] else gallery).append(row)
    return query, gallery


@pytest.mark.parametrize("seed", range(3))
def test_paper_partition_is_disjoint_complete_and_half_test(seed):
    identities = some_identities(seed)
    identities[::17] = ["unknown"] * len(identities[::17])
    train, query, gallery = paper_partition(identities)
    known = [row for row, name in enumerate(identities) if name != "unknown"]
    assert sorted(train + query + gallery) == known
    assert {identities[r] for r in train}.isdisjoint(identities[r] for r in query + gallery)
    assert [identities[row] for row in train] == sorted(identities[row] for row in train)
    largest = max(map(identities.count, set(identities)))
    assert round(len(known) / 2) <= len(query + gallery) < len(known) / 2 + largest


@pytest.mark.parametrize(
    "identities, expected",
    [
        ([], ([], [], [])),
        (["unknown"] * 4, ([], [], [])),
        (["a", "unknown", "a"], ([], [], [0, 2])),  # as the release: at least one is tested
        (["a", "a", "b"], ([2], [], [0, 1])),  # with few images, it is gallery only
    ],
)
def test_paper_partition_of_next_to_nothing(identities, expected):
    assert paper_partition(identities) == expected
    assert list(map(len, paper_partition(["a"] * 6))) == [0, 2, 4]


@pytest.mark.parametrize("value", [17, None])
def test_an_identity_that_is_not_text_is_an_error(value):
    with pytest.raises(ValueError, match=r"identity of row 2 is .*expected text"):
        paper_partition(["a", "b", value])


@pytest.mark.parametrize("wrap", [np.array, pd.Series])
def test_paper_partition_takes_any_sequence_and_gives_plain_ints(wrap):
    identities = some_identities(0)
    lists = paper_partition(wrap(identities))
    assert lists == paper_partition(identities) != paper_partition(identities, seed=1)
    assert {type(row) for rows in lists for row in rows} == {int}


# The sort


@pytest.mark.parametrize("case", RECORDED["argsort"], ids=lambda c: str(len(c["values"])))
def test_classic_argsort_orders_ties_as_recorded(case):
    assert classic_argsort(case["values"]) == case["order"]


@pytest.mark.parametrize("size", [0, 1, 2, 15, 16, 17, 18, 100, 1000])
@pytest.mark.parametrize("arrange", [list, sorted, lambda values: sorted(values, reverse=True)])
def test_classic_argsort_sorts(size, arrange):
    draw = random.Random(size)
    for highest in (0, 1, 5, 10**6):
        values = arrange([draw.randint(0, highest) for _ in range(size)])
        order = classic_argsort(values)
        assert sorted(order) == list(range(size))
        assert [values[k] for k in order] == sorted(values)


# Which split


def test_auto_prefers_the_split_of_the_source():
    identities = ["a", "a", "b", "b", "b"]
    parts = ["train", "train", "query", "gallery", "gallery"]
    with_split = catalogue_of(identities, split=parts)
    assert make_split(with_split) == Split([0, 1], [2], [3, 4])
    assert make_split(with_split, "source") == Split([0, 1], [2], [3, 4])
    assert make_split(with_split, "paper") == Split(*paper_partition(identities))
    assert make_split(catalogue_of(identities)) == Split(*paper_partition(identities))


def test_source_split_leaves_unknown_animals_out():
    catalogue = catalogue_of(["a", "unknown", "a"], split=["query", "gallery", "gallery"])
    assert source_split(catalogue) == Split([], [0], [2])
    assert source_split(catalogue_of(["a", "b"])) is None


@pytest.mark.parametrize(
    "value, message",
    [("querry", "'querry' .did you mean 'query'"), ("test", "split 'test'"), (None, "no split")],
)
def test_a_wrong_word_in_the_split_column_is_an_error(value, message):
    with pytest.raises(ValueError, match=rf"herd: row 1 \(001.jpg\) has .*{message}"):
        source_split(catalogue_of(["a", "b"], split=["gallery", value]))


def test_a_wrong_way_to_split_is_an_error():
    with pytest.raises(ValueError, match="SPLIT is 'papr'; expected auto, source, paper"):
        make_split(catalogue_of(["a"]), "papr")
    with pytest.raises(ValueError, match="'source', but herd has no split of its own"):
        make_split(catalogue_of(["a"]), "source")


# Validation identities


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.8])
def test_hold_out_takes_whole_identities(fraction):
    identities = some_identities(2)
    split = hold_out(identities, fraction, seed=0)
    held = {identities[row] for row in split.query + split.gallery}
    assert sorted(split.train + split.query + split.gallery) == list(range(200))
    assert len(held) == max(2, round(fraction * len(set(identities))))
    assert split.train == [row for row in range(200) if identities[row] not in held]


@pytest.mark.parametrize("seed", range(5))
def test_hold_out_can_always_search_for_two_animals(seed):
    identities = [f"single{k}" for k in range(40)] + ["a", "b", "c"] * 3
    split = hold_out(identities, 0.1, seed)
    searched = [identities[row] for row in split.query]
    assert len(searched) >= 4
    assert all(searched.count(name) == 2 for name in searched)
    assert set(searched) <= {identities[row] for row in split.gallery}


def test_hold_out_follows_its_seed():
    splits = [hold_out(some_identities(2), 0.2, seed) for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


@pytest.mark.parametrize(
    "identities",
    [[], ["a"] * 5 + ["b"] * 5 + ["c"] * 5, ["a", "b", "c", "d"] * 2 + ["a"]],
    ids=["none", "none left", "one searchable"],
)
def test_too_few_identities_to_hold_out_is_an_error(identities):
    with pytest.raises(ValueError, match="DATASETS.VAL_FRACTION is 0.5: it needs 2 identities"):
        hold_out(identities, 0.5, seed=0)
