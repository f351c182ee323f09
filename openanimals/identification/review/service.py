"""What the review page asks of the program, as plain values: questions, answers, the catalogue.

All of it runs in one thread, which alone has the file of decisions open; so nothing needs a lock,
and a file that another program holds does not keep photographs from being shown.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from openanimals.data.catalogue import Catalogue
from openanimals.identification.catalogue_file import annotation_ids, as_catalogue
from openanimals.identification.decisions.evidence import Decision, Evidence
from openanimals.identification.decisions.individuals import Individuals, resolve_table
from openanimals.identification.listing import Listing, decisions_of
from openanimals.identification.matches import Match, Matches
from openanimals.identification.ranking import Ranking
from openanimals.identification.review.answers import Answer
from openanimals.identification.review.candidates import Choice
from openanimals.identification.review.questions import Question, Questions
from openanimals.utils.errors import UserError, naming
from openanimals.utils.files import expanded, read_json
from openanimals.utils.registry import did_you_mean

FILTERS = ("place", "viewpoint", "decision")
SHOWN = 60  # photographs of a candidate; the rest are counted
WAIT = 5.0  # seconds for another program to finish writing decisions
Plain = dict[str, Any]


class Service:
    """One reviewer's work on one catalogue.

    Args:
        catalogue: its file.
        matches: folder that ``openanimals identify`` has written.
        by: the reviewer.
        wait: seconds for another program to finish writing decisions.

    Raises:
        UserError: a file cannot be used.
    """

    def __init__(self, catalogue: str, matches: str, by: str, wait: float = WAIT) -> None:
        listing, folder = Listing.read(catalogue), expanded(matches)
        found, ranking = Matches.read(folder / "matches.json"), Ranking.read(folder)
        groups = _read_groups(folder / "groups.json")
        self.by, self._table = by, listing.table
        self.images: Catalogue = as_catalogue(*listing)
        self._ids = annotation_ids(listing.table)
        self._rows = {name: row for row, name in enumerate(self._ids)}
        self._facts = listing.table[["date", "camera", "viewpoint"]].fillna("").to_numpy(dtype=str)
        self.evidence = Evidence(decisions_of(catalogue), wait=wait)
        self._questions = Questions(found, ranking, groups, listing.table, self.evidence)
        self._found: tuple[int, Individuals] | None = None

    def options(self) -> dict[str, list[str]]:
        """Return the values that each filter may have."""
        values = {name: set[str]() for name in FILTERS}
        for match in self._questions.matches:
            for name in FILTERS:
                values[name] |= {*_values(match, name)}
        return {name: sorted(some - {""}) for name, some in values.items()}

    def next(
        self,
        only: Mapping[str, str] = {},
        everything: bool = False,
        besides: int | None = None,
    ) -> Plain:
        """Return the next question; no encounter in it if nothing is worth looking at.

        Args:
            only: the wanted value by name of a filter.
            everything: see :meth:`Questions.next`.
            besides: the position of an encounter that is not meant.
        """
        unwanted = None if besides is None else self._questions.matches[besides]

        def wanted(match: Match) -> bool:
            return match is not unwanted and all(
                value in _values(match, name) for name, value in only.items()
            )

        limit: Callable[[Match], bool] | None = wanted if only or unwanted else None
        question = self._questions.next(self.by, limit, everything=everything)
        return self._shown(question) if question else {"encounter": None}

    def question(
        self, encounter: int, individual: str = "", other: int | None = None, lineup: bool = False
    ) -> Plain:
        """Return a question that is asked on demand, beside a line-up if wanted."""
        name = self._name(encounter)
        if individual or other is not None:
            second = "" if other is None else self._name(other)
            choice = self._questions.choice(name, self.by, individual=individual, other=second)
        else:
            choice = self._questions.choices(name, self.by, count=1)[0]
        shown = self._questions.lineup(name, self.by) if lineup else ()
        return self._shown(Question(self._questions.matches[encounter], choice, 0.0, shown))

    def candidates(self, encounter: int, start: int, count: int) -> list[Plain]:
        """Return some candidates of an encounter, the most probable first."""
        name = self._name(encounter)
        return [
            self._choice(choice)
            for choice in self._questions.choices(name, self.by, max(start, 0), min(count, 50))
        ]

    def answer(
        self, encounter: int, individual: str, other: int | None, answer: str, note: str
    ) -> list[int]:
        """Decide; see :meth:`Questions.answer`."""
        name, choice = self._name(encounter), None
        if answer != "new":
            second = "" if other is None else self._name(other)
            choice = self._questions.choice(name, self.by, individual=individual, other=second)
        return self._questions.answer(name, choice, answer, self.by, note)

    def none_of(self, encounter: int, individuals: Sequence[str], note: str) -> list[int]:
        """Decide that it is none of a line-up; see :meth:`Questions.none_of`."""
        name = self._name(encounter)
        lineup = [
            self._questions.choice(name, self.by, individual=individual)
            for individual in individuals
        ]
        return self._questions.none_of(name, lineup, self.by, note)

    def undo(self) -> Plain:
        """Undo the last answer, and return the question that it was given to."""
        undone = self._questions.undo(self.by)
        if undone is None:
            return {"undone": None}
        told: Plain = {"undone": undone.answer}
        if undone.encounter is not None:
            individual = undone.about if isinstance(undone.about, str) else ""
            other = undone.about if isinstance(undone.about, int) else None
            if individual not in self._questions.candidates.columns:
                individual = ""
            told |= self.question(undone.encounter, individual, other, undone.lineup > 0)
        return told

    def progress(self) -> Plain:
        """Return how far the reviewer is, and where reviewers disagree."""
        found = self._questions.progress(self.by)
        disagreements = [
            {
                "encounter": each.encounter,
                "name": self._name(each.encounter),
                "answers": [self._answer(answer) for answer in each.answers],
            }
            for each in self._questions.disagreements()
        ]
        return {**vars(found), "disagreements": disagreements}

    def individuals(self, find: str, start: int, count: int) -> Plain:
        """Return the individuals of the catalogue as it is now, and what is in conflict.

        Args:
            find: letters that their names have.
            start: how many to leave out.
            count: how many to return.
        """
        found = self._resolved()
        counts = Counter(name for name in found.identity.values() if name)
        first: dict[str, int] = {}
        for annotation, name in found.identity.items():
            if name:
                first.setdefault(name, self._rows[annotation])
        names = sorted(name for name in counts if find.casefold() in name.casefold())
        some = names[max(start, 0) : max(start, 0) + min(count, 200)]
        return {
            "total": len(names),
            "unknown": sum(name is None for name in found.identity.values()),
            "individuals": [
                {"name": name, "count": counts[name], "photograph": self._photograph(first[name])}
                for name in some
            ],
            "conflicts": [
                {"text": str(each), "pair": each.pair, "decisions": each.decisions}
                for each in found.conflicts
            ],
        }

    def individual(self, name: str) -> Plain:
        """Return the photographs of an individual, and the decisions about it."""
        found = self._resolved()
        return {
            "name": found.names.get(name, name),
            "photographs": [self._photograph(self._rows[each]) for each in found.members(name)],
            "history": [_worded(each) for each in found.history_of(name)],
        }

    def decide(self, kind: str, first: str, second: str, rows: list[int]) -> list[int]:
        """Merge two names, rename one, split photographs off, or undo a decision.

        Args:
            kind: merge, rename, split or undo.
            first: the name, or the number of a decision.
            second: the other name, with merge and rename.
            rows: of the photographs that show another animal, with split.
        """
        if kind == "undo":
            return [self.evidence.undo(int(first), by=self.by)]
        found = self._resolved()
        names = found.names
        for name in {"merge": (first, second)}.get(kind, (first,)):
            if name not in names:
                raise UserError(f"there is no individual {name!r}{did_you_mean(name, names)}")
        if kind in ("merge", "rename"):
            return [self.evidence.decide(kind, first, second, by=self.by)]
        if kind != "split" or not rows:
            raise UserError(f"{kind}: expected merge, rename, undo, or split with photographs")
        chosen = [self._ids[row] for row in rows]
        if strangers := [each for each in chosen if found.identity[each] != names[first]]:
            raise UserError(f"{strangers[0]} is not {first} any more; look at the individual again")
        with self.evidence.transaction():
            numbers = [self.evidence.decide("split", each, first, by=self.by) for each in chosen]
            # Those that leave together are one animal.
            return numbers + [
                self.evidence.decide("same", chosen[0], each, by=self.by) for each in chosen[1:]
            ]

    def _resolved(self) -> Individuals:
        self._questions.refresh()
        last = self._questions.last
        if self._found is None or self._found[0] != last:
            self._found = last, resolve_table(self._table, self.evidence.decisions())
        return self._found[1]

    def _name(self, encounter: int) -> str:
        if not 0 <= encounter < len(self._questions.matches):
            raise UserError(f"there is no encounter {encounter}")
        return self._questions.matches[encounter].encounter

    def _shown(self, question: Question) -> Plain:
        match = question.encounter
        return {
            "encounter": {
                "number": self._questions.candidates.number[match.encounter],
                "name": match.encounter,
                "date": (match.date or "").replace("T", " "),
                "place": match.place or "",
                "decision": match.decision,
                "remark": match.remark,
                "photographs": [self._photograph(self._rows[name]) for name in match.annotations],
            },
            "choice": self._choice(question.choice),
            "lineup": [self._choice(choice) for choice in question.lineup],
        }

    def _choice(self, choice: Choice) -> Plain:
        number = self._questions.candidates.number
        return {
            "title": choice.title,
            "individual": choice.individual or "",
            "other": None if choice.encounter is None else number[choice.encounter],
            "probability": choice.probability,
            "comparable": choice.comparable,
            "answered": choice.answered,
            "query": self._rows[choice.query],
            "total": len(choice.photographs),
            "photographs": [
                self._photograph(self._rows[name])
                for name in choice.photographs[:SHOWN]
                if name in self._rows
            ],
        }

    def _photograph(self, row: int) -> Plain:
        date, place, viewpoint = self._facts[row]
        date = date.replace("T", " ")
        facts = {"date": date, "place": place, "viewpoint": viewpoint}
        return {"row": row, "name": self._ids[row], **facts}

    def _answer(self, answer: Answer) -> Plain:
        about = self._name(answer.about) if isinstance(answer.about, int) else answer.about or ""
        return {
            **{"by": answer.by, "when": answer.when, "answer": answer.answer, "about": about},
            **{"note": answer.note, "number": answer.numbers[0]},
        }


def _values(match: Match, name: str) -> tuple[str, ...]:
    if name == "viewpoint":
        return match.viewpoints
    return (cast("str | None", getattr(match, name)) or "",)


def _worded(decision: Decision) -> Plain:
    return {"number": decision.number, "text": str(decision), "undone": decision.undone_by}


def _read_groups(file: Path) -> Mapping[str, Any] | None:
    if not file.exists():
        return None
    with naming(file, "cannot be read"):
        return read_json(file, "encounters", "pairs")
