"""From names in a config to the rows that train and test; expected rows by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from openanimals.config import load
from openanimals.data import build as sets
from openanimals.data.build import data_root, load_sets
from openanimals.data.catalogue import Catalogue, CatalogueError
from openanimals.data.splits import paper_partition
from openanimals.data.validate import unmatched
from tests.data.pictures import save_noise, save_picture


@pytest.fixture
def sources(monkeypatch):
    """Catalogues by the names under which a config finds them."""
    catalogues = {}
    monkeypatch.setattr(sets, "load_catalogue", lambda name, *_, **__: catalogues[name])
    return catalogues


def zoo(name, individuals=4, images=4, **columns):
    """Row ``i * images + k`` is ``i/k.jpg`` of individual ``n<i>``."""
    paths = [f"{i}/{k}.jpg" for i in range(individuals) for k in range(images)]
    table = {"path": paths, "identity": [f"n{path[0]}" for path in paths], **columns}
    return Catalogue(name, f"/data/{name}", pd.DataFrame(table))


def cfg(*names, **keys):
    pairs = [part for key, value in keys.items() for part in (key.replace("__", "."), value)]
    return load(None, ["DATASETS.NAMES", names, *pairs])


def unmatched_queries(test):
    return sum(unmatched(test.query, test.gallery))


def files(catalogue):
    return [str(catalogue.path(row)) for row in range(len(catalogue))]


def test_rows_are_those_of_the_paper_partition(sources):
    sources["zoo"] = zoo("zoo")
    found = load_sets(cfg("zoo"))
    test = found.tests[0]
    parts = paper_partition([f"n{i}" for i in range(4) for _ in range(4)])
    for images, rows in zip((found.train.images, test.query, test.gallery), parts, strict=True):
        assert files(images) == [f"/data/zoo/{row // 4}/{row % 4}.jpg" for row in rows]
    assert (test.name, found.dropped, found.validation) == ("zoo", {"zoo": 0}, None)


def test_train_and_test_on_different_sets(sources):
    sources.update(zoo=zoo("zoo"), farm=zoo("farm"))
    found = load_sets(cfg("zoo", DATASETS__TESTS=("farm",)))
    assert all("/zoo/" in file for file in files(found.train.images))
    assert [test.name for test in found.tests] == ["farm"]
    only_tests = load_sets(cfg("unused", DATASETS__TESTS=("farm",)), train=False)
    assert only_tests.train is None and list(only_tests.splits) == ["farm"]


def test_combineall_trains_on_the_test_images_too(sources):
    sources["zoo"] = zoo("zoo")
    found = load_sets(cfg("zoo", DATASETS__COMBINEALL=True))
    assert found.train.identities == ["n0", "n1", "n2", "n3"]
    assert sorted(files(found.train.images)) == files(sources["zoo"])
    assert len(found.tests[0].query) + len(found.tests[0].gallery) == 8


def test_two_species_with_equal_names_stay_apart(sources):
    sources.update(zoo=zoo("zoo"), farm=zoo("farm"))
    found = load_sets(cfg("zoo", "farm"))
    learned = load_sets(cfg("zoo")).train.identities  # the farm's are called the same
    expected = [f"{name}/{identity}" for name in ("farm", "zoo") for identity in learned]
    assert found.train.identities == expected  # sorted as text
    assert found.train.labels.tolist() == [2] * 4 + [3] * 4 + [0] * 4 + [1] * 4  # zoo, then farm
    assert [test.name for test in found.tests] == ["zoo", "farm"]
    assert set(found.tests[0].query.identities).isdisjoint(learned)


def test_rows_without_a_usable_box_are_dropped_after_the_partition(sources, tmp_path):
    bad = {0: (0, 0, 0, 5), 5: (8, 0, 3, 3), 10: (2, 6, 3, 3), 15: (np.nan, 0, 3, 3)}
    boxes = [bad.get(row, (-1, 1, 4, 40)) for row in range(16)]  # partly outside is usable
    sources.update(whole=zoo("whole"), boxed=zoo("boxed", bbox=boxes))
    for catalogue in sources.values():
        catalogue.root = tmp_path
    for file in files(sources["whole"]):
        save_picture(Path(file), size=(8, 6))
    whole, boxed = load_sets(cfg("whole")), load_sets(cfg("boxed"))
    assert boxed.dropped == {"boxed": 4}
    strangers = zoo("more", individuals=5, bbox=boxes + [(0, 0, 0, 0)] * 4)
    strangers.root, strangers.table.loc[16:, "identity"] = tmp_path, "unknown"
    sources["more"] = strangers
    assert load_sets(cfg("more")).dropped == {"more": 4}  # the others were in no split anyway
    dropped = {str(tmp_path / f"{row // 4}/{row % 4}.jpg") for row in bad}
    for ours, everything in (
        (boxed.train.images, whole.train.images),
        (boxed.tests[0].query, whole.tests[0].query),
        (boxed.tests[0].gallery, whole.tests[0].gallery),
    ):
        assert files(ours) == [file for file in files(everything) if file not in dropped]


def test_validation_identities_are_held_out_of_training(sources):
    sources["zoo"] = zoo("zoo", individuals=9)
    whole = load_sets(cfg("zoo")).train
    found = load_sets(cfg("zoo", DATASETS__VAL_FRACTION=0.5))
    held = set(found.validation.query.identities) | set(found.validation.gallery.identities)
    assert held and held.isdisjoint(found.train.identities)
    assert held.union(found.train.identities) == set(whole.identities)
    again = load_sets(cfg("zoo", DATASETS__VAL_FRACTION=0.5))
    assert files(again.validation.query) == files(found.validation.query)


def test_too_little_to_learn_from_and_queries_without_a_match(sources):
    def load_zoo(*split):
        sources["zoo"] = zoo("zoo", split=[part for part, count in split for _ in range(count)])
        return load_sets(cfg("zoo"))

    halves = ("query", 1), ("gallery", 1)
    with pytest.raises(CatalogueError, match="training set of zoo has 4 images of 1 individuals"):
        load_zoo(("train", 4), *halves * 6)
    with pytest.raises(CatalogueError, match="none of its 4 query images"):
        load_zoo(("train", 8), ("query", 4), ("gallery", 4))
    found = load_zoo(("train", 8), ("query", 1), ("gallery", 1), ("query", 2), ("gallery", 4))
    assert unmatched_queries(found.tests[0]) == 0
    found = load_zoo(("train", 8), ("query", 1), ("gallery", 1), ("query", 3), ("train", 3))
    assert unmatched_queries(found.tests[0]) == 1


def test_table_counts_images_and_individuals(sources):
    sources["zoo"] = zoo("zoo", split=["train"] * 7 + ["gallery"] + ["query", "gallery"] * 4)
    assert load_sets(cfg("zoo")).table() == [
        ["part", "images", "individuals", "images each"],
        ["train", "7", "2", "3 to 4"],
        ["zoo query", "4", "2", "2 to 2"],
        ["zoo gallery", "5", "3", "1 to 2"],
    ]


def test_data_root_is_the_key_else_the_environment_else_datasets(monkeypatch):
    for name in ("REID_DATASETS", "FASTREID_DATASETS"):
        monkeypatch.delenv(name, raising=False)
    assert data_root(load()) == Path("datasets")
    monkeypatch.setenv("FASTREID_DATASETS", "/old")
    assert data_root(load()) == Path("/old")
    monkeypatch.setenv("REID_DATASETS", "~/new")
    assert data_root(load()) == Path.home() / "new"
    assert data_root(load(None, ["DATASETS.ROOT", "/key"])) == Path("/key")


VIEWPOINTS = ["left", "Right flank", "front", None]  # of four photographs of each individual


def test_only_training_labels_are_of_sides(sources):
    sources["zoo"] = zoo("zoo", individuals=8, viewpoint=VIEWPOINTS * 8)
    whole = load_sets(cfg("zoo", DATASETS__VAL_FRACTION=0.5))
    found = load_sets(cfg("zoo", DATASETS__VAL_FRACTION=0.5, DATASETS__FLANKS="separate"))
    names = whole.train.identities
    labels = {name: [f"{name}|left", f"{name}|right", name, name] for name in names}
    assert found.train.identities == sorted({side for four in labels.values() for side in four})
    by_row = [found.train.identities[label] for label in found.train.labels]
    assert by_row == [side for name in whole.train.images.identities[::4] for side in labels[name]]
    for ours, theirs in ((found.tests[0], whole.tests[0]), (found.validation, whole.validation)):
        assert ours.query.identities == theirs.query.identities  # animals are held out whole
        assert ours.gallery.identities == theirs.gallery.identities
    assert sources["zoo"].identities[:4] == ["n0"] * 4  # itself unchanged


def test_no_known_side_is_an_error(sources):
    sources["zoo"] = zoo("zoo", individuals=8, viewpoint=["front", None] * 16)
    with pytest.raises(CatalogueError, match="FLANKS is 'separate', but none of the 16 training"):
        load_sets(cfg("zoo", DATASETS__FLANKS="separate"))


def test_a_data_set_named_twice_is_refused(sources):
    sources.update({"folder:zoo": zoo("zoo"), "folder:zoo/": zoo("zoo"), "farm": zoo("farm")})
    with pytest.raises(CatalogueError, match="DATASETS.NAMES names one data set twice: 'folder"):
        load_sets(cfg("folder:zoo", "farm", "folder:zoo/"))
    with pytest.raises(CatalogueError, match="DATASETS.TESTS names one data set twice"):
        load_sets(cfg("folder:zoo", DATASETS__TESTS=("farm", "farm")))
    assert load_sets(cfg("folder:zoo", DATASETS__TESTS=("folder:zoo/",)))


CAMERAS = {"split": ["train"] * 8 + ["query", "gallery", "gallery", "gallery"] * 2}


def test_cameras_may_leave_no_query_a_match(sources):
    sources["zoo"] = zoo("zoo", camera=["1"] * 16, **CAMERAS)
    with pytest.raises(CatalogueError, match="none of its 2 query images has a match by another"):
        load_sets(cfg("zoo"))
    sources["zoo"] = zoo("zoo", camera=["1"] * 11 + ["2"] + [None] * 4, **CAMERAS)
    assert unmatched_queries(load_sets(cfg("zoo")).tests[0]) == 0
    sources["zoo"] = zoo("zoo", camera=["1"] * 11 + ["2"] + ["1"] * 4, **CAMERAS)
    assert unmatched_queries(load_sets(cfg("zoo")).tests[0]) == 1


def test_copies_are_counted_where_they_flatter(sources, tmp_path):
    sources["zoo"] = zoo("zoo", **CAMERAS)
    sources["zoo"].root = tmp_path
    for row, file in enumerate(files(sources["zoo"])):
        save_noise(Path(file), row)
    assert load_sets(cfg("zoo")).copies() == ""
    for old, new in (("2/0", "2/2"), ("0/1", "3/0"), ("0/2", "0/3")):  # to find, learnt, at home
        (tmp_path / f"{new}.jpg").write_bytes((tmp_path / f"{old}.jpg").read_bytes())
    text = load_sets(cfg("zoo")).copies()
    assert text.startswith("3 photographs are there more than once under other file names, and 1 ")
    assert "; 2 queries have a copy of themselves in the gallery or in training" in text
