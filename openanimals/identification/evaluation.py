"""How good an identification is: tried where the truth is known, some individuals left out."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from openanimals.evaluation.metrics import percentage_interval
from openanimals.identification.build import build_matchers, trained_on
from openanimals.identification.catalogue_file import annotation_ids, as_catalogue
from openanimals.identification.encounters import encounters
from openanimals.identification.identify import identify
from openanimals.identification.learning import Settings
from openanimals.identification.listing import Listing, current, read_new
from openanimals.identification.matches import NEW, Match, Matches
from openanimals.identification.run import ids_of_both
from openanimals.matching.calibration import reliability
from openanimals.matching.matcher import Matcher
from openanimals.utils.errors import UserError
from openanimals.utils.files import expanded
from openanimals.utils.logging import table as as_text

MEASURES = (
    *("individuals", "encounters", "of strangers", "right names", "wrong names"),
    *("false acceptance", "false rejection", "BAKS", "BAUS", "geometric mean", "Brier"),
)
"""Columns of the table of an evaluation."""


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
        ids_of_both(labelled, new)
        return [_measured(new.known(), labelled, matchers, settings)]
    found = []
    for size in individuals:
        for seed in range(seeds):
            parts = divide(labelled.table, size, settings, seed)
            catalogue, asked = (labelled.select(rows) for rows in parts)
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


def baks(truth: Sequence[Any], answers: Sequence[Any], unknown: Collection[Any]) -> float:
    """Return the balanced accuracy on known samples: the mean over individuals of their accuracy.

    As in AnimalCLEF 2025: whoever is in ``unknown`` does not count.

    Args:
        truth: the individual of each sample.
        answers: who it was said to be.
        unknown: individuals that no catalogue has.

    Returns:
        0 to 1; NaN where all individuals are unknown.
    """
    right = [own == said for own, said in zip(truth, answers, strict=True)]
    shares = _shares(truth, right)
    return float(shares[[own not in unknown for own in shares.index]].mean())


def baus(truth: Sequence[Any], answers: Sequence[Any], unknown: Collection[Any], new: Any) -> float:
    """Return the balanced accuracy on unknown samples: the mean share of each that is called new.

    The arguments are those of :func:`baks`, and the answer that says "new".

    Returns:
        0 to 1; NaN where no individual is unknown.
    """
    shares = _shares(truth, [said == new for said in answers])
    return float(shares[[own in unknown for own in shares.index]].mean())


def _shares(truth: Sequence[Any], right: Sequence[bool]) -> pd.Series:
    """Return the share of right answers by individual."""
    return pd.Series(right, dtype=float).groupby(pd.Series([*truth], dtype=object)).mean()


def measure(matches: Matches, truth: dict[str, str], known: Collection[str]) -> dict[str, Any]:
    """Return how an identification fares, encounter by encounter.

    Args:
        matches: what was said.
        truth: the individual of each photograph, by its annotation id.
        known: the individuals of the catalogue.

    Returns:
        In percent unless said otherwise, with intervals over individuals: the shares of wrong names
        (of all encounters), false acceptance (strangers that get a name), false rejection (known
        ones called new), right names, Rank-1 and Rank-5 of known ones; ``BAKS``, ``BAUS`` and
        their geometric mean, where an answer is the likelier of the best name and "new", whatever
        was decided; the ``Brier`` score of all answers (0 best, 2 worst) and the reliability of
        the likeliest.

    Raises:
        UserError: a photograph has no truth.
    """
    found = matches.matches
    lacking = [name for match in found for name in match.annotations if name not in truth]
    if lacking:
        raise UserError(f"{len(lacking)} photographs have no identity, for instance {lacking[0]}")
    own = np.array([truth[match.annotations[0]] for match in found], object)
    is_known = np.array([name in known for name in own])
    likely = np.array([_likelier(match) for match in found], object)
    said = np.array([match.proposed for match in found], object)
    named = np.array([match.decision == "known" for match in found])
    called_new = np.array([match.decision == NEW for match in found])
    place = np.array([_place(match, name) for match, name in zip(found, own, strict=True)])
    unknown = {*own[~is_known]}
    pair = own.tolist(), likely.tolist()
    balanced = baks(*pair, unknown), baus(*pair, unknown, NEW)
    due = np.where(is_known, own, NEW)  # the right answers
    sure = np.array([max(match.new, match.candidates[0].probability) for match in found])
    brier = [_brier(match, answer) for match, answer in zip(found, due, strict=True)]
    return {
        "individuals": matches.individuals,
        "encounters": len(own),
        "of strangers": int((~is_known).sum()),
        "decisions": matches.counts(),
        "wrong names": _share(named & (said != own), own),
        "false acceptance": _share(named[~is_known], own[~is_known]),
        "false rejection": _share(called_new[is_known], own[is_known]),
        "right names": _share((named & (said == own))[is_known], own[is_known]),
        "strangers called new": _share(called_new[~is_known], own[~is_known]),
        "Rank-1": _share(place[is_known] < 1, own[is_known]),
        "Rank-5": _share(place[is_known] < 5, own[is_known]),
        "BAKS": 100 * balanced[0],
        "BAUS": 100 * balanced[1],
        "geometric mean": 100 * float(np.sqrt(balanced[0] * balanced[1])),
        "Brier": float(np.mean(brier)),
        "reliability": reliability(sure, likely == due, 5).to_dict("records"),
    }


def _likelier(match: Match) -> str:
    best = match.candidates[0]
    return NEW if match.new > best.probability else best.name


def _place(match: Match, name: str) -> int:
    names = [candidate.name for candidate in match.candidates]
    return names.index(name) if name in names else len(names)


def _brier(match: Match, name: str) -> float:
    """Return the squared distance of all probabilities from the truth; those left out share one."""
    chances = {candidate.name: candidate.probability for candidate in match.candidates}
    chances[NEW] = match.new
    true = chances.pop(name, 0.0)
    return (1 - true) ** 2 + sum(chance**2 for chance in chances.values())


def _share(values: np.ndarray, own: np.ndarray) -> list[float]:
    """Return the share in percent, and its interval over individuals."""
    if not len(values):
        return [float("nan")] * 3
    _, groups = np.unique(own.astype(str), return_inverse=True)
    return [100 * float(values.mean()), *percentage_interval(100.0 * values, groups)]


def evaluate_files(
    catalogue: Path,
    new: str | None,
    settings: Settings,
    *,
    individuals: Sequence[int] = (),
    seeds: int = 1,
    **matcher: Any,
) -> tuple[list[dict[str, Any]], str]:
    """Evaluate an identification on a file; see :func:`evaluate_identification`.

    Returns:
        The figures, and a table of them.
    """
    listing = current(catalogue)
    if seen := trained_on(matcher["model"], as_catalogue(*listing)):
        raise UserError(
            f"{matcher['model']} was trained on {seen} photographs of {catalogue}, which say "
            "nothing of new ones; openanimals train --for-identification holds some out"
        )
    matchers, _ = build_matchers(catalogue=expanded(catalogue).absolute(), **matcher)
    found = evaluate_identification(
        listing,
        matchers,
        settings,
        individuals=individuals,
        new=read_new(new, listing.root) if new else None,
        seeds=seeds,
    )
    return found, as_text(
        [MEASURES, *([worded(each[name]) for name in MEASURES] for each in found)]
    )


def worded(value: Any) -> str:
    """Return a figure, with its interval if it has one."""
    if isinstance(value, list):
        share, low, high = value
        return f"{share:.1f} [{low:.1f}, {high:.1f}]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
