"""Names that mean nobody, and names that are nearly the same."""

import logging

import pandas as pd
import pytest

from openanimals.config import load
from openanimals.data.build import load_catalogue_of
from openanimals.data.catalogue import Catalogue
from openanimals.data.datasets import wildlife
from openanimals.data.names import is_nobody, near_equal
from openanimals.data.splits import make_split
from tests.data.pictures import save_noise

NOBODY = [
    *("Unknown", "UNKNOWN", "unknown_2", "Unknown-3", "unknown (2)", "NaN", "nan", "None", "null"),
    *("?", "???", "-", "____", "N/A", "NA", "<NA>", "TBD", "unidentified", "Unidentified calf"),
    *("not known", "-1", "-1.0", "", "  "),
]
SOMEBODY = ["Nia", "Noa", "Nan1", "Nona", "Unica", "Unknownia", "0", "1", "007", "#1", "..", "小"]


@pytest.mark.parametrize("name", NOBODY)
def test_names_of_nobody(name):
    assert is_nobody(name) and is_nobody(f" {name.upper()} ")


@pytest.mark.parametrize("name", SOMEBODY)
def test_names_of_somebody(name):
    assert not is_nobody(name)


def test_nobody_is_left_out_and_said_unless_a_key_keeps_it(tmp_path, caplog):
    names = ["Kesi", "Tau", "Unknown", "NaN", "Unknown_2", "unknown"]
    for number, name in enumerate(names * 3):
        save_noise(tmp_path / name / f"{number}.png", number)
    source = f"folder:{tmp_path}"
    with caplog.at_level(logging.WARNING):
        catalogue = load_catalogue_of(load(), source)
    assert set(catalogue.identities) == {"Kesi", "Tau", "unknown"}
    assert "9 images are left out" in caplog.text
    assert "'NaN', 'Unknown', 'Unknown_2'; if it is one, set DATASETS.KEEP_UNKNOWN" in caplog.text
    split = make_split(catalogue)
    assert len({*split.train, *split.query, *split.gallery}) == 6
    caplog.clear()
    kept = load_catalogue_of(load(None, ["DATASETS.KEEP_UNKNOWN", True]), source)
    assert set(kept.identities) == set(names) and not caplog.text


def test_names_of_wildlife_datasets_are_left_to_it(tmp_path, monkeypatch):
    table = pd.DataFrame({"path": ["1", "2"], "identity": ["None", "nan"]})
    monkeypatch.setattr(wildlife, "read", lambda *_: Catalogue("x", tmp_path, table))
    assert load_catalogue_of(load(), "Animals-Zoo").identities == ["None", "nan"]


def test_names_that_are_nearly_equal():
    names = ["Kesi", "kesi", "Kesi ", "Tau", "1", "1.0", "01", "10", "1.5"]
    names += ["A 1", "a_1", "e\u0301", "\u00e9"]
    assert near_equal(names) == [
        "'01' = '1' = '1.0'",
        "'A 1' = 'a_1'",
        "'Kesi' = 'Kesi ' = 'kesi'",
        r"'e\u0301' = '\xe9'",
    ]
