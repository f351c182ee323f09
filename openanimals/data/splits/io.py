"""A split into train, query and gallery, and the file that keeps it."""

import json
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from openanimals.data.catalogue import UNKNOWN, Catalogue
from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path, expanded

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Row positions of a catalogue in three lists.

    Queries are in no other list. Where individuals are known before the test (the splits of
    ``closed_set.py``), the training rows are the gallery, too.
    """

    train: list[int]
    query: list[int]
    gallery: list[int]


PARTS = tuple(field.name for field in fields(Split))
RELEASE_KEYS = ("IDX_TRAIN", "IDX_QUERY", "IDX_GALLERY")  # of the release's partition.json


def write_split(path: str | Path, catalogue: Catalogue, split: Split) -> None:
    """Write a split as JSON that names its rows, so that it holds for any order of rows.

    The keys are ``catalogue``, ``train``, ``query`` and ``gallery``. A row is named by its path, or
    by ``[path, [x, y, w, h]]`` if it has a box. The second row of the same name is
    ``[path, box or null, 1]``, the third has a 2, and so on. A file that is there is replaced.
    """
    names = _row_names(catalogue)
    members = [f'"catalogue": {json.dumps(catalogue.name)}']
    for part, rows in asdict(split).items():
        lines = ",".join(f"\n  {names[row]}" for row in rows)  # a line a row
        members.append(f'"{part}": [{lines}]')
    with atomic_path(path) as temporary:
        temporary.write_text("{\n " + ",\n ".join(members) + "\n}\n", encoding="utf-8")


def read_split(path: str | Path, catalogue: Catalogue) -> Split:
    """Read a split from a file of :func:`write_split`, or from the release's ``partition.json``.

    The release's file holds row positions, so it needs a catalogue in the release's row order. A
    file that was made for another catalogue, or that trains on individuals of the test, is read
    with a warning.

    Raises:
        ValueError: the file cannot be read or has neither form, or it names a row that the
            catalogue lacks, a row without a known identity, or a row twice (but in train and
            gallery); or the release's file leaves out a row whose identity is known.
    """
    content = _load(path)
    released = all(key in content for key in RELEASE_KEYS)
    names = [str(row) for row in range(len(catalogue))] if released else _row_names(catalogue)
    row_of = {name: row for row, name in enumerate(names)}
    lists: list[list[int]] = []
    for key in RELEASE_KEYS if released else PARTS:
        entries = content.get(key)
        if not isinstance(entries, list):
            raise UserError(
                f"{path}: no list {key!r}; expected the lists {', '.join(PARTS)}, "
                f"or {', '.join(RELEASE_KEYS)}"
            )
        named = [json.dumps(entry) for entry in entries]
        lacking = [name for name in named if name not in row_of]
        _refuse(lacking, f"{path}: {key} has rows that {catalogue.name} ({len(names)} rows) lacks")
        lists.append([row_of[name] for name in named])
    split = Split(*lists)
    identities = catalogue.identities
    rows = split.train + split.query + split.gallery
    nameless = [names[row] for row in rows if identities[row] == UNKNOWN]
    _refuse(nameless, f"{path}: has rows of identity {UNKNOWN!r}, which cannot be in a split")
    counts = Counter(split.train + split.query) | Counter(split.query + split.gallery)
    twice = [names[row] for row, count in counts.items() if count > 1]
    _refuse(twice, f"{path}: has rows more than once")
    known = len(identities) - identities.count(UNKNOWN)
    if released and len(rows) != known:
        raise UserError(
            f"{path}: lists {len(rows)} rows, but {catalogue.name} has {known} of known identity; "
            "a file of the release lists them all, so it belongs to other data"
        )
    made_for = content.get("catalogue", catalogue.name)
    if made_for != catalogue.name:
        logger.warning("%s: was made for %s, but is read for %s", path, made_for, catalogue.name)
    both = {identities[row] for row in split.train} & {
        identities[row] for row in split.query + split.gallery
    }
    # Where rows of train are in the gallery, individuals are known before the test.
    if both and set(split.train).isdisjoint(split.gallery):
        message = "%s: %d identities are in both train and test, for instance %s"
        logger.warning(message, path, len(both), min(both))
    return split


def _load(path: str | Path) -> dict[str, Any]:
    """Read a JSON object, whole numbers as int however they are written."""
    file = expanded(path)
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text, parse_float=lambda number: _plain(float(number)))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable split file: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a split file; expected a JSON object")
    return content


def _row_names(catalogue: Catalogue) -> list[str]:
    """Return each row's name in a split file, as JSON."""
    seen: Counter[str] = Counter()
    names = []
    for path, bbox in zip(catalogue.column("path"), catalogue.column("bbox"), strict=True):
        box = bbox and [_plain(value) for value in bbox]
        name = json.dumps([path, box] if box else path)
        names.append(json.dumps([path, box, seen[name]]) if seen[name] else name)
        seen[name] += 1
    return names


def _plain(value: float) -> int | float | None:
    """Write 3.0 as 3, and what JSON has no number for (NaN, infinity) as null."""
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() else value


def _refuse(names: Sequence[str], problem: str) -> None:
    """Raise an error that quotes the first few of the names, if there are any."""
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise UserError(f"{problem}: {', '.join(names[:5])}{more}")
