"""Who is this: encounters of new photographs against a catalogue of known individuals."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from logging import getLogger

import numpy as np
import pandas as pd

from openanimals.engine.matchers import CatalogueImages
from openanimals.identification.catalogue_file import annotation_ids, as_catalogue
from openanimals.identification.encounters import encounters, numbered, pooled
from openanimals.identification.learning import HeldOut, Learnt, Settings, learn
from openanimals.identification.listing import Listing
from openanimals.identification.matches import Candidate, Match, Matches
from openanimals.identification.open_set import OpenSet
from openanimals.identification.pooling import Photos, comparable, pool, score
from openanimals.identification.ranking import Ranking, most_alike
from openanimals.matching.matcher import Matcher
from openanimals.matching.one_to_one import Spots
from openanimals.utils.errors import UserError

logger = getLogger(__name__)

SHOWN = 5  # candidates of each encounter
SUSPECTS = 20  # names of the catalogue to check, at most
TWO_SEEN = "asked about by itself: the photographs of this encounter show more than one animal"
TWO_ANIMALS = 0.9  # two photographs of an encounter that are as sure as this of two names differ


class Identifier:
    """A catalogue that has been looked at, ready to say who new photographs show.

    Args:
        catalogue: photographs of known individuals; others in it are left out.
        matchers: one or more that compare photographs, by name; their scores are put together.
        settings: None: the usual ones.
        fingerprint: of the model, for the record.
        held_out: of a model that was trained on the catalogue; None: it was not.

    Attributes:
        names: of the individuals, sorted.

    Raises:
        UserError: the catalogue has no individual with a name.
    """

    def __init__(
        self,
        catalogue: Listing,
        matchers: Mapping[str, Matcher],
        settings: Settings | None = None,
        *,
        fingerprint: str = "",
        held_out: HeldOut | None = None,
    ) -> None:
        self.settings, self.matchers = settings or Settings(), matchers
        self._held_out = held_out
        self.catalogue, self.fingerprint = catalogue.known(), fingerprint
        table = self.catalogue.table
        if not len(table):
            raise UserError("no photograph in the catalogue has the name of an individual")
        self.names, self._individuals = np.unique(
            table["identity"].astype(str), return_inverse=True
        )
        self._ids = annotation_ids(table)
        self._gallery = Photos.of(matchers, _images(self.catalogue))
        self._show: Callable[[int, int], Spots] | None = None
        self._asked: dict[str, int] = {}

    def identify(self, new: Listing) -> Matches:
        """Say of each encounter of new photographs who it is, how sure, or that it is new.

        Args:
            new: photographs to be identified; identities in it are not looked at.

        Returns:
            One match an encounter, in the order of the photographs.

        Raises:
            UserError: there is no photograph to identify.
        """
        if not len(new.table):
            raise UserError("there is no photograph to identify")
        settings, nobody = self.settings, new.table.assign(identity=None)
        query = Photos.of(self.matchers, _images(new))
        candidates = comparable(query, self._gallery)
        pairs = candidates, self._individuals
        scores = score(self.matchers, query.prepared, self._gallery.prepared, *pairs, keep=True)
        called = encounters(nobody, settings.gap)
        asked = pooled(nobody, called) if settings.pooled else np.arange(len(nobody))
        sizes, table = np.bincount(asked), self.catalogue.table
        if self._held_out:
            learnt = learn_from(self._held_out, self.catalogue, settings, sizes)
        else:
            learnt = learn(self.matchers, self._gallery, self._individuals, table, settings, sizes)
        asked = _apart(asked, scores.named, learnt.open_set, settings.known)
        ids = annotation_ids(new.table)
        self._asked = {name: row for row, name in enumerate(ids)}
        for name, matcher in self.matchers.items():
            if hasattr(matcher, "spots"):
                both = query.prepared[name], self._gallery.prepared[name]
                self._show = matcher.spots(*both, *pairs)
        found, alike = [], []
        evidence = pool(scores.named, asked, query.viewpoints)
        named, is_new = learnt.open_set(evidence, settings.known)
        for number in range(len(evidence)):
            rows = np.flatnonzero(asked == number)
            first = np.nan_to_num(evidence[number, :, 0], nan=-np.inf)
            order = np.lexsort((-first, -named[number]))[:SHOWN]
            distances = next(iter(scores.distances.values()))[rows]
            distances = np.where(candidates[rows], distances, np.inf)
            alike.append(most_alike(distances, self._individuals))
            some = [ids[row] for row in rows]
            own = new.table.iloc[rows]
            match = Match(
                encounter=called[rows[0]],
                annotations=tuple(some),
                date=_first(own["date"]),
                place=_first(own["camera"]),
                viewpoints=tuple(viewpoint or "" for viewpoint in own["viewpoint"]),
                decision="unsure",
                proposed="",
                probability=float(named[number].max()),
                new=float(is_new[number]),
                candidates=tuple(
                    self._candidate(who, float(named[number, who]), alike[-1], some)
                    for who in order
                ),
            )
            if query.unseen[rows].all():
                remark = "cannot be read, or nothing is seen in it"
                found.append(replace(match, decision="cannot tell", remark=remark))
            else:
                found.append(learnt.decide(match))
        matches = _never_twice(_numbered(found, TWO_SEEN if settings.pooled else ""))
        photograph, nearest = (np.stack(each) for each in zip(*alike, strict=True))
        return Matches(
            matches=matches,
            fingerprint=self.fingerprint,
            matcher=" + ".join(self.matchers),
            catalogue=str(self.catalogue.root),
            individuals=len(self.names),
            wrong_names=settings.wrong_names,
            thresholds=learnt.thresholds(),
            rates=dict(learnt.rates),
            made=datetime.now().astimezone().isoformat(timespec="seconds"),
            note=learnt.note,
            to_check=[
                f"{self._ids[row]}: called {table['identity'].iat[row]}, looks like "
                f"{self.names[who]} ({probability:.0%})"
                for row, who, probability in learnt.suspects[:SUSPECTS]
            ],
            ranking=Ranking(
                encounters=[match.encounter for match in matches],
                names=self.names.tolist(),
                photographs=self._ids,
                probability=named.astype(np.float32),
                photograph=photograph.astype(np.int32),
                query=nearest.astype(np.int32),
            ),
        )

    def spots(self, query: str, photograph: str) -> Spots | None:
        """Return what matches in a photograph that was identified last and one of the catalogue.

        Args:
            query: annotation id of the first.
            photograph: of the other.

        Returns:
            None if no matcher can tell.
        """
        if self._show is None:
            return None
        return self._show(self._asked[query], self._ids.index(photograph))

    def _candidate(
        self,
        who: int,
        probability: float,
        alike: tuple[np.ndarray, np.ndarray],
        queries: Sequence[str],
    ) -> Candidate:
        """Return an individual with the two photographs that :func:`most_alike` gives."""
        photograph, nearest = alike
        shown = photograph[who]
        if shown < 0:  # nothing can be compared: any photograph of it
            shown = np.flatnonzero(self._individuals == who)[0]
        return Candidate(str(self.names[who]), probability, self._ids[shown], queries[nearest[who]])


def identify(
    new: Listing,
    catalogue: Listing,
    matcher: Matcher | Mapping[str, Matcher],
    settings: Settings | None = None,
) -> Matches:
    """Say of each encounter of new photographs who it is; see :class:`Identifier`.

    Example:
        >>> catalogue = Listing.read("catalogue.csv")
        >>> matches = identify(catalogue.unknown(), catalogue, LocalMatcher())
        >>> matches.table()[["file", "proposed", "probability"]]
    """
    matchers = matcher if isinstance(matcher, Mapping) else {"matcher": matcher}
    return Identifier(catalogue, matchers, settings).identify(new)


def learn_from(
    held_out: HeldOut, catalogue: Listing, settings: Settings, sizes: np.ndarray
) -> Learnt:
    """Learn from what a network was not trained on; ``catalogue`` is of known individuals."""
    _, individuals = np.unique(catalogue.table["identity"].astype(str), return_inverse=True)
    gallery = Photos.of(held_out.matchers, _images(catalogue))
    rows = held_out.parts_of(annotation_ids(catalogue.table), individuals)
    if not rows[-1].any():
        raise UserError(
            "none of the photographs that the model was trained on is in the catalogue any more; "
            "train again (openanimals train --for-identification)"
        )
    matchers = held_out.matchers
    return learn(matchers, gallery, individuals, catalogue.table, settings, sizes, rows)


def _images(listing: Listing) -> CatalogueImages:
    return CatalogueImages(as_catalogue(*listing), masked=True)


def _first(values: pd.Series) -> str | None:
    return next((str(value) for value in values if value), None)


def _apart(asked: np.ndarray, named: np.ndarray, open_set: OpenSet, known: float) -> np.ndarray:
    """Take encounters apart whose photographs, each alone, are sure of two different names."""
    alone, _ = open_set(named, known)
    sure, who = alone.max(axis=1) >= TWO_ANIMALS, alone.argmax(axis=1)
    names = pd.DataFrame({"asked": asked, "who": who})[sure].groupby("asked")["who"].nunique()
    two = set(names[names > 1].index)
    keys = [(number, row if number in two else -1) for row, number in enumerate(asked)]
    return pd.factorize(pd.Series(keys, dtype=object))[0]


def _numbered(found: Sequence[Match], remark: str) -> list[Match]:
    """Give the parts of an encounter that was taken apart names of their own, and a remark."""
    names = numbered([match.encounter for match in found])
    return [
        match
        if name == match.encounter
        else replace(match, encounter=name, remark=match.remark or remark)
        for match, name in zip(found, names, strict=True)
    ]


def _never_twice(found: Sequence[Match]) -> list[Match]:
    """Let only the surest animal of a photograph have a name; two boxes are never one animal."""
    kept, taken = list(found), set[tuple[str, str]]()
    for number in sorted(range(len(found)), key=lambda number: -found[number].probability):
        match = found[number]
        claims = {(path, match.proposed) for path in _paths(match)}
        if match.decision != "known":
            continue
        if claims & taken:
            remark = f"another animal in this photograph is more like {match.proposed}"
            kept[number] = replace(match, decision="unsure", proposed="", remark=remark)
        taken |= claims
    return kept


def _paths(match: Match) -> set[str]:
    # A file may have this sign in its name, too.
    return {re.sub(r"#[-+.,\de]+$", "", annotation) for annotation in match.annotations}
