"""Which encounters of unknown animals show one animal: from pairs that look alike to groups."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from openanimals.engine.matchers import CatalogueImages
from openanimals.identification.catalogue_file import annotation_ids, as_catalogue
from openanimals.identification.decisions.evidence import Decision
from openanimals.identification.discovery.grouping import group
from openanimals.identification.discovery.groups_file import Discovery, Member
from openanimals.identification.discovery.pair_evidence import (
    PairEvidence,
    expect,
    pair_probabilities,
    pair_weights,
)
from openanimals.identification.discovery.population import learn_clumped
from openanimals.identification.encounters import encounters, numbered, pooled
from openanimals.identification.learning import Settings
from openanimals.identification.listing import Listing
from openanimals.identification.pooling import Photos, comparable, pool, score, select
from openanimals.matching.matcher import Matcher
from openanimals.utils.errors import UserError

OF_ONE = 10  # encounters of a known individual that are looked at, drawn by lot
LEARNT_FROM = 500  # encounters of named animals, of whole individuals drawn by lot
LIKELY = 0.001  # pairs that are as likely to be one animal are kept,
KEPT = 30  # and no more of an encounter


class Units(NamedTuple):
    """What is grouped: encounters, or single photographs.

    Attributes:
        rows: of the photographs of each.
        names: of the encounters.
        individuals: who each shows, None where not known.
        visits: a number for each photograph's encounter; within one nothing is compared.
        of: the unit of each photograph `[N]`.
    """

    rows: list[np.ndarray]
    names: list[str]
    individuals: list[str | None]
    visits: np.ndarray
    of: np.ndarray


def discover(
    listing: Listing,
    matchers: Mapping[str, Matcher],
    settings: Settings | None = None,
    *,
    model: PairEvidence | None = None,
    decisions: Iterable[Decision] = (),
    called: Mapping[str, str] | None = None,
    nobody: frozenset[str] = frozenset(),
) -> Discovery:
    """Group the encounters of unknown animals; known individuals may be joined, and stay apart.

    Args:
        listing: a catalogue, as it is after all decisions.
        matchers: by name.
        settings: of the identification.
        model: what likeness says; None: it is learnt from the names in the catalogue.
        decisions: about the catalogue. What is "different" is kept apart; "same" is in the names.
        called: encounters of annotations that were identified before, by annotation id.
        nobody: names that were made up for new animals; two of them may be one, so nothing is
            learnt from them.

    Returns:
        Groups of all encounters that have no name.

    Raises:
        UserError: every photograph has a name, or there is too little to learn from.
    """
    settings = settings or Settings()
    if not len(listing.unknown().table):
        raise UserError("every photograph has a name; there is nobody to discover")
    listing = Listing(_fewer(listing.table, settings), listing.root)
    units = units_of(listing.table, settings, called or {})
    who = pd.factorize(pd.Series(units.individuals, dtype=object))[0]  # -1: nobody known
    asked = who < 0
    teachers = _drawn([None if name in nobody else name for name in units.individuals])
    photos = Photos.of(matchers, CatalogueImages(as_catalogue(*listing), masked=True))
    asked_of = asked.copy()
    if model is None:
        asked_of[teachers] = True
    scores, distances = score_pairs(matchers, photos, units, asked_of)
    if model is None:
        model = learnt(scores[np.ix_(teachers, teachers)], who[teachers])
    evidence = model(scores)
    expected = expect(evidence, model.partners, asked)
    apart = _apart(listing.table, units, who, decisions)
    together = np.where(asked, len(who) + np.arange(len(who)), who)
    groups = group(pair_weights(evidence, expected), together, apart)
    chances = np.where(apart, 0, pair_probabilities(evidence, expected))
    ids = np.array(annotation_ids(listing.table), dtype=object)
    viewpoints = np.array(photos.viewpoints, dtype=object)
    called_so = {g: name for g, name in zip(groups, units.individuals, strict=True) if name}
    members = [
        Member(
            encounter=units.names[n],
            annotations=tuple(ids[units.rows[n]]),
            viewpoints=tuple(view or "" for view in viewpoints[units.rows[n]]),
            group=int(groups[n]),
            individual=called_so.get(groups[n]),
            known=not asked[n],
            cohesion=_cohesion(n, groups, evidence, chances),
        )
        for n in range(len(who))
    ]
    pairs = _pairs(chances, np.flatnonzero(asked), units, distances, ids)
    likeness = np.where(apart, np.nan, evidence)[np.ix_(asked, asked)].astype(np.float32)
    return Discovery(members, pairs, expected, model.clumped, likeness, " + ".join(matchers))


def learn_pairs(
    listing: Listing, matchers: Mapping[str, Matcher], settings: Settings
) -> PairEvidence:
    """Learn what likeness says from the named encounters of a catalogue.

    Raises:
        UserError: nobody has a name there, or there are too few encounters.
    """
    known = listing.known()
    if not len(known.table):
        raise UserError("nobody has a name in the catalogue that is to be learnt from")
    table = known.table
    units = units_of(table, settings)
    some = np.isin(units.of, _drawn(units.individuals))
    known = Listing(table[some].reset_index(drop=True), known.root)
    units = units_of(known.table, settings)
    photos = Photos.of(matchers, CatalogueImages(as_catalogue(*known), masked=True))
    scores, _ = score_pairs(matchers, photos, units, np.ones(len(units.rows), bool))
    return learnt(scores, np.array(units.individuals))


def learnt(scores: np.ndarray, individuals: np.ndarray) -> PairEvidence:
    """Learn what likeness says, from scores `[E, E, M]` of encounters and whom they show `[E]`."""
    model = PairEvidence.fit(scores, individuals)
    evidence = model(scores)
    expected = expect(evidence, model.partners, np.ones(len(evidence), bool))
    return replace(model, clumped=learn_clumped(evidence, expected, individuals))


def score_pairs(
    matchers: Mapping[str, Matcher], photos: Photos, units: Units, asked: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compare encounters with encounters.

    Args:
        matchers: by name.
        photos: all photographs.
        units: the encounters.
        asked: bool `[E]`, which are compared with all others.

    Returns:
        `[E, E, M]`, large where alike, NaN where nothing can be compared or was not asked; and
        `[N, N]`, distances of photographs by the first matcher, infinite there.
    """
    count = len(units.rows)
    rows = np.flatnonzero(asked[units.of])
    allowed = comparable(photos, photos)[rows]
    allowed &= units.visits[rows][:, None] != units.visits[None]
    query = {name: select(each, rows) for name, each in photos.prepared.items()}
    found = score(matchers, query, photos.prepared, allowed, units.of, keep=True)
    again, numbers = pd.factorize(units.of[rows])
    named = pool(found.named, again, [photos.viewpoints[row] for row in rows])
    scores = np.full((count, count, named.shape[2]), np.nan)
    scores[numbers] = named
    distances = np.full((len(units.of), len(units.of)), np.inf, np.float32)
    first = next(iter(found.distances.values()))
    distances[rows] = np.where(allowed, first, np.inf)
    return scores, distances


def _fewer(table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Return a catalogue with not too many encounters of each known individual."""
    called = pd.Series(encounters(table, settings.gap), table.index, dtype=object)
    keep = table["identity"].isna()
    draw = np.random.default_rng(0)
    for _, own in called[~keep].groupby(table["identity"]):
        keep[own.index] = own.isin(draw.permutation(own.unique())[:OF_ONE])
    return table[keep].reset_index(drop=True)


def units_of(table: pd.DataFrame, settings: Settings, called: Mapping[str, str] = {}) -> Units:
    """Return what is grouped: encounters, or photographs one by one.

    Args:
        table: a catalogue.
        settings: say which.
        called: encounters of photographs without a name, by annotation id, where they are known.
    """
    names, ids = encounters(table, settings.gap), annotation_ids(table)
    nobody = table["identity"].isna().to_numpy()
    names = [
        called.get(annotation, name) if unknown else name
        for name, annotation, unknown in zip(names, ids, nobody, strict=True)
    ]
    of = pooled(table, names) if settings.pooled else np.arange(len(names))
    rows = [np.flatnonzero(of == number) for number in range(of.max(initial=-1) + 1)]
    first = [own[0] for own in rows]
    titles = numbered([names[row] for row in first])
    identity = [None if nobody[row] else str(table["identity"].iat[row]) for row in first]
    return Units(rows, titles, identity, pd.factorize(np.array(names))[0], of)


def _drawn(individuals: Sequence[str | None]) -> np.ndarray:
    """Return encounters of whole individuals with a name, drawn by lot; those met again first."""
    own = pd.Series([*individuals], dtype=object)
    sizes = own.value_counts()
    order = np.random.default_rng(0).permutation(sorted(sizes.index))
    chosen, count = list[str](), 0
    for name in sorted(order, key=lambda name: sizes[name] < 2):
        if count + sizes[name] <= LEARNT_FROM:
            chosen.append(name)
            count += sizes[name]
    return np.flatnonzero(own.isin(chosen))


def different_pairs(decisions: Iterable[Decision], place: dict[str, int]) -> list[tuple[int, int]]:
    """Return the places of what was decided to be different, by those of annotations."""
    return [
        (place[each.first], place[each.second])
        for each in decisions
        if each.kind == "different" and each.undone_by is None
        if each.first in place and each.second in place
    ]


def _apart(
    table: pd.DataFrame, units: Units, who: np.ndarray, decisions: Iterable[Decision]
) -> np.ndarray:
    """Return `[E, E]`, True where two cannot show one animal; of two with names these decide."""
    count = len(units.rows)
    apart = np.zeros((count, count), bool)
    paths = pd.Series(units.of).groupby(table["path"].to_numpy()).unique()
    place = dict(zip(annotation_ids(table), units.of, strict=True))
    both = [(one, other) for some in paths for one in some for other in some if one != other]
    for one, other in both + different_pairs(decisions, place):
        apart[one, other] = apart[other, one] = one != other
    # Of one individual, whatever a decision says: that is a conflict, listed elsewhere.
    named = (who[:, None] >= 0) & (who >= 0)
    return np.where(named, who[:, None] != who, apart)


def _cohesion(
    number: int, groups: np.ndarray, evidence: np.ndarray, chances: np.ndarray
) -> float | None:
    """Return the mean probability that an encounter and the others of its group are one animal."""
    others = (groups == groups[number]) & ~np.isnan(evidence[number])
    return float(chances[number, others].mean()) if others.any() else None


def _pairs(
    chances: np.ndarray,
    asked: np.ndarray,
    units: Units,
    distances: np.ndarray,
    ids: np.ndarray,
) -> list[tuple[int, int, float, str, str]]:
    """Return the likely pairs of unknown encounters, with the photographs that are most alike."""
    own = np.triu(chances[np.ix_(asked, asked)], 1)
    own = own + own.T
    rank = np.argsort(np.argsort(-own, axis=1, kind="stable"), axis=1)
    kept = (own >= LIKELY) & (rank < KEPT)
    found = []
    for one, other in np.argwhere(np.triu(kept | kept.T, 1)):
        first, second = units.rows[asked[one]], units.rows[asked[other]]
        near = np.fmin(distances[np.ix_(first, second)], distances[np.ix_(second, first)].T)
        i, j = np.unravel_index(near.argmin(), near.shape)
        chance = float(own[one, other])
        found.append((int(one), int(other), chance, str(ids[first[i]]), str(ids[second[j]])))
    return found
