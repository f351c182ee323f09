"""Try an identification on photographs whose individuals are known, some of them left out."""

from collections.abc import Mapping, Sequence
from logging import getLogger
from typing import Any

import numpy as np
import pandas as pd

from openanimals.identification.catalogue_file import annotation_ids
from openanimals.identification.encounters import encounters
from openanimals.identification.identify import Listing, identify
from openanimals.identification.learning import Settings
from openanimals.identification.measures import measure
from openanimals.matching.matcher import Matcher
from openanimals.utils.errors import UserError

logger = getLogger(__name__)


def divide(
    table: pd.DataFrame, individuals: int, settings: Settings, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Divide labelled photographs into a catalogue and new ones, some of these of strangers.

    Half of the encounters of each individual that is drawn into the catalogue are new. Of the other
    individuals as many encounters are new as make ``settings.known`` true, or all there are.

    Args:
        table: of individuals with names.
        individuals: how many the catalogue has; these have two encounters or more.
        settings: of the identification.
        seed: of the draws.

    Returns:
        Masks `[N]` of the catalogue and of the new photographs.

    Raises:
        UserError: there are not so many such individuals, or no strangers besides.
    """
    draw = np.random.default_rng(seed)
    called = pd.Series(encounters(table, settings.gap), dtype=object)
    visits = pd.DataFrame(
        {"name": table["identity"].astype(str), "visit": called}
    ).drop_duplicates()
    counts = visits.groupby("name").size()
    met = sorted(counts.index[counts > 1])
    if individuals < 1 or individuals > len(met) or individuals >= len(counts):
        raise UserError(
            f"a catalogue of {individuals} individuals cannot be drawn: {len(met)} of "
            f"{len(counts)} were met more than once, and one at least must stay a stranger"
        )
    known = set(draw.permutation(met)[:individuals].tolist())
    asked: list[str] = []
    for name in sorted(known):
        own = visits["visit"][visits["name"] == name].tolist()
        asked += draw.permutation(np.array(own, object))[: len(own) // 2].tolist()
    others = visits["visit"][~visits["name"].isin(known)].to_numpy()
    most = round(len(asked) * (1 - settings.known) / settings.known)
    strangers = set(draw.permutation(others)[:most].tolist())
    is_known, is_asked = table["identity"].isin(known).to_numpy(), called.isin(asked).to_numpy()
    return is_known & ~is_asked, (is_known & is_asked) | called.isin(strangers).to_numpy()


def evaluate_identification(
    labelled: Listing,
    matchers: Mapping[str, Matcher],
    settings: Settings | None = None,
    *,
    individuals: Sequence[int] = (),
    new: Listing | None = None,
    seeds: int = 1,
) -> list[dict[str, Any]]:
    """Identify photographs whose individuals are known, and tell how that fares.

    Args:
        labelled: a catalogue; photographs of nobody are left out.
        matchers: by name.
        settings: of the identification.
        individuals: sizes of the catalogues that are drawn (see :func:`divide`).
        new: photographs to be identified by the whole catalogue instead, with their identities.
        seeds: catalogues drawn of each size.

    Returns:
        What :func:`measure` gives for each size and seed.

    Raises:
        UserError: neither or both of sizes and new photographs are given, or the catalogue is too
            small.
    """
    settings = settings or Settings()
    labelled = labelled.known()
    if bool(individuals) == (new is not None):
        raise UserError("expected either sizes of catalogues to draw, or new photographs")
    if new is not None:
        both = set(annotation_ids(new.table)) & set(annotation_ids(labelled.table))
        if both:
            raise UserError(
                f"{len(both)} photographs are new and in the catalogue, such as {min(both)}"
            )
        return [_measured(new.known(), labelled, matchers, settings)]
    found = []
    for size in individuals:
        for seed in range(seeds):
            catalogue, asked = (
                Listing(labelled.table[rows].reset_index(drop=True), labelled.root)
                for rows in divide(labelled.table, size, settings, seed)
            )
            found.append({"seed": seed, **_measured(asked, catalogue, matchers, settings)})
    return found


def _measured(
    new: Listing, catalogue: Listing, matchers: Mapping[str, Matcher], settings: Settings
) -> dict[str, Any]:
    matches = identify(new, catalogue, matchers, settings)
    truth = dict(zip(annotation_ids(new.table), new.table["identity"].astype(str), strict=True))
    return {
        **measure(matches, truth, set(catalogue.table["identity"].astype(str))),
        "expected": dict(matches.rates),
        "thresholds": matches.thresholds,
    }
