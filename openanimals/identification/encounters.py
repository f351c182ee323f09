"""Which photographs were taken of one visit of one animal: encounters."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from openanimals.evaluation.protocols import bursts
from openanimals.utils.errors import UserError

GAP = 60.0  # minutes between two photographs of one encounter, at most


def encounters(table: pd.DataFrame, gap: float = GAP) -> list[str]:
    """Name the encounter of each photograph.

    What the column ``sequence`` says counts. Else photographs by one camera belong together if not
    more than ``gap`` lies between one and the next; both flanks of an animal are one encounter, two
    individuals that are known by name are two. Where no camera is known, those of one name belong
    together in the same way. What has neither, or no time of day, is an encounter of its own.

    Args:
        table: a catalogue (see ``catalogue_file``).
        gap: minutes.

    Returns:
        A name for each row: the sequence, or camera and time of the first photograph, or the path.

    Raises:
        UserError: a date is none, or the gap is not a positive number.
    """
    if not gap > 0:
        raise UserError(f"the gap between two encounters is {gap} minutes; expected more than 0")
    named, sequences, cameras, dates = (
        [_text(value) for value in table[name]]
        for name in ("identity", "sequence", "camera", "date")
    )
    places = [
        (camera, name) if (camera or name) and not sequence else row
        for row, (camera, name, sequence) in enumerate(zip(cameras, named, sequences, strict=True))
    ]
    chains = bursts([str(place) for place in places], dates, gap)
    first: dict[int, str] = {}
    for row in sorted(range(len(table)), key=lambda row: dates[row] or ""):
        if (chain := chains[row]) is not None:
            first.setdefault(chain, f"{cameras[row] or named[row]} {dates[row]}")
    found: list[str] = []
    for row, (sequence, chain) in enumerate(zip(sequences, chains, strict=True)):
        if sequence:
            found.append(sequence)
        elif (cameras[row] or named[row]) and chain is not None:
            found.append(first[chain])
        else:
            found.append(str(table["path"].iat[row]))
    return _of_one_individual(found, named)


def _of_one_individual(found: Sequence[str], named: Sequence[str | None]) -> list[str]:
    """Divide what has one name by the individuals that are known in it."""
    own = Counter(encounter for encounter, _ in set(zip(found, named, strict=True)))
    return [
        f"{encounter} ({name or 'unknown'})" if own[encounter] > 1 else encounter
        for encounter, name in zip(found, named, strict=True)
    ]


def numbered(names: Sequence[str]) -> list[str]:
    """Name the parts of encounters that were taken apart: ``A 2025-04-01 (1 of 2)``."""
    parts, met = Counter(names), Counter[str]()
    found = []
    for name in names:
        met[name] += 1
        found.append(f"{name} ({met[name]} of {parts[name]})" if parts[name] > 1 else name)
    return found


def pooled(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Number what is asked about at once: the photographs of an encounter, if of one animal.

    Two boxes in one photograph are never one animal, so where an encounter has such a photograph
    each of its animals is asked about by itself.

    Args:
        table: a catalogue.
        names: of the encounter of each row.

    Returns:
        `[N]`, numbers from 0 in the order in which they are met.
    """
    keys = pd.Series(list(zip(names, table["path"], strict=True)))
    crowded = {encounter for encounter, _ in keys[keys.duplicated()]}
    own = [(name, row if name in crowded else -1) for row, name in enumerate(names)]
    return pd.factorize(pd.Series(own, dtype=object))[0]


def _text(value: Any) -> str | None:
    return None if value is None or pd.isna(value) or value == "" else str(value)
