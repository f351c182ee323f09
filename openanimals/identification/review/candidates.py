"""Who an encounter may show: individuals of the catalogue, and other encounters of nobody known."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from openanimals.identification.catalogue_file import annotation_ids
from openanimals.identification.decisions.individuals import Individuals
from openanimals.identification.matches import Matches
from openanimals.identification.ranking import Ranking
from openanimals.identification.review.answers import About
from openanimals.utils.errors import FileError, UserError
from openanimals.utils.registry import did_you_mean


@dataclass(frozen=True)
class Choice:
    """Who an encounter may show.

    Attributes:
        title: the name of the individual, or of the other encounter.
        individual: the name; None for an encounter of an unknown animal.
        encounter: the name of that encounter; None for an individual.
        probability: that it is this one, after what the reviewer answered.
        photographs: annotation ids, the one most like first.
        query: of the encounter's photographs the one that is most like that.
        comparable: whether any two photographs could be compared.
        answered: what the reviewer said of it before, "" if nothing.
    """

    title: str
    individual: str | None
    encounter: str | None
    probability: float
    photographs: tuple[str, ...]
    query: str
    comparable: bool = True
    answered: str = ""


class Candidates:
    """What is known of the candidates, whoever is asked.

    Args:
        matches: what was found.
        ranking: of the same run.
        groups: what ``openanimals discover`` has written; None: unknown animals are not compared.
        table: the catalogue, with all photographs of the encounters.
        found: its individuals.

    Attributes:
        number: the position of each encounter's name.
        encounter_of: the position of the encounter of each photograph that was asked about.
        individual_of: the individual of each known photograph, as it is called now.
        ranking: of the individuals as they are called now; those that were merged are one, those
            that have no photographs any more are left out.
        titles: of these individuals.
        columns: the position of an individual, by any name that it has or had.
        called: what it is called now, by any such name.
        pairs: `[P, 2]`, positions of encounters that may show one animal.
        chances: `[P]`, that they do.
        share: of all pairs, those that are expected to.
        views: bool `[E, V]`, the viewpoints that an encounter can be compared from; all, where one
            of its photographs is from anywhere.

    Raises:
        UserError: photographs are not in the catalogue, or the files are not of one run.
    """

    def __init__(
        self,
        matches: Matches,
        ranking: Ranking,
        groups: Mapping[str, Any] | None,
        table: pd.DataFrame,
        found: Individuals,
    ) -> None:
        self._matches = matches.matches
        self.number = {match.encounter: n for n, match in enumerate(matches.matches)}
        if [*ranking.encounters] != [*self.number]:
            raise UserError(
                "matches.json and ranking.safetensors are not of one run; let openanimals identify "
                "write both again"
            )
        self.encounter_of = {
            name: n for n, match in enumerate(matches.matches) for name in match.annotations
        }
        if strangers := [name for name in self.encounter_of if name not in found.identity]:
            raise UserError(
                f"{len(strangers)} photographs of the matches are not in the catalogue, such as "
                f"{strangers[0]}; add them first: openanimals catalogue CSV --add FOLDER"
            )
        self._viewpoints = dict(zip(annotation_ids(table), table["viewpoint"], strict=True))
        called = [found.names.get(name, name) for name in ranking.names]
        # What was asked about is not among the known, whoever named it since. Where names are in
        # conflict, a photograph is still of whom the ranking shows it for.
        self.individual_of: dict[str, str] = {}
        for row, name in enumerate(ranking.photographs):
            individual = found.identity.get(name)
            if name in found.identity and individual is None:
                columns = np.flatnonzero((ranking.photograph == row).any(axis=0))
                individual = called[columns[0]] if len(columns) else None
            if individual is not None:
                self.individual_of[name] = individual
        self._photographs_of: dict[str, list[str]] = defaultdict(list)
        for name, individual in self.individual_of.items():
            self._photographs_of[individual].append(name)
        self.ranking = ranking.called(
            [title if title in self._photographs_of else None for title in called]
        )
        self.titles = [*self.ranking.names]
        own = {title: n for n, title in enumerate(self.titles)}
        named = {name: own[title] for name, title in found.names.items() if title in own}
        self.columns = own | named
        self.called = {name: self.titles[column] for name, column in self.columns.items()}
        self.pairs, self.chances, self._alike = _pairs_of(groups, self.encounter_of)
        self.share = float(groups["share expected"]) if groups else 0.5
        self.views = _views_of([match.viewpoints for match in matches.matches])

    def position(self, encounter: str) -> int:
        """Return the position of an encounter.

        Raises:
            UserError: there is none of this name.
        """
        if encounter not in self.number:
            hint = did_you_mean(encounter, self.number)
            raise UserError(f"there is no encounter {encounter!r}{hint}")
        return self.number[encounter]

    def title(self, individual: str) -> str:
        """Return what an individual is called now.

        Raises:
            UserError: the ranking has none of this name.
        """
        if individual not in self.columns:
            hint = did_you_mean(individual, self.columns)
            raise UserError(f"the ranking has no individual {individual!r}{hint}")
        return self.called[individual]

    def about(self, choice: Choice | None) -> About:
        """Return what a choice is, as answers have it."""
        if choice is None:
            return None
        return choice.individual if choice.encounter is None else self.position(choice.encounter)

    def choice(self, number: int, about: About, chance: float, answered: str = "") -> Choice:
        """Return a candidate of an encounter.

        Args:
            number: position of the encounter.
            about: an individual by a name that it has or had, or the position of another encounter.
            chance: that it is this one.
            answered: what the reviewer said of it before.
        """
        match = self._matches[number]
        if isinstance(about, int):
            other = self._matches[about]
            query, like = self._alike.get(
                (number, about), (match.annotations[0], other.annotations[0])
            )
            photographs = _first(like, other.annotations)
            name = other.encounter
            return Choice(name, None, name, chance, photographs, query, True, answered)
        column = self.columns[str(about)]
        title = self.titles[column]
        best = int(self.ranking.photograph[number, column])
        query = match.annotations[int(self.ranking.query[number, column])]
        own = self._photographs_of[title]
        own = sorted(own, key=lambda name: self._viewpoints[name] != self._viewpoints[query])
        like = self.ranking.photographs[best] if best >= 0 else ""
        if like not in own:  # as it was named otherwise since
            like = own[0]
        return Choice(title, title, None, chance, _first(like, own), query, best >= 0, answered)


def _first(name: str, names: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys([name, *names]))


def _views_of(viewpoints: Sequence[Sequence[str | None]]) -> np.ndarray:
    """Return from where encounters can be compared `[E, V]`, see :class:`Candidates`."""
    known = sorted({view for each in viewpoints for view in each if view}) or [""]
    from_anywhere = np.array([not each or not all(each) for each in viewpoints], bool)
    seen = np.array([[view in each for view in known] for each in viewpoints], bool)
    return seen.reshape(-1, len(known)) | from_anywhere[:, None]


def _pairs_of(
    groups: Mapping[str, Any] | None, encounter_of: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray, dict[tuple[int, int], tuple[str, str]]]:
    """Return pairs `[P, 2]`, their probabilities `[P]`, and of each the photographs most alike."""
    pairs: list[tuple[int, int]] = []
    chances: list[float] = []
    alike: dict[tuple[int, int], tuple[str, str]] = {}
    try:
        for _, _, chance, first, second in (groups or {}).get("pairs", []):
            # By their photographs: other names would be others' encounters, not asked this time.
            one, other = encounter_of.get(first, -1), encounter_of.get(second, -1)
            if min(one, other) < 0 or one == other or (one, other) in alike:
                continue
            pairs.append((one, other))
            chances.append(float(chance))
            alike[one, other], alike[other, one] = (first, second), (second, first)
    except (TypeError, ValueError) as error:
        raise FileError(
            f"groups.json is damaged: {error}; let openanimals discover write it again"
        ) from error
    return np.array(pairs, dtype=np.int64).reshape(-1, 2), np.array(chances), alike
