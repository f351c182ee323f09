"""Answers of reviewers, as decisions have them: what one press of a key has said.

Nothing but the decisions is kept, so an answer is what hangs together among them: the names of an
encounter's photographs, given in a row by one person; or "new" with the "same" of the others; or
one decision about two photographs. That none of a line-up is the same are several answers.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from openanimals.identification.decisions.evidence import SYMMETRIC, Decision

SECOND_LOOK = ", second look"  # after the name of a reviewer who is asked again
ANSWERS = ("same", "different", "incomparable", "skip", "new")

LATER = 10  # answers about two that must lie between both looks
IN_LINEUP = "{place} of {count} in a line-up"  # is added to the note

_IN_LINEUP = re.compile(IN_LINEUP.format(place=r"(\d+)", count=r"\d+") + "$")

About = str | int | None  # an individual, another encounter's position, or nothing in particular


@dataclass(frozen=True)
class Answer:
    """What somebody has said of an encounter.

    Attributes:
        encounter: its position; None where the decisions are about no encounter that was asked.
        about: the individual or the other encounter; None if it is said of the encounter alone.
        answer: of :data:`ANSWERS`; for what was not answered to a question, the decision's kind.
        by: who.
        when: ISO time in UTC.
        note: any text.
        numbers: of the decisions.
        holds: whether it is not undone.
    """

    encounter: int | None
    about: About
    answer: str
    by: str
    when: str
    note: str
    numbers: tuple[int, ...]
    holds: bool

    @property
    def lineup(self) -> int:
        """The first decision of the line-up that it was given to, with others; 0: it was alone."""
        found = _IN_LINEUP.search(self.note)
        return self.numbers[0] - int(found[1]) + 1 if found else 0

    @property
    def pair(self) -> tuple[int | None, About]:
        """What it is about, in one order for two encounters."""
        return pair_of(self.encounter, self.about)


def pair_of(encounter: int | None, about: About) -> tuple[int | None, About]:
    """Return an encounter and what it is compared with, in one order for two encounters."""
    if isinstance(about, int) and encounter is not None:
        return min(encounter, about), max(encounter, about)
    return encounter, about


def answers_of(
    decisions: Iterable[Decision],
    encounter_of: Mapping[str, int],
    individual_of: Mapping[str, str],
    called: Mapping[str, str],
) -> list[Answer]:
    """Return the answers that decisions are made of, in order; undos are not among them.

    Args:
        decisions: in order.
        encounter_of: the position of the encounter of each photograph that was asked about.
        individual_of: the individual of each known photograph.
        called: what an individual is called now, by any name that it has or had.
    """
    found: list[Answer] = []
    for decision in decisions:
        if decision.kind == "undo":
            continue
        answer = _alone(decision, encounter_of, individual_of, called)
        last = found[-1] if found else None
        if last is not None and _goes_on(last, answer):
            found[-1] = replace(
                last,
                numbers=(*last.numbers, decision.number),
                holds=last.holds or answer.holds,
            )
        else:
            found.append(answer)
    return found


def _alone(
    decision: Decision,
    encounter_of: Mapping[str, int],
    individual_of: Mapping[str, str],
    called: Mapping[str, str],
) -> Answer:
    """Return what one decision says."""
    encounter, about, kind = encounter_of.get(decision.first), decision.second, decision.kind
    answer: str = "same" if kind == "name" else kind
    place: About = None if about is None else called.get(about, about)
    if kind in SYMMETRIC and about is not None:
        place = encounter_of.get(about, individual_of.get(about))
        if encounter is None and isinstance(place, int):  # told of the known photograph first
            encounter, place = place, individual_of.get(decision.first)
        if place is None:  # a photograph that is no candidate
            encounter = None
    if kind in ("merge", "rename"):
        encounter = None
    holds = decision.undone_by is None
    by, when, note = decision.by, decision.when, decision.note
    return Answer(encounter, place, answer, by, when, note, (decision.number,), holds)


def _goes_on(last: Answer, one: Answer) -> bool:
    """Tell whether a decision belongs to the answer before it."""
    in_a_row = last.by == one.by and last.numbers[-1] + 1 == one.numbers[0]
    if not in_a_row or last.encounter is None or last.encounter != one.encounter:
        return False
    if one.answer == "same" and one.about == one.encounter:  # "new", of the other photographs
        return last.answer == "new"
    return (last.answer, last.about) == (one.answer, one.about) and isinstance(one.about, str)


def counted_once(answers: Iterable[Answer]) -> list[Answer]:
    """Return the answers, of those to a line-up only the first."""
    first: dict[int, Answer] = {}
    for each in answers:
        first.setdefault(each.lineup or each.numbers[0], each)
    return [*first.values()]


def due_again(
    given: Sequence[Answer], again: Collection[tuple[int | None, About]], every: int
) -> Answer | None:
    """Return the first answer that is due for a second look, if any.

    Args:
        given: all answers of a reviewer, undone ones too.
        again: the pairs of which the second look has an answer that holds.
        every: each so many-th answer about two is looked at again; 0: none.
    """
    paired = ("same", "different", "incomparable")
    given = [each for each in given if each.answer in paired and each.about is not None]
    given = counted_once(given)
    for each in given[every - 1 : -LATER : every] if every else ():
        # "New" is said of the encounter alone.
        seen = each.pair in again or (each.encounter, None) in again
        if each.holds and each.encounter is not None and not seen:
            return each
    return None


@dataclass(frozen=True)
class Disagreement:
    """Answers that cannot all be right.

    Attributes:
        encounter: the position of what they are about.
        answers: of two reviewers or more, the last of each.
    """

    encounter: int
    answers: tuple[Answer, ...]


def disagreements(answers: Sequence[Answer]) -> list[Disagreement]:
    """Return where reviewers said same and different of one pair, or gave one encounter two names.

    A second look of the same person counts as another reviewer.
    """
    verdicts: dict[object, dict[str, Answer]] = defaultdict(dict)
    for each in answers:
        if not each.holds or each.encounter is None:
            continue
        if each.answer in ("same", "different") and each.about is not None:
            verdicts[each.pair][each.by] = each
        if each.answer == "new" or (each.answer == "same" and isinstance(each.about, str)):
            verdicts["who", each.encounter][each.by] = each
    found: dict[tuple[int, ...], Disagreement] = {}
    for said in verdicts.values():
        given = [*said.values()]
        if len({(each.answer, each.pair[1]) for each in given}) > 1:
            numbers = tuple(sorted(each.numbers[0] for each in given))
            found.setdefault(numbers, Disagreement(given[0].encounter or 0, tuple(given)))
    return sorted(found.values(), key=lambda each: max(a.numbers[0] for a in each.answers))


def agreement(answers: Sequence[Answer], one: str, other: str | None = None) -> tuple[int, int]:
    """Return of how many pairs two reviewers said the same, and how many both answered.

    Args:
        answers: of all.
        one: a reviewer.
        other: another one; None: all others, second looks not among them.
    """
    counted = [each for each in answers if each.holds and each.answer != "skip"]
    mine = {each.pair: each.answer for each in counted if each.by == one}
    same = both = 0
    for each in counted:
        wanted = (
            each.by == other
            if other is not None
            else each.by != one and not each.by.endswith(SECOND_LOOK)
        )
        if wanted and each.pair in mine:
            both += 1
            same += mine[each.pair] == each.answer
    return same, both


@dataclass(frozen=True)
class Progress:
    """How far a reviewer is.

    Attributes:
        answered: how many answers there are of each kind.
        left: encounters of which something is worth asking.
        skipped: encounters that were put off.
        encounters: of all.
        again: of the second looks, how many agree with the first, and how many there are.
        others: the same of what other reviewers answered, too.
        reviewers: answers of each, second looks not among them.
    """

    answered: dict[str, int]
    left: int
    skipped: int
    encounters: int
    again: tuple[int, int]
    others: tuple[int, int]
    reviewers: dict[str, int]
