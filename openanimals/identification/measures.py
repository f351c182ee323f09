"""How good an identification is, where the truth is known."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from openanimals.evaluation.metrics import percentage_interval
from openanimals.identification.matches import NEW, Match, Matches
from openanimals.matching.calibration import reliability
from openanimals.utils.errors import UserError


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

    Args:
        truth: the individual of each sample.
        answers: who it was said to be.
        unknown: individuals that no catalogue has.
        new: the answer that says so.

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
