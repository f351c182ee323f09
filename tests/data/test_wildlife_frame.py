"""What becomes of the columns that classes of wildlife-datasets give; expected rows by hand."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from openanimals.data.catalogue import Catalogue
from openanimals.data.datasets.wildlife import to_table
from openanimals.data.splits import source_split


def test_converts_what_the_other_classes_give():
    frame = pd.DataFrame(
        {
            "image_id": [1, 2, 3, 4],
            "path": ["./a.jpg", "b\u00e9.jpg", "c.jpg", "d.jpg"],
            "identity": [7.0, np.nan, "new_whale", 9.5],
            "bbox": [np.array([1, 2, 3, 4]), "[5, 6, 7, 8]", np.nan, [np.nan] * 4],
            "date": [pd.Timestamp("2020-02-03"), -1, "04/05/2021", "2019-01"],
            "species": [["zebra", "giraffe"], "zebra", None, np.nan],
            "encounter_id": [3.0, np.nan, 4.0, 4.0],
            "segmentation": ["masks/a.png", {"counts": []}, np.arange(6.0), np.nan],
            "original_split": ["train", "query", "gallery", "gallery"],
        }
    )
    table = Catalogue("x", ".", to_table(frame, "new_whale")).table
    assert table["path"].tolist() == ["a.jpg", "b\u00e9.jpg", "c.jpg", "d.jpg"]
    assert table["identity"].tolist() == ["7", "unknown", "unknown", "9.5"]
    assert table["bbox"].tolist() == [(1, 2, 3, 4), (5, 6, 7, 8), None, None]
    assert table["date"].tolist() == ["2020-02-03", None, "2021-04-05", None]
    assert table["sequence"].tolist() == ["3", None, "4", "4"]
    assert table["species"].tolist() == ["zebra, giraffe", "zebra", None, None]
    shape = "[[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]"
    assert table["mask"].tolist() == ["masks/a.png", None, shape, None]
    assert table["split"].tolist() == ["train", "query", "gallery", "gallery"]


@pytest.mark.parametrize(
    ("column", "words", "split"),
    [
        ("original_split", ["train", "test", "val", np.nan], ["train", "test", None, None]),
        ("original_split_reid", ["database", "query"] * 2, ["train", "test"] * 2),
        ("split", ["test", "train", "train", "test"], ["test", "train", "train", "test"]),
        ("original_split", ["train", "train", "val", "val"], [None] * 4),
        # One with other words beside the three is no split.
        ("original_split", ["train", "query", "gallery", "multi_query"], [None] * 4),
        ("original_split", ["train", "query", "gallery", np.nan], [None] * 4),
    ],
)
def test_a_division_into_halves(column, words, split):
    frame = pd.DataFrame({"path": list("abcd"), "identity": list("xyyz"), column: words})
    catalogue = Catalogue("x", ".", to_table(frame, "unknown"))
    assert catalogue.column("split") == split
    assert source_split(catalogue) is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([pd.Timestamp("2020-02-03"), pd.NaT], ["2020-02-03", None]),
        (
            [pd.Timestamp("2020-02-03"), pd.Timestamp("2020-02-03 10:05")],
            ["2020-02-03T00:00:00", "2020-02-03T10:05:00"],
        ),
        (["2020-02-03", "2020-2-3 10:05"], ["2020-02-03", "2020-02-03T10:05:00"]),
        (["2020-02-03 00:00:00"] * 2, ["2020-02-03"] * 2),
        (["2020-02-03T10:05:06.5Z", "2019"], ["2020-02-03T10:05:06", None]),
        ([date(2020, 2, 3), np.nan], ["2020-02-03", None]),
    ],
)
def test_dates_keep_the_time_of_day_if_there_is_one(given, kept):
    frame = pd.DataFrame({"path": "a", "identity": "x", "date": pd.Series(given, dtype=object)})
    assert Catalogue("x", ".", to_table(frame, "unknown")).column("date") == kept
