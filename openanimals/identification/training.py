"""Train a network on all known individuals of a catalogue, and say first how good it will be.

A network that was trained on a photograph finds it again, so its figures for it mean nothing. So it
is trained twice in the same way: once without some encounters and some individuals, on which it is
tried, and from which :func:`.learn` takes how sure a name is; then on all photographs, for use.
"""

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
from openanimals.identification.listing import current
from openanimals.identification.open_set import FEWEST
from openanimals.utils.errors import UserError
from openanimals.utils.files import expanded, write_json

logger = getLogger(__name__)

TRAINED, ENCOUNTER, INDIVIDUAL = "trained", "encounters", "individuals"  # as in HeldOut
PART_NAMES = (TRAINED, ENCOUNTER, INDIVIDUAL)
OF_ENCOUNTERS, OF_INDIVIDUALS = 0.25, 0.2  # that are held out


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
            write_json(place / PARTS, named)
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
    quarter of its encounters; where these are few, up to half of either.

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
    own = {name: np.unique(visits[names == name]) for name in np.unique(names)}
    parts = np.full(len(names), TRAINED, dtype=object)
    held = {ENCOUNTER: 0, INDIVIDUAL: 0}
    for number, name in enumerate(draw.permutation([*own])):
        if number >= OF_INDIVIDUALS * len(own) and held[INDIVIDUAL] >= FEWEST:
            break
        if number < len(own) // 2:
            parts[names == name] = INDIVIDUAL
            held[INDIVIDUAL] += len(own[name])
    rest = [draw.permutation(own[name]) for name in np.unique(names[parts == TRAINED])]
    for share in (OF_ENCOUNTERS, 1 / 2):
        some = [each[: max(1, int(share * len(each)))] for each in rest if len(each) > 1]
        held[ENCOUNTER] = sum(map(len, some))
        if held[ENCOUNTER] >= FEWEST:
            break
    parts[np.isin(visits, np.concatenate([[], *some]))] = ENCOUNTER
    if min(held.values()) < FEWEST:
        raise UserError(
            f"{len(own)} individuals with {len(np.unique(visits))} encounters are too few to train "
            f"on: {held[INDIVIDUAL]} encounters of some and {held[ENCOUNTER]} of the others can be "
            f"held out to learn how sure a name is, and {FEWEST} of each are needed; "
            "identify --matcher local needs no training"
        )
    return parts
