"""Learn from a catalogue itself how sure a name is: each encounter is asked about as if new.

Of a network that was trained on the catalogue's own photographs this would tell too much, so then
those count that a network trained in the same way has not seen (:class:`HeldOut`).
"""

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
SUSPECT = 0.5  # a probability of another individual that makes a name of the catalogue doubtful
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
        suspects: encounters of the catalogue that look like another individual: the first
            photograph's position, that individual's number, and its probability.
    """

    open_set: OpenSet
    name: Threshold
    new: Threshold
    rates: Mapping[str, Any]
    note: str
    suspects: Sequence[tuple[int, int, float]] = ()

    def thresholds(self) -> dict[str, float]:
        """Return the probabilities from which on a name is given, and "new" is said."""
        return {"name": self.name.probability, "new": self.new.probability}

    def decide(self, match: Match) -> Match:
        """Return a match with its decision: the likeliest answer, if it is sure enough."""
        best = match.candidates[0]
        if match.new > best.probability:
            if match.new >= self.new.probability:
                return replace(match, decision="new", proposed="new", probability=match.new)
        elif best.probability >= self.name.probability:
            return replace(match, decision="known", proposed=best.name)
        return match


@dataclass(frozen=True)
class HeldOut:
    """Photographs of the catalogue that a network like the one in use was not trained on.

    Attributes:
        matchers: by name, with that network.
        encounters: annotation ids of those whose individual it was trained on by others.
        individuals: annotation ids of those whose individual it has never seen.
        trained: annotation ids of those that it was trained on.
    """

    matchers: Mapping[str, Matcher]
    encounters: frozenset[str]
    individuals: frozenset[str]
    trained: frozenset[str]

    def parts_of(self, ids: Sequence[str], individuals: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return what :func:`learn` takes of a catalogue: annotations `[G]`, individuals `[G]`."""
        parts = self.encounters, self.individuals, self.trained
        met, apart, among = (np.array([name in part for name in ids]) for part in parts)
        met &= np.isin(individuals, individuals[among])
        return met, apart & ~np.isin(individuals, individuals[among]), among


def learn(
    matchers: Mapping[str, Matcher],
    gallery: Photos,
    individuals: np.ndarray,
    table: pd.DataFrame,
    settings: Settings,
    sizes: np.ndarray,
    held_out: tuple[np.ndarray, ...] = (),
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
        held_out: `[G]` each, whether a photograph is asked about as of a known individual, whether
            as of a new one, and whether it is asked among; empty: all encounters are, among all
            others.

    Returns:
        Where there is too little to learn from, all individuals stay as likely as they were, and
        nothing is decided.
    """
    called = np.array(encounters(table, settings.gap), dtype=object)
    units = pd.factorize(called)[0] if settings.pooled else np.arange(len(called))
    allowed = comparable(gallery, gallery)
    everything = np.ones(len(table), bool)
    met, apart, among = held_out or (everything, everything, everything)
    names, columns = np.unique(individuals[among], return_inverse=True)
    gallery_of = {
        name: select(each, np.flatnonzero(among)) for name, each in gallery.prepared.items()
    }
    asked, first = [], np.empty(0, int)
    for wanted, group in ((met, pd.factorize(called)[0]), (apart, individuals)):
        rows = _drawn(units, wanted & ~gallery.unseen, len(names), sizes)
        if not len(rows):
            lacking = "held out" if held_out else "seen in any photograph of the catalogue"
            return _nothing(f"nothing is {lacking}", len(matchers))
        numbers = pd.factorize(units[rows])[0]
        own = np.zeros(numbers.max() + 1, int)
        own[numbers] = individuals[rows]
        candidates = allowed[rows] & (group[rows][:, None] != group[None])
        query = {name: select(each, rows) for name, each in gallery.prepared.items()}
        photographs = score(matchers, query, gallery_of, candidates[:, among], columns)
        scores = pool(photographs.named, numbers, [gallery.viewpoints[row] for row in rows])
        if group is individuals:
            asked.append(Asked(scores, np.full(len(own), len(names)), own))
        else:
            truth = np.searchsorted(names, own)
            there = np.isfinite(scores[np.arange(len(own)), truth]).all(axis=1)
            asked.append(Asked(scores[there], truth[there], own[there]))
            first = rows[np.unique(numbers, return_index=True)[1]][there]
    try:
        open_set = OpenSet.fit(asked, settings.known)
        found = left_out(asked, settings.known)
        learnt = _judged(open_set, asked, found, settings)
    except OpenSetError as error:
        return _nothing(str(error), len(matchers))
    named = found[0][0]
    suspects = [
        (int(first[row]), int(names[named[row].argmax()]), float(named[row].max()))
        for row in np.argsort(-named.max(axis=1), kind="stable")
        if named[row].max() >= SUSPECT and named[row].argmax() != asked[0].truth[row]
    ]
    return replace(learnt, suspects=suspects)


def _drawn(
    units: np.ndarray, wanted: np.ndarray, individuals: int, sizes: np.ndarray
) -> np.ndarray:
    """Return rows of some encounters, of no more photographs than are asked about, by lot.

    Args:
        units: `[G]`, the number of the encounter of each photograph.
        wanted: `[G]`, whether it may be drawn.
        individuals: how many each is compared with.
        sizes: as in :func:`learn`.
    """
    draw = np.random.default_rng(0)
    least, limit = ENCOUNTERS
    count = min(limit, max(least, PAIRS // individuals))
    some = draw.permutation(np.unique(units[wanted]))[:count]
    most = np.zeros(units.max() + 1, int)
    most[some] = draw.choice(sizes, len(some))
    order = draw.permutation(np.flatnonzero(wanted))
    place = pd.Series(units[order]).groupby(units[order]).cumcount().to_numpy()
    return np.sort(order[place < most[units[order]]])


def _nothing(why: str, matchers: int) -> Learnt:
    """Leave all individuals as likely as they were, and decide nothing."""
    logger.warning("%s; candidates are ranked, and nothing is decided", why)
    never = Threshold(2.0, 0.0, 0.0)
    return Learnt(OpenSet((0.0,) * 2 * matchers, 0.0), never, never, {}, why)


def _judged(
    open_set: OpenSet,
    asked: Sequence[Asked],
    found: Sequence[tuple[np.ndarray, np.ndarray]],
    settings: Settings,
) -> Learnt:
    """Choose the thresholds by the probabilities of encounters that were left out."""
    truth, named = asked[0].truth, found[0][0]
    counts = [len(each.truth) for each in asked]  # of known individuals, and of new ones
    is_known = np.repeat([True, False], counts)
    weights = np.repeat(np.array([settings.known, 1 - settings.known]) / counts, counts)
    sure = np.concatenate([each.max(axis=1) for each, _ in found])
    right = np.append(named.argmax(axis=1) == truth, np.zeros(counts[1], bool))
    new = np.concatenate([each for _, each in found])
    likely = new > sure
    name = threshold(np.where(likely, 0, sure), right, weights, is_known, settings.wrong_names)
    unknown = threshold(np.where(likely, new, 0), ~is_known, weights, ~is_known, settings.wrong_new)
    rank = (named > named[np.arange(len(named)), truth][:, None]).sum(axis=1)
    rates = {
        "encounters of known individuals": counts[0],
        "encounters as if new": counts[1],
        "right individual first": float((rank < 1).mean()),
        "right individual among five": float((rank < 5).mean()),
        "wrong names": name.wrong,
        "right names of known individuals": name.right,
        "wrong new": unknown.wrong,
        "new found": unknown.right,
    }
    note = (
        f"learnt from {counts[0]} encounters of individuals that were met again, and {counts[1]} "
        "as if their individual were not in the catalogue; the thresholds were chosen on these, so "
        "what is expected is a little too good"
    )
    if name.probability > 1:
        note += (
            f"; no name is given, since even the surest are wrong too often for "
            f"{100 * settings.wrong_names:g} of 100: look at the names to check, or allow more"
        )
    return Learnt(open_set, name, unknown, rates, note)
