"""How alike an encounter is to each individual: the scores of all its photographs, put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from openanimals.matching.lnbnn import KeypointTable
from openanimals.matching.matcher import Matcher, score_individuals
from openanimals.utils.viewpoints import lateral_viewpoint

FARTHEST = 20.0  # that a score stands out, in deviations


@dataclass
class Photos:
    """Photographs ready to be scored.

    Attributes:
        prepared: what each matcher made of them, by its name.
        viewpoints: of each, left, right or None.
        species: of each, or None.
        unseen: `[N]`, True where no matcher sees anything in it.
    """

    prepared: Mapping[str, Any]
    viewpoints: list[str | None]
    species: list[str | None]
    unseen: np.ndarray

    @classmethod
    def of(cls, matchers: Mapping[str, Matcher], images: Any) -> "Photos":
        """Prepare images (see :class:`openanimals.matching.matcher.Images`) for all matchers."""
        prepared = {name: matcher.prepare(images) for name, matcher in matchers.items()}
        viewpoints = [lateral_viewpoint(value) for value in images.table["viewpoint"]]
        unseen = np.all([nothing_in(each) for each in prepared.values()], axis=0)
        return cls(prepared, viewpoints, images.table["species"].tolist(), unseen)


def nothing_in(prepared: Any) -> np.ndarray:
    """Return `[N]`, True where a matcher has neither a keypoint nor a feature of a photograph."""
    if isinstance(prepared, KeypointTable):
        return np.bincount(prepared.photographs, minlength=len(prepared.diagonals)) == 0
    if isinstance(prepared, np.ndarray):
        return np.asarray(np.isnan(prepared).any(axis=1))
    return np.zeros(len(prepared), bool)


def select(prepared: Any, rows: np.ndarray) -> Any:
    """Return what a matcher has prepared of some photographs, in the order of the rows."""
    return prepared.select(rows) if isinstance(prepared, KeypointTable) else prepared[rows]


def comparable(query: Photos, gallery: Photos) -> np.ndarray:
    """Return `[Q, G]`, whether two photographs may show the same: one flank and one species.

    What is not known of a photograph forbids nothing.
    """
    allowed = ~(query.unseen[:, None] | gallery.unseen[None])
    for own, others in ((query.viewpoints, gallery.viewpoints), (query.species, gallery.species)):
        codes = pd.factorize(pd.Series([*own, *others], dtype=object))[0]  # -1 where not known
        first, second = codes[: len(own), None], codes[None, len(own) :]
        allowed &= (first == second) | (first < 0) | (second < 0)
    return allowed


@dataclass
class Scores:
    """Photographs against individuals, by each matcher.

    Attributes:
        named: `[Q, I, M]`, large where alike; NaN where an individual has no candidate.
        distances: by the name of the matcher `[Q, G]`, if they were asked for.
    """

    named: np.ndarray
    distances: dict[str, np.ndarray]


def score(
    matchers: Mapping[str, Matcher],
    query: Mapping[str, Any],
    gallery: Mapping[str, Any],
    candidates: np.ndarray,
    individuals: np.ndarray,
    *,
    keep: bool = False,
) -> Scores:
    """Score all queries against all individuals of a gallery.

    Args:
        matchers: by name.
        query: what each has prepared of Q photographs.
        gallery: of G photographs.
        candidates: bool `[Q, G]`.
        individuals: `[G]`, numbers 0..I-1, each there.
        keep: the distances of photographs, too.
    """
    order = np.argsort(individuals, kind="stable")
    starts = np.searchsorted(individuals[order], np.arange(individuals.max() + 1))
    there = np.logical_or.reduceat(candidates[:, order], starts, axis=1)
    named, distances = [], {}
    for name, matcher in matchers.items():
        own, kept = [], []
        given = query[name], gallery[name], candidates, individuals
        for _, block, by_individual in score_individuals(matcher, *given):
            own.append(-np.asarray(by_individual, np.float64))
            if keep:
                kept.append(np.asarray(block, np.float32))
        named.append(np.where(there, np.concatenate(own), np.nan))
        if keep:
            distances[name] = np.concatenate(kept)
    return Scores(np.stack(named, axis=2), distances)


def pool(named: np.ndarray, encounters: np.ndarray, viewpoints: Sequence[str | None]) -> np.ndarray:
    """Return the scores of encounters: of each flank its best photograph's, and their mean.

    Args:
        named: `[Q, I, M]` of photographs, NaN where there is no candidate.
        encounters: `[Q]`, numbers 0..E-1.
        viewpoints: of the photographs; those without one count as a flank of their own.

    Returns:
        `[E, I, M]`, NaN where no photograph has a candidate.
    """
    keys: dict[tuple, int] = {}
    flank = np.array(
        [keys.setdefault(key, len(keys)) for key in zip(encounters, viewpoints, strict=True)]
    )
    of = np.array([encounter for encounter, _ in keys])
    best = np.full((len(keys), *named.shape[1:]), -np.inf)
    np.maximum.at(best, flank, np.where(np.isnan(named), -np.inf, named))
    seen = np.isfinite(best)
    total = np.zeros((encounters.max() + 1, *named.shape[1:]))
    count = np.zeros_like(total)
    np.add.at(total, of, np.where(seen, best, 0))
    np.add.at(count, of, seen)
    with np.errstate(invalid="ignore"):
        return total / count


def standing_out(scores: np.ndarray) -> np.ndarray:
    """Return by how many deviations each score `[E, I, M]` lies above the others of its line."""
    there = ~np.isnan(scores)
    others = there.sum(axis=1, keepdims=True) - there
    plain = np.where(there, scores, 0)
    mean = (plain.sum(axis=1, keepdims=True) - plain) / np.maximum(others, 1)
    square = ((plain**2).sum(axis=1, keepdims=True) - plain**2) / np.maximum(others, 1)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    # Of two other scores or fewer there is no deviation to speak of.
    sure = (others > 2) & (deviation > 1e-9)
    out = np.where(sure, (plain - mean) / np.where(sure, deviation, 1), 0)
    return np.where(there, np.clip(out, -FARTHEST, FARTHEST), np.nan)
