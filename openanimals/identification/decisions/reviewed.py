"""A spreadsheet of matches that a person has corrected, as decisions.

Spreadsheet programs change what they open: they take zeros off names, make dates of them, and sort
one column without the others. What looks like it is told, or refused, never taken silently.
"""

import difflib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from openanimals.data.names import is_nobody
from openanimals.identification.decisions.evidence import Decision, Evidence
from openanimals.identification.table_file import read_cells, refuse, some
from openanimals.utils.errors import UserError
from openanimals.utils.registry import did_you_mean

COLUMNS = ("file", "encounter", "reviewed")
ANSWERS = {"new": "new", "skip": "skip", "?": "incomparable"}  # what is no name
NEAR, NEAR_WORD = 0.75, 0.6  # of difflib, from which a name, or new or skip, may be misspelt
MONTHS = (
    "jan|feb|f[eé]v|mar|mär|mrz|a[pvb]r|ma[iyo]|jun|juin|jul|juil|aug|ago|ao[uû]|sep|set|o[ck]t|out"
    "|nov|de[czs]|d[eé]c|dic|ene"
)
DATE = re.compile(
    rf"\d{{1,4}}[-/.]\s?\d{{1,2}}[-/.]\s?(\d{{1,4}}([T\s].*)?)?"
    rf"|\d{{1,2}}[-/. ]+({MONTHS})[a-z]{{0,6}}\.?([-/. ]*\d+)?|({MONTHS})[a-z]{{0,6}}\.?[-/. ]+\d+"
    r"|\d\d:\d\d(:\d\d.*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Reviewed:
    """What the column ``reviewed`` of a spreadsheet says.

    Attributes:
        answers: kind of decision (name, new, skip, incomparable), name (None but of kind name) and
            annotation ids of each encounter that has an answer.
        told: what the person should hear: names that were mended, new ones, rows that are gone.
        listed: annotation ids that have a row.
    """

    answers: list[tuple[str, str | None, list[str]]]
    told: list[str]
    listed: frozenset[str] = frozenset()


def read_reviewed(
    file: str | os.PathLike[str],
    names: Iterable[str],
    encounters: Mapping[str, str] = {},
    *,
    new_names: Collection[str] = (),
) -> Reviewed:
    """Read a ``matches.csv`` or ``matches.xlsx`` whose column ``reviewed`` is filled in.

    An answer is a name, ``new`` (an animal that nobody knew), ``skip`` or ``?`` (nobody can tell),
    and holds for all photographs of its encounter, in whichever of its rows it stands. Rows may be
    in any order. An empty one is no answer.

    Args:
        file: the spreadsheet.
        names: of all known individuals.
        encounters: of every annotation id, as they were when the matches were written, so that
            rows that are gone and columns that were sorted alone are noticed; empty: not known.
        new_names: names that are right though they are near a known one.

    Raises:
        UserError: answers that cannot be taken, with their lines: nearly a known name, a date, a
            number that two names could be, two answers for one encounter.
    """
    header, lines = read_cells(file)
    folded = [name.casefold() for name in header]
    absent = [
        f"no column {name!r}{did_you_mean(name, folded)}; expected a table of matches with the "
        f"columns {', '.join(COLUMNS)}"
        for name in COLUMNS
        if name not in folded
    ]
    refuse(file, absent)
    known = _Names(names, new_names)
    problems: list[str] = []
    found: dict[str, list[tuple[int, str, str | None]]] = defaultdict(list)  # answers by encounter
    annotations: dict[str, list[str]] = defaultdict(list)
    others = {*encounters.values()}
    for line, cells in lines:
        annotation, encounter, answer = (cells[folded.index(name)] for name in COLUMNS)
        if encounters:
            annotation = annotation if annotation in encounters else _bare(annotation)
            told = encounters.get(annotation)
            if told is None:
                near = did_you_mean(annotation, encounters)
                problems.append(f"line {line} has file {annotation!r}, which was not asked{near}")
                continue
            if encounter != told and encounter in others:
                problems.append(
                    f"line {line} has encounter {encounter!r}, but {annotation} is of {told!r}; "
                    "was one column sorted without the others?"
                )
            encounter = told
        encounter = encounter or annotation
        if annotation not in annotations[encounter]:
            annotations[encounter].append(annotation)
        if answer:
            try:
                found[encounter].append((line, *known.understand(line, answer)))
            except UserError as error:
                problems.append(f"line {line} has {error}")
    problems += [
        f"lines {given[0][0]} and {other[0]} are both of encounter {encounter!r}, but say "
        f"{given[0][2] or given[0][1]!r} and {other[2] or other[1]!r}"
        for encounter, given in found.items()
        for other in given[1:]
        if other[1:] != given[0][1:]
    ]
    refuse(file, problems)
    gone = [one for one, own in encounters.items() if one not in annotations[own]]
    if gone:
        known.told[""] = (
            f"{len(gone)} photographs are not in {file} any more, nothing is decided about them: "
            f"{some(gone)}"
        )
    answers = [
        (*given[0][1:], sorted(annotations[encounter])) for encounter, given in found.items()
    ]
    listed = frozenset(annotation for some in annotations.values() for annotation in some)
    return Reviewed(answers, [*known.told.values()], listed)


def apply_reviewed(reviewed: Reviewed, evidence: Evidence, *, by: str) -> list[int]:
    """Add the answers of a spreadsheet as decisions, all of them or none.

    What the same person answered about the same photographs before is undone where the answer is
    another now, so a spreadsheet may be corrected and applied again. Photographs of an encounter
    that is ``new`` are the same.

    Returns:
        The numbers of the decisions that the answers are now, undos not among them.
    """
    numbers = []
    with evidence.transaction():
        before = decided_alone(evidence.decisions(), by)
        for kind, name, annotations in reviewed.answers:
            numbers += decide_who(evidence, before, kind, name, annotations, by=by)
    return numbers


def decided_alone(decisions: Iterable[Decision], by: str) -> dict[str, list[Decision]]:
    """Return what a person decided about photographs alone, and holds, by annotation id."""
    before: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        alone = decision.kind in ANSWERS.values() and decision.second is None
        own = decision.by == by and decision.undone_by is None
        if own and (alone or decision.kind == "name"):
            before[decision.first].append(decision)
    return before


def decide_who(
    evidence: Evidence,
    before: Mapping[str, Sequence[Decision]],
    kind: str,
    name: str | None,
    annotations: Sequence[str],
    *,
    by: str,
    note: str = "",
) -> list[int]:
    """Decide who the photographs of one encounter show, and undo what was decided otherwise.

    Args:
        evidence: the decisions, in a transaction.
        before: see :func:`decided_alone`.
        kind: name, new (then all photographs are the same), skip or incomparable.
        name: with the kind name.
        annotations: of the encounter.
        by: who decides.
        note: any text.

    Returns:
        The numbers of the decisions that hold, undos not among them.
    """
    numbers = []
    # A second time, "new" is the same new one, whichever photograph it was said of.
    again = [
        d.first for each in annotations for d in before.get(each, ()) if d.kind == kind == "new"
    ]
    first = again[0] if again else annotations[0]
    for annotation in annotations:
        for earlier in before.get(annotation, ()):
            kept = (earlier.kind, earlier.second) == (kind, name)
            if not kept or (kind == "new" and annotation != first):
                evidence.undo(earlier.number, by=by)
    for annotation in sorted(annotations, key=lambda each: each != first):
        if kind != "new" or annotation == first:
            numbers.append(evidence.decide(kind, annotation, name, by=by, note=note))
        else:
            numbers.append(evidence.decide("same", first, annotation, by=by, note=note))
    return numbers


class _Names:
    """The known individuals, and what a person may have meant by an answer.

    Attributes:
        told: what was mended, or is a new individual, by answer.
    """

    def __init__(self, names: Iterable[str], new_names: Collection[str]) -> None:
        self.names = [*dict.fromkeys(names)]
        self.new_names = new_names
        self.told: dict[str, str] = {}
        self.new: list[str] = []  # that the spreadsheet brings
        self.by_number: dict[Decimal, list[str]] = defaultdict(list)
        for name in self.names:
            if (number := _number(name)) is not None:
                self.by_number[number].append(name)

    def understand(self, line: int, answer: str) -> tuple[str, str | None]:
        """Return the kind of decision and the name, None but of kind name.

        Raises:
            UserError: it could be another one; the text goes on after "line 3 has".
        """
        if answer not in self.names:
            answer = _bare(answer)
        word = answer.casefold()
        if word in ANSWERS:
            if word in map(str.casefold, self.names):
                raise UserError(f"{answer!r}, but an individual is called so; rename it")
            return ANSWERS[word], None
        number = _number(answer)
        equal = self.by_number.get(number, []) if number is not None else []
        # Spreadsheets write no zeros, so what still has them is as it was.
        whole = answer in self.names and answer.replace(",", ".") != f"{number or 0:f}"
        if len(equal) > 1 and not whole:
            raise UserError(
                f"{answer!r}, which could be {' or '.join(equal)}, as spreadsheets take zeros off"
            )
        if answer in (*self.names, *self.new_names, *self.new):
            return "name", answer
        equal = equal or [name for name in self.names if _composed(name) == _composed(answer)]
        if equal:
            self.told[answer] = f"line {line}: {answer} is taken for {equal[0]}, the only such name"
            return "name", equal[0]
        self._check_new(answer)
        self.new.append(answer)
        self.told[answer] = f"line {line}: {answer} is a new individual, not known until now"
        return "name", answer

    def _check_new(self, answer: str) -> None:
        if DATE.fullmatch(answer):
            numbers = {int(part) % 100 for part in re.findall(r"\d+", answer)}
            meant = [n for n in self.names if _parts(n) and _parts(n) <= numbers]
            hint = f" (perhaps {' or '.join(meant[:3])})" if meant else ""
            raise UserError(
                f"the date {answer!r}{hint}; if a spreadsheet made it of a name, write the name "
                "into a cell of the format Text"
            )
        if re.fullmatch(r"\d+([.,]\d+)?e[+-]?\d+|\d{15,}", answer, re.IGNORECASE):
            raise UserError(f"the number {answer!r}, whose digits a spreadsheet may have rounded")
        if re.fullmatch(r"#[^a-z]*[!?A/]", answer):
            raise UserError(f"{answer!r}, an error of a formula; write the name itself")
        if is_nobody(answer):
            raise UserError(f"{answer!r}; write ? where nobody can tell, or new")
        if re.fullmatch(r"new-\d+b*", answer):
            raise UserError(f"{answer!r}, and there is no such new individual")
        # A12 and A13 are near as texts, yet two names.
        alike = [name for name in (*self.names, *self.new) if _digits(name) == _digits(answer)]
        near = _nearest(answer, alike, NEAR) or _nearest(answer, ANSWERS, NEAR_WORD)
        if near is not None:
            raise UserError(
                f"{answer!r}; did you mean {near!r}? If it is a new individual, say so "
                "(new_names, --new-name)"
            )


def _nearest(answer: str, names: Iterable[str], cutoff: float) -> str | None:
    folded = {re.sub(r"[\W_]+", "", _composed(name).casefold()): name for name in names}
    bare = re.sub(r"[\W_]+", "", _composed(answer).casefold())
    close = difflib.get_close_matches(bare, folded, n=1, cutoff=cutoff)
    return folded[close[0]] if close else None


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _digits(name: str) -> list[str]:
    return [number.lstrip("0") for number in re.findall(r"\d+", name)]


def _number(text: str) -> Decimal | None:
    """Return what a spreadsheet takes a text for, None where it is no number."""
    if not re.fullmatch(r"\d+([.,]\d+)?(e[+-]?\d{1,3})?", text, re.ASCII | re.IGNORECASE):
        return None
    return Decimal(text.replace(",", "."))


def _parts(name: str) -> set[int]:
    """Return the two or three numbers of a name like 3-1; no numbers of any other."""
    if not re.fullmatch(r"\d{1,4}([-/. ]\d{1,4}){1,2}", name):
        return set()
    return {int(part) % 100 for part in re.findall(r"\d+", name)}


def _bare(text: str) -> str:
    """Return a text without the quote by which a spreadsheet is told that it is text."""
    return text[1:].strip() if text.startswith("'") else text
