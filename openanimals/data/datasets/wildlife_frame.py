"""From a data frame of wildlife-datasets to the columns of a Catalogue."""

import json
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from openanimals.data.catalogue import UNKNOWN
from openanimals.data.masks import shape_text
from openanimals.data.datasets.dates import iso_dates

# What its classes call photographs taken together, the narrower name first.
_SEQUENCES = ("sequence", "sequence_id", "encounter", "encounter_id", "video")
# What they call the division of their publication; SealID's other one is of segmentation.
_DIVISIONS = ("original_split_reid", "original_split", "split")
_HALVES = {"train": "train", "database": "train", "test": "test", "query": "test"}


def to_table(frame: pd.DataFrame, unknown_name: str) -> pd.DataFrame:
    """Return the columns of a Catalogue, rows in the order of the frame.

    Args:
        frame: of a class of wildlife-datasets.
        unknown_name: what the class calls individuals that nobody has named.
    """
    # Lists of Python objects, since pandas 3's string arrays and numpy's scalars differ in detail.
    columns = {name: frame[name].tolist() for name in frame.columns}

    def column(*names: str) -> list:
        return next((columns[name] for name in names if name in columns), [None] * len(frame))

    table: dict[str, list] = {
        "path": [_posix(value) for value in columns["path"]],
        "identity": [
            UNKNOWN if value == unknown_name else _label(value) or UNKNOWN
            for value in columns["identity"]
        ],
        "bbox": [_bbox(value) for value in column("bbox")],
        "date": iso_dates(column("date")),
        "sequence": [_label(value) for value in column(*_SEQUENCES)],
        "viewpoint": column("orientation"),
        "species": [_species(value) for value in column("species")],
        "mask": [_posix(value) or shape_text(value) for value in column("segmentation")],
        "split": _split(column(*_DIVISIONS)),
    }
    return pd.DataFrame(table, dtype=object)


def _split(division: list) -> list[str | None]:
    """Return the parts of a division into three; or its halves, leaving other rows in neither.

    One with other words beside the three leaves rows without a part, so it is no split.
    """
    if set(division) == {"train", "query", "gallery"}:
        return division
    halves = [_HALVES.get(value) if isinstance(value, str) else None for value in division]
    is_division = "gallery" not in division and {"train", "test"} <= set(halves)
    return halves if is_division else [None] * len(division)


def _posix(value: object) -> str | None:
    return PurePath(value).as_posix() if isinstance(value, str) else None


def _label(value: Any) -> str | None:
    """Return a name as text; 7 and 7.0 (integers in a column with gaps) are both "7"."""
    if pd.isna(value):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _bbox(value: Any) -> object:
    box = json.loads(value) if isinstance(value, str) else value
    # Classes that put four columns together give [NaN] * 4 where the table has empty cells: no box.
    return None if np.all(pd.isna(box)) else box


def _species(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value
