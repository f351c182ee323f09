"""What a reviewer is asked, in which order, and what an answer decides.

A question sets an encounter, all its photographs, beside one candidate: an individual of the
catalogue, or another encounter of an animal that nobody knew; or beside a line-up of individuals,
to say that it is none of them, or to look at one. What is asked next is worth most (see
``doubt.py``), to a reviewer by what this reviewer answered alone; what others said counts in the
catalogue, but is not shown. All state is in the decisions, so a program that was killed goes on
where it was.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from openanimals.identification.decisions.evidence import Decision, Evidence
from openanimals.identification.decisions.individuals import resolve_table
from openanimals.identification.decisions.reviewed import decide_who, decided_alone
from openanimals.identification.matches import Match, Matches
from openanimals.identification.ranking import Ranking
from openanimals.identification.review.answers import (
    ANSWERS,
    IN_LINEUP,
    SECOND_LOOK,
    About,
    Answer,
    Disagreement,
    Progress,
    agreement,
    answers_of,
    counted_once,
    disagreements,
    due_again,
    pair_of,
)
from openanimals.identification.review.candidates import Candidates, Choice
from openanimals.identification.review.doubt import WORTH
from openanimals.identification.review.reviewer import Reviewer, doubt_of, kept_under
from openanimals.utils.errors import UserError
from openanimals.utils.registry import did_you_mean

EVERY = 20  # each so many-th answer about two is asked again


@dataclass(frozen=True)
class Question:
    """An encounter beside a candidate.

    Attributes:
        encounter: that is asked about.
        choice: the candidate.
        worth: photographs that the answer is expected to mend, by what it costs to look.
        lineup: if several are shown at once, all of them, the most probable first.
    """

    encounter: Match
    choice: Choice
    worth: float
    lineup: tuple[Choice, ...] = ()


class Questions:
    """All that may be asked about the encounters of an identification.

    Args:
        matches: what was found.
        ranking: of the same run.
        groups: what ``openanimals discover`` has written; None: unknown animals are not compared.
        table: the catalogue, with all photographs of the encounters.
        evidence: the decisions about it. Other processes may add to them.
        every: each so many-th answer about two is asked again, blindly; 0: none.

    Attributes:
        answers: of all reviewers, in order, undone ones too.
        last: number of the last decision that was taken in.

    Raises:
        UserError: photographs are not in the catalogue, or the files are not of one run.

    Example:
        >>> questions = Questions(matches, Ranking.read("matches"), None, table, evidence)
        >>> while (asked := questions.next("Ada")) is not None:
        ...     questions.answer(asked.encounter.encounter, asked.choice, look(asked), "Ada")
    """

    def __init__(
        self,
        matches: Matches,
        ranking: Ranking,
        groups: Mapping[str, Any] | None,
        table: pd.DataFrame,
        evidence: Evidence,
        *,
        every: int = EVERY,
    ) -> None:
        self.matches, self.evidence, self._every = matches.matches, evidence, every
        decisions = evidence.decisions()
        found = resolve_table(table, decisions)
        self.candidates = Candidates(matches, ranking, groups, table, found)
        self._nothing_seen = np.array([m.decision == "cannot tell" for m in self.matches], bool)
        self._untouched = doubt_of(self.candidates, self.matches)
        self.answers: list[Answer] = []
        self._reviewers: dict[str, Reviewer] = {}
        self.last = 0
        self._take(decisions)

    def next(
        self,
        by: str,
        only: Callable[[Match], bool] | None = None,
        *,
        everything: bool = False,
    ) -> Question | None:
        """Return what a reviewer should be asked now; None if nothing is worth looking at.

        Args:
            by: the reviewer.
            only: about which encounters.
            everything: also what hardly anybody doubts, and what was skipped.
        """
        self.refresh()
        wanted = np.ones(len(self.matches), dtype=bool)
        if only is not None:
            wanted = np.array([only(match) for match in self.matches], dtype=bool)
        again = self._second_look(by)
        if again is not None and again.encounter is not None and wanted[again.encounter]:
            return self._question(again.encounter, again.about, by + SECOND_LOOK)
        own = self._own(by)
        worths = worth, of_lineups, of_pairs = own.worth(wanted & ~self._nothing_seen)
        best, many, pair = (int(each.argmax()) if len(each) else -1 for each in worths)
        if pair >= 0 and of_pairs[pair] > max(WORTH, worth[best], of_lineups[many]):
            return self._question(*own.doubt.most_alike(pair), by, float(of_pairs[pair]))
        if many >= 0 and of_lineups[many] > max(WORTH, worth[best]):
            lineup = self.lineup(self.matches[many].encounter, by)
            return Question(self.matches[many], lineup[0], float(of_lineups[many]), lineup)
        if best >= 0 and worth[best] >= WORTH:
            return self._about_individual(best, by, float(worth[best]))
        left = np.flatnonzero(wanted & (own.doubt.asks >= 0))
        if not everything or not len(left):
            return None
        # What was skipped comes last, the longest ago first.
        skipped = np.array([own.doubt.put_off.get(each, 0) for each in left.tolist()])
        worth, *_ = own.doubt.worth(wanted)
        first = int(left[np.lexsort((-worth[left], self._nothing_seen[left], skipped))[0]])
        return self._about_individual(first, by, float(worth[first]))

    def choices(
        self, encounter: str, by: str, start: int = 0, count: int | None = None
    ) -> list[Choice]:
        """Return candidates in order of probability: all individuals, and unknown encounters.

        Args:
            encounter: its name.
            by: the reviewer, whose answers count.
            start: how many to leave out.
            count: how many to return; None: all.
        """
        self.refresh()
        number, doubt = self.candidates.position(encounter), self._own(by).doubt
        chances, _ = doubt.probabilities(np.array([number]))
        of_groups: dict[int, tuple[float, int]] = {}  # of each the encounter that is most like
        for like, chance in doubt.like(number):
            group = int(doubt.component[like])
            if group != doubt.component[number]:
                of_groups.setdefault(group, (chance, like))
        everyone: list[tuple[float, About]] = [
            *zip(chances[0].tolist(), self.candidates.titles, strict=True),
            *of_groups.values(),
        ]
        order = np.argsort([-chance for chance, _ in everyone], kind="stable")
        some = order[start : None if count is None else start + count]
        return [self._choice(number, everyone[n][1], by, everyone[n][0]) for n in some]

    def lineup(self, encounter: str, by: str) -> tuple[Choice, ...]:
        """Return the individuals to be shown at once, the most probable first.

        Those that the reviewer has ruled out, or that cannot be compared, are not among them.
        """
        self.refresh()
        number, titles = self.candidates.position(encounter), self.candidates.titles
        shown = self._own(by).doubt.lineup(number)
        return tuple(self._choice(number, titles[k], by, chance) for k, chance in shown)

    def choice(self, encounter: str, by: str, *, individual: str = "", other: str = "") -> Choice:
        """Return one candidate: an individual by its name, or another encounter.

        Raises:
            UserError: there is no such encounter or individual.
        """
        self.refresh()
        number = self.candidates.position(encounter)
        if other:
            return self._choice(number, self.candidates.position(other), by)
        return self._choice(number, self.candidates.title(individual), by)

    def answer(
        self, encounter: str, choice: Choice | None, answer: str, by: str, note: str = ""
    ) -> list[int]:
        """Decide what an answer says, all of it or nothing; the reviewer's earlier one is undone.

        The same answer again changes nothing.

        Args:
            encounter: the name of the one that was asked about.
            choice: the candidate; None with the answer ``new``, for which it does not count.
            answer: same, different, incomparable, skip or new.
            by: the reviewer. A second look is kept under another name.
            note: any text.

        Returns:
            The numbers of the decisions.

        Raises:
            UserError: there is no such encounter or answer.
            FileError: the decisions cannot be written.
        """
        number = self.candidates.position(encounter)
        if answer not in ANSWERS or (choice is None and answer != "new"):
            hint = did_you_mean(answer, ANSWERS)
            raise UserError(f"there is no answer {answer!r}{hint}; there are {', '.join(ANSWERS)}")
        about = None if answer == "new" else self.candidates.about(choice)
        pair = pair_of(number, about)
        with self.evidence.transaction():
            self.refresh()
            looks = self._own(by), self._own(by + SECOND_LOOK)
            by = kept_under(by, *looks, self._second_look(by), pair, answer)
            own = self._own(by)
            earlier = [each for each in own.answers if each.holds and each.pair == pair]
            for last in own.answers[-1:]:
                if last in earlier and last.answer == answer == "skip":  # sent twice
                    return [*last.numbers]
            # A second skip is a new one, so that others come before it.
            changed = [each for each in earlier if each.answer != answer or answer == "skip"]
            for undone in (decision for each in changed for decision in each.numbers):
                self.evidence.undo(undone, by=by)
            if choice is None or answer == "new" or (answer == "same" and choice.individual):
                kind, name = ("new", None) if about is None else ("name", str(about))
                before, some = own.alone, self.matches[number].annotations
                return decide_who(self.evidence, before, kind, name, some, by=by, note=note)
            two = choice.query, choice.photographs[0]
            return [self.evidence.decide(answer, *two, by=by, note=note)]

    def none_of(
        self, encounter: str, choices: Sequence[Choice], by: str, note: str = ""
    ) -> list[int]:
        """Decide that an encounter is different from all of a line-up, see :meth:`answer`."""
        number = self.candidates.position(encounter)
        with self.evidence.transaction():
            self.refresh()
            before, some, numbers = self._own(by).said, list[Choice](), list[int]()
            for choice in choices:
                earlier = before.get(pair_of(number, self.candidates.about(choice)))
                if earlier is None or earlier.answer != "different":
                    some.append(choice)
                    for undone in earlier.numbers if earlier else ():
                        self.evidence.undo(undone, by=by)
            for place, choice in enumerate(some, start=1):
                own = f"{note} {IN_LINEUP.format(place=place, count=len(some))}".strip()
                two = choice.query, choice.photographs[0]
                numbers.append(self.evidence.decide("different", *two, by=by, note=own))
        return numbers

    def undo(self, by: str) -> Answer | None:
        """Undo the last answer of a reviewer that holds, with all its decisions, and return it.

        All answers to a line-up are undone, and the first of them is returned.
        """
        with self.evidence.transaction():
            self.refresh()
            names = (by, by + SECOND_LOOK)
            own = [each for each in self.answers if each.by in names and each.holds]
            if not own:
                return None
            last = max(own, key=lambda each: each.numbers[-1])
            undone = [each for each in own if last.lineup and each.lineup == last.lineup] or [last]
            for number in (number for each in undone for number in each.numbers):
                self.evidence.undo(number, by=last.by)
        return undone[0]

    def progress(self, by: str) -> Progress:
        """Return how far a reviewer is."""
        self.refresh()
        own = self._own(by)
        about = [each for each in self.answers if each.holds and each.encounter is not None]
        given = counted_once(about)
        return Progress(
            answered=Counter(each.answer for each in given if each.by == by),
            left=own.left(~self._nothing_seen, self.candidates.pairs),
            skipped=len(own.doubt.put_off),
            encounters=len(self.matches),
            again=agreement(about, by, by + SECOND_LOOK),
            others=agreement(about, by),
            reviewers=Counter(each.by for each in given if not each.by.endswith(SECOND_LOOK)),
        )

    def disagreements(self) -> list[Disagreement]:
        """Return answers that cannot all be right, by two reviewers or a second look."""
        self.refresh()
        return disagreements(self.answers)

    def refresh(self) -> None:
        """Take in what was decided since, by whichever process."""
        fresh = self.evidence.decisions(after=self.last)
        if any(each.kind == "undo" for each in fresh):
            self.answers, self._reviewers = [], {}
            fresh = self.evidence.decisions()
        self._take(fresh)

    def _take(self, decisions: list[Decision]) -> None:
        if not decisions:
            return
        own = self.candidates
        answers = answers_of(decisions, own.encounter_of, own.individual_of, own.called)
        for by, each in self._reviewers.items():
            each.take([a for a in answers if a.by == by], decided_alone(decisions, by))
        self.answers += answers
        self.last = decisions[-1].number

    def _own(self, by: str) -> Reviewer:
        """Return what a reviewer has decided."""
        if by not in self._reviewers:
            own = self._reviewers[by] = Reviewer(self._untouched.copy())
            given = [each for each in self.answers if each.by == by]
            own.take(given, decided_alone(self.evidence.decisions(), by))
        return self._reviewers[by]

    def _second_look(self, by: str) -> Answer | None:
        """Return the answer that a reviewer should be asked for again now."""
        return due_again(self._own(by).answers, self._own(by + SECOND_LOOK).said, self._every)

    def _about_individual(self, number: int, by: str, worth: float) -> Question:
        title = self.candidates.titles[self._own(by).doubt.asks[number]]
        return self._question(number, title, by, worth)

    def _question(self, number: int, about: About, by: str, worth: float = 0.0) -> Question:
        return Question(self.matches[number], self._choice(number, about, by), worth)

    def _choice(self, number: int, about: About, by: str, chance: float | None = None) -> Choice:
        own = self._own(by)
        if chance is None and isinstance(about, int):
            chance = dict(own.doubt.like(number)).get(about, 0.0)
        elif chance is None:
            chances, _ = own.doubt.probabilities(np.array([number]))
            chance = float(chances[0, self.candidates.columns[str(about)]])
        said = own.said.get(pair_of(number, about))
        return self.candidates.choice(number, about, chance, said.answer if said else "")
