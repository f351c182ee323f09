"""Sides of animals, and training labels made of them."""

import pandas as pd
import pytest

from openanimals.config import load
from openanimals.data import build as sets
from openanimals.data.build import load_sets
from openanimals.data.catalogue import Catalogue, CatalogueError
from openanimals.data.viewpoints import flank, separate_viewpoints

SIDES = ["left", "Right flank", "front", None]


@pytest.mark.parametrize(
    ("orientation", "side"),
    [
        ("left", "left"),
        ("RIGHT", "right"),
        ("backleft", "left"),
        ("topright", "right"),
        ("Left flank", "left"),
        ("front", None),
        ("left and right", None),
        ("", None),
        (None, None),
    ],
)
def test_the_side_that_an_orientation_names(orientation, side):
    assert flank(orientation) == side


@pytest.fixture
def zoo(monkeypatch):
    """Eight individuals with four photographs each: left, right, front, unknown."""
    rows = [(f"{i}/{k}.jpg", f"n{i}", side) for i in range(8) for k, side in enumerate(SIDES)]
    table = pd.DataFrame(rows, columns=["path", "identity", "viewpoint"], dtype=object)
    catalogue = Catalogue("zoo", "/data/zoo", table)
    monkeypatch.setattr(sets, "load_catalogue", lambda *_, **__: catalogue)
    return catalogue


def test_each_side_is_an_individual(zoo):
    images = separate_viewpoints(zoo)
    assert images.identities[:4] == ["n0|left", "n0|right", "n0", "n0"]
    assert images.column("path") == zoo.column("path")
    assert zoo.identities[:4] == ["n0"] * 4  # itself unchanged


def test_only_training_labels_are_of_sides(zoo):
    keys = ["DATASETS.NAMES", ("zoo",), "DATASETS.VAL_FRACTION", 0.5]
    whole = load_sets(load(None, keys))
    found = load_sets(load(None, [*keys, "DATASETS.FLANKS", "separate"]))
    names = whole.train.identities
    labels = {name: [f"{name}|left", f"{name}|right", name, name] for name in names}
    assert found.train.identities == sorted({side for four in labels.values() for side in four})
    by_row = [found.train.identities[label] for label in found.train.labels]
    assert by_row == [side for name in whole.train.images.identities[::4] for side in labels[name]]
    for ours, theirs in ((found.tests[0], whole.tests[0]), (found.validation, whole.validation)):
        assert ours.query.identities == theirs.query.identities  # animals are held out whole
        assert ours.gallery.identities == theirs.gallery.identities


def test_no_known_side_is_an_error(zoo):
    zoo.table["viewpoint"] = pd.Series(["front", None] * 16, dtype=object)
    cfg = load(None, ["DATASETS.NAMES", ("zoo",), "DATASETS.FLANKS", "separate"])
    with pytest.raises(CatalogueError, match="FLANKS is 'separate', but none of the 16 training"):
        load_sets(cfg)
