"""Learn from a catalogue itself how sure a name is: each encounter is asked about as if new."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from logging import getLogger
from typing import Any

import numpy as np
import pandas as pd

from openanimals.identification.encounters import GAP, encounters
from openanimals.identification.matches import Match
from openanimals.identification.open_set import (
    Asked,
    OpenSet,
    OpenSetError,
    Threshold,
    left_out,
    threshold,
)
from openanimals.identification.pooling import Photos, comparable, pool, score, select
from openanimals.matching.matcher import Matcher
from openanimals.utils.errors import UserError

logger = getLogger(__name__)

ENCOUNTERS = 200, 1000  # at least and at most, that are asked about, drawn by lot
PAIRS = 200_000  # of an encounter and an individual, of more than the least


@dataclass(frozen=True)
class Settings:
    """What is asked of an identification.

    Attributes:
        wrong_names: the share of encounters that may get a wrong name.
        wrong_new: the share that may be called new wrongly.
        known: the share of encounters that are expected to show a known individual.
        gap: minutes between two photographs of one encounter, at most.
        pooled: whether the photographs of an encounter are looked at together.
    """

    wrong_names: float = 0.01
    wrong_new: float = 0.05
    known: float = 0.5
    gap: float = GAP
    pooled: bool = True

    def __post_init__(self) -> None:
        for name in ("wrong_names", "wrong_new", "known"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise UserError(f"{name} is {value}; expected a share between 0 and 1, not percent")


@dataclass(frozen=True)
class Learnt:
    """What scores are worth, and from which probability on something is decided.

    Attributes:
        open_set: gives the probabilities.
        name: for a name.
        new: for "new".
        rates: what was measured on individuals that the weights were not learnt from.
        note: on what all this rests, in words.
    """

    open_set: OpenSet
    name: Threshold
    new: Threshold
    rates: Mapping[str, Any]
    note: str

    def thresholds(self) -> dict[str, float]:
        """Return the probabilities from which on a name is given, and "new" is said."""
        return {"name": self.name.probability, "new": self.new.probability}

    def decide(self, match: Match) -> Match:
        """Return a match with its decision."""
        best = match.candidates[0]
        name = best.probability >= self.name.probability
        new = match.new >= self.new.probability
        if name and (not new or best.probability >= match.new):
            return replace(match, decision="known", proposed=best.name)
        if new:
            return replace(match, decision="new", proposed="new", probability=match.new)
        return match


def learn(
    matchers: Mapping[str, Matcher],
    gallery: Photos,
    individuals: np.ndarray,
    table: pd.DataFrame,
    settings: Settings,
    sizes: np.ndarray,
) -> Learnt:
    """Ask about the encounters of a catalogue, with and without their individual in it.

    Args:
        matchers: by name.
        gallery: the catalogue's photographs.
        individuals: `[G]`, numbers 0..I-1.
        table: the catalogue.
        settings: of the identification.
        sizes: how many photographs the encounters have that will be asked about. Those that are
            learnt from get no more, drawn by lot: of one photograph one is less sure than of five.

    Returns:
        Where there is too little to learn from, all individuals stay as likely as they were, and
        nothing is decided.
    """
    called = np.array(encounters(table, settings.gap), dtype=object)
    units = pd.factorize(called)[0] if settings.pooled else np.arange(len(called))
    allowed = comparable(gallery, gallery)
    visits = pd.factorize(called)[0]
    draw = np.random.default_rng(0)
    least, limit = ENCOUNTERS
    count = min(limit, max(least, PAIRS // (individuals.max() + 1)))
    some = draw.permutation(units.max() + 1)[:count]
    most = np.zeros(units.max() + 1, int)
    most[some] = draw.choice(sizes, len(some))
    order = draw.permutation(np.flatnonzero(~gallery.unseen))
    place = pd.Series(units[order]).groupby(units[order]).cumcount().to_numpy()
    rows = np.sort(order[place < most[units[order]]])
    if not len(rows):
        return _nothing("nothing is seen in any photograph of the catalogue", len(matchers))
    again = pd.factorize(units[rows])[0]
    own = np.zeros(again.max(initial=-1) + 1, int)
    own[again] = individuals[rows]
    sets = []
    for group in (visits, individuals):
        candidates = allowed[rows] & (group[rows][:, None] != group[None])
        query = {name: select(each, rows) for name, each in gallery.prepared.items()}
        found = score(matchers, query, gallery.prepared, candidates, individuals)
        viewpoints = [gallery.viewpoints[row] for row in rows]
        sets.append(pool(found.named, again, viewpoints))
    met, apart = sets
    there = np.isfinite(met[np.arange(len(own)), own]).all(axis=1)
    asked = [
        Asked(met[there], own[there], own[there]),
        Asked(apart, np.full(len(own), apart.shape[1]), own),
    ]
    try:
        open_set = OpenSet.fit(asked, settings.known)
        return _judged(open_set, asked, left_out(asked, settings.known), settings)
    except OpenSetError as error:
        return _nothing(str(error), len(matchers))


def _nothing(why: str, matchers: int) -> Learnt:
    """Leave all individuals as likely as they were, and decide nothing."""
    logger.warning("%s; candidates are ranked, and nothing is decided", why)
    never = Threshold(2.0, 0.0, 0.0, 0)
    return Learnt(OpenSet((0.0,) * 2 * matchers, 0.0), never, never, {}, why)


def _judged(
    open_set: OpenSet,
    asked: Sequence[Asked],
    found: Sequence[tuple[np.ndarray, np.ndarray]],
    settings: Settings,
) -> Learnt:
    """Choose the thresholds by the probabilities of encounters that were left out."""
    sure, right, is_known, weights, new, is_new = [], [], [], [], [], []
    for each, (named, unseen), share in zip(
        asked, found, (settings.known, 1 - settings.known), strict=True
    ):
        stranger = each.truth == each.scores.shape[1]
        sure.append(named.max(axis=1))
        right.append((named.argmax(axis=1) == each.truth) & ~stranger)
        is_known.append(~stranger)
        weights.append(np.full(len(named), share / len(named)))
        new.append(unseen)
        is_new.append(stranger)
    known_ones, weight = np.concatenate(is_known), np.concatenate(weights)
    strangers = np.concatenate(is_new)
    name = threshold(
        np.concatenate(sure), np.concatenate(right), weight, known_ones, settings.wrong_names
    )
    unknown = threshold(np.concatenate(new), strangers, weight, strangers, settings.wrong_new)
    rates = {
        "encounters of known individuals": int(known_ones.sum()),
        "encounters as if new": int(strangers.sum()),
        "wrong names": name.wrong,
        "right names of known individuals": name.right,
        "wrong new": unknown.wrong,
        "new found": unknown.right,
    }
    note = (
        f"learnt from {known_ones.sum()} encounters of individuals that were met again, and "
        f"{strangers.sum()} as if their individual were not in the catalogue; the thresholds were "
        "chosen on these, so what is expected is a little too good"
    )
    return Learnt(open_set, name, unknown, rates, note)
