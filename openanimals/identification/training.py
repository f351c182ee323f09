"""Train a network on all known individuals of a catalogue, and say first how good it will be.

A network that was trained on a photograph finds it again, so its figures for it mean nothing. So it
is trained twice in the same way: once without some encounters and some individuals, on which it is
tried, and from which :func:`.learn` takes how sure a name is; then on all photographs, for use.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from openanimals.engine.train import train
from openanimals.identification.build import HELD_OUT, PARTS, build_held_out, training_keys
from openanimals.identification.catalogue_file import annotation_ids, rebase, write_catalogue
from openanimals.identification.encounters import encounters
from openanimals.identification.identify import learn_from
from openanimals.identification.learning import Settings
from openanimals.identification.run import current
from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path, expanded

logger = getLogger(__name__)

TRAINED, ENCOUNTER, INDIVIDUAL = "trained", "encounters", "individuals"  # as in HeldOut
PART_NAMES = (TRAINED, ENCOUNTER, INDIVIDUAL)
OF_ENCOUNTERS, OF_INDIVIDUALS = 0.25, 0.2  # that are held out, one at least
FEWEST = 4  # individuals to learn from


def train_for_identification(
    catalogue: str | os.PathLike[str],
    config_files: Sequence[str] = (),
    overrides: Sequence[Any] = (),
    *,
    resume: bool = False,
) -> str:
    """Train on the known individuals of a catalogue, for ``openanimals identify --model``.

    Args:
        catalogue: its file; photographs without a name are left out.
        config_files: what is trained (see :func:`training_keys`).
        overrides: ``[KEY, VALUE, ...]``. Where they say nothing of the batch, K and the length of
            the training, these follow from the catalogue. OUTPUT_DIR is ``logs/<catalogue>`` if
            they do not name it.
        resume: go on with a training that was interrupted.

    Returns:
        What was found on the photographs that were held out, in words.

    Raises:
        UserError: there are too few individuals or encounters, or a mistake in the configuration.
    """
    listing = current(Path(catalogue)).known()
    parts = hold_out(listing.table)
    counts = [*Counter(listing.table["identity"]).values()]
    folder = Path("logs") / expanded(catalogue).stem
    if "OUTPUT_DIR" in overrides[::2]:
        folder = expanded(dict(zip(overrides[::2], overrides[1::2], strict=True))["OUTPUT_DIR"])
    files, keys = training_keys(config_files, overrides, counts)
    ids = annotation_ids(listing.table)
    split = np.where(parts == ENCOUNTER, "test", "train")
    for place, rows in ((folder / HELD_OUT, parts != INDIVIDUAL), (folder, parts == parts)):
        table = rebase(listing.table.assign(split=split)[rows], listing.root, place)
        write_catalogue(place / "catalogue.csv", table)
        last = place == folder
        if last:
            logger.info("now trained on all photographs: figures of the queries mean nothing")
        else:
            logger.info("first without the photographs that are held out, to see how good it is")
            named = {part: [ids[n] for n in np.flatnonzero(parts == part)] for part in PART_NAMES}
            with atomic_path(place / PARTS) as temporary:
                temporary.write_text(json.dumps(named, indent=1), encoding="utf-8")
        own = [
            *("DATASETS.NAMES", (f"csv:{place / 'catalogue.csv'}",), "DATASETS.TESTS", ()),
            *("DATASETS.SPLIT", "original", "DATASETS.COMBINEALL", last, "OUTPUT_DIR", str(place)),
        ]
        train(files, [*keys, *own], resume=resume)
    held = build_held_out(folder, matcher="cosine")
    assert held is not None
    sizes = np.bincount(pd.factorize(pd.Series(encounters(listing.table)))[0])
    learnt = learn_from(held, listing, Settings(), sizes)
    return "\n".join(
        [
            "on what was held out:",
            *(f"  {name}: {value:.3g}" for name, value in learnt.rates.items()),
            f"to use it: openanimals identify --catalogue {catalogue} --model {folder}",
        ]
    )


def hold_out(table: pd.DataFrame) -> np.ndarray:
    """Choose what a network is not trained on at first, so that it can be tried on it.

    A fifth of the individuals, by lot, and of each other individual that was met more than once a
    quarter of its encounters.

    Args:
        table: a catalogue of named individuals.

    Returns:
        `[N]` texts: :data:`TRAINED`, :data:`ENCOUNTER` or :data:`INDIVIDUAL`.

    Raises:
        UserError: there are too few.
    """
    names = table["identity"].astype(str).to_numpy()
    visits = np.array(encounters(table), dtype=object)
    draw = np.random.default_rng(0)
    everyone = draw.permutation(np.unique(names))
    strangers = set(everyone[: max(1, round(OF_INDIVIDUALS * len(everyone)))])
    parts = np.where([name in strangers for name in names], INDIVIDUAL, TRAINED)
    for name in np.unique(names[parts == TRAINED]):
        own = draw.permutation(np.unique(visits[names == name]))
        if len(own) > 1:
            some = own[: max(1, round(OF_ENCOUNTERS * len(own)))]
            parts[(names == name) & np.isin(visits, some)] = ENCOUNTER
    if len(everyone) < FEWEST or not (parts == ENCOUNTER).any():
        met = len(np.unique(names[parts == ENCOUNTER]))
        raise UserError(
            f"{len(everyone)} individuals, {met} of which were met more than once, are too few to "
            f"train on; expected at least {FEWEST}, and some with two encounters (identify "
            "--matcher local needs no training)"
        )
    return parts
