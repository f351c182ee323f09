"""What identification found: a proposal for each encounter, as tables and as a file to go on from.

The spreadsheets are made to be read by people, and filled in by them (column ``reviewed``);
``matches.json`` holds everything, and is read back by :meth:`Matches.read`.
"""

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from openanimals.identification.ranking import Ranking
from openanimals.identification.table_file import write_csv, write_xlsx
from openanimals.utils.errors import FileError, UserError, naming
from openanimals.utils.files import atomic_path, expanded, read_json, write_json

logger = logging.getLogger(__name__)

DECISIONS = ("unsure", "new", "known", "cannot tell")  # first what a person has to look at
NEW = "new"
LISTED = 5  # candidates that a table has
COLUMNS = (
    *("file", "encounter", "date", "place", "viewpoint"),
    *("proposed", "probability", "decision", "reviewed"),
    *(
        f"{name}_{n + 1}"
        for n in range(LISTED)
        for name in ("candidate", "probability", "photograph")
    ),
    *("new_probability", "remark", "model"),
)
NUMBERS = tuple(name for name in COLUMNS if "probability" in name)
HOW_TO_REVIEW = (
    "write into the column reviewed of matches.xlsx the right name, or: new (an animal that is not "
    "in the catalogue), ? (cannot be told), skip; what stays empty is not decided"
)
WIDTHS = {"file": 40, "remark": 30}


@dataclass(frozen=True)
class Candidate:
    """An individual of the catalogue that an encounter may show.

    Attributes:
        name: of the individual.
        probability: that it is this one, 0 to 1.
        photograph: annotation id of its photograph in the catalogue that matches best.
        query: annotation id of the encounter's photograph that this one matches best.
    """

    name: str
    probability: float
    photograph: str
    query: str


@dataclass(frozen=True)
class Match:
    """Who an encounter shows.

    Attributes:
        encounter: its name.
        annotations: ids of its photographs (of this animal in them), one or more.
        date: when, ``YYYY-MM-DD`` or ``YYYY-MM-DDTHH:MM:SS``; None where not known.
        place: where, such as the station; None where not known.
        viewpoints: one for each of ``annotations``, "" where not known.
        decision: one of :data:`DECISIONS`.
        proposed: the name; ``new``; "" where the decision is unsure or cannot tell.
        probability: of what is proposed, of the best candidate where the decision is unsure.
        new: the probability that the animal is not in the catalogue.
        candidates: the best first. With ``new``, the probabilities of all individuals make one;
            some of the last may be left out.
        remark: such as "no keypoint".
    """

    encounter: str
    annotations: tuple[str, ...]
    date: str | None
    place: str | None
    viewpoints: tuple[str, ...]
    decision: str
    proposed: str
    probability: float
    new: float
    candidates: tuple[Candidate, ...]
    remark: str = ""


@dataclass(frozen=True)
class Matches:
    """What one run of identification found, and what it was made with.

    Attributes:
        matches: one an encounter.
        fingerprint: of the model.
        matcher: its name.
        catalogue: the file of the catalogue.
        individuals: how many it has.
        wrong_names: the share of wrong names that was asked for, 0 to 1.
        thresholds: of the decisions, by name.
        rates: what calibration says that the decisions will have, by name.
        made: when, as ISO 8601.
        note: what else the reader should know.
        to_check: photographs of the catalogue that look like another individual, in words.
        ranking: of all individuals, in a file of its own; :meth:`read` leaves it there.
    """

    matches: list[Match] = field(repr=False)
    fingerprint: str
    matcher: str
    catalogue: str
    individuals: int
    wrong_names: float
    thresholds: dict[str, Any]
    rates: dict[str, Any]
    made: str
    note: str = ""
    to_check: list[str] = field(default_factory=list)
    ranking: Ranking | None = field(default=None, repr=False, compare=False)

    def counts(self) -> dict[str, int]:
        """Return the number of encounters of each decision, in the order of :data:`DECISIONS`."""
        found = [match.decision for match in self.matches]
        return {decision: found.count(decision) for decision in DECISIONS}

    def about(self) -> list[tuple[str, str]]:
        """Return what a reader should know of how this was made: labels, and texts."""
        lines = [
            ("made", self.made),
            ("catalogue", f"{self.catalogue}, {self.individuals} individuals"),
            ("matcher", self.matcher),
            ("model", self.fingerprint if self.fingerprint != self.matcher else ""),
            ("wrong names asked for", f"at most {self.wrong_names:.3g} of all encounters"),
            *((f"threshold: {name}", _worded(value)) for name, value in self.thresholds.items()),
            *((f"expected: {name}", _worded(value)) for name, value in self.rates.items()),
            ("encounters", ", ".join(f"{n} {name}" for name, n in self.counts().items())),
            ("note", self.note),
            *(("to check in the catalogue", line) for line in self.to_check),
            ("to correct", HOW_TO_REVIEW),
        ]
        return [(label, text) for label, text in lines if text]

    def table(self) -> pd.DataFrame:
        """Return one row a photograph, in the columns :data:`COLUMNS`.

        Returns:
            Text ("" where there is none) and, in :data:`NUMBERS`, floats (NaN where there is none).
        """
        rows = [row for match in self.matches for row in self._rows_of(match)]
        table = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
        texts = [name for name in COLUMNS if name not in NUMBERS]
        table[texts] = table[texts].where(table[texts].notna(), "")
        return table.astype({name: float for name in NUMBERS})

    def _rows_of(self, match: Match) -> list[dict[str, Any]]:
        shared = {
            name: getattr(match, name)
            for name in ("encounter", "date", "place", "proposed", "decision", "remark")
        }
        if match.decision != "cannot tell":
            shared |= {"probability": match.probability, "new_probability": match.new}
        for n, candidate in enumerate(match.candidates[:LISTED], 1):
            shared[f"candidate_{n}"] = candidate.name
            shared[f"probability_{n}"] = candidate.probability
            shared[f"photograph_{n}"] = candidate.photograph
        return [
            {**shared, "file": file, "viewpoint": viewpoint, "model": self.fingerprint}
            for file, viewpoint in zip(match.annotations, match.viewpoints, strict=True)
        ]

    def write(
        self,
        folder: str | os.PathLike[str],
        pages: "Callable[[Matches, Path], list[Path]] | None" = None,
    ) -> list[Path]:
        """Write ``matches.csv``, ``matches.xlsx``, ``matches.json``, the ranking, and pages.

        A spreadsheet of an earlier run that somebody has changed since is kept under another name.

        Args:
            folder: is made where it does not exist.
            pages: writes them, such as :func:`openanimals.identification.page.write_page`.

        Returns:
            The files.

        Raises:
            FileError: a file cannot be written, for instance because a spreadsheet has it open.
        """
        folder = expanded(folder)
        tables = [folder / "matches.csv", folder / "matches.xlsx"]
        _set_aside_changed(tables, folder / "matches.json")
        table = self.table()
        with atomic_path(tables[0]) as temporary:
            write_csv(temporary, table)
        with atomic_path(tables[1]) as temporary:
            names = sorted(self.ranking.names) if self.ranking else []
            write_xlsx(
                temporary,
                "matches",
                table,
                self.about(),
                widths=WIDTHS,
                to_fill="reviewed",
                choices=["new", "?", "skip", *names],
            )
        everything = asdict(replace(self, ranking=None))
        everything.pop("ranking")
        everything["written"] = {file.name: _digest(file) for file in tables}
        write_json(folder / "matches.json", everything)
        rankings = [self.ranking.save(folder)] if self.ranking else []
        others = pages(self, folder) if pages else []
        return [*tables, folder / "matches.json", *rankings, *others]

    @classmethod
    def read(cls, file: str | os.PathLike[str]) -> "Matches":
        """Read a ``matches.json``.

        Raises:
            FileError: there is none, or it is damaged.
        """
        names = [each.name for each in fields(cls) if each.name != "ranking"]
        with naming(file, "cannot be read"):
            content = read_json(expanded(file), *names)
        try:
            matches = [_read_match(entry) for entry in content["matches"]]
        except (KeyError, TypeError) as error:
            raise FileError(
                f"{file} is damaged, or of another version of OpenAnimals: {error}; "
                "let openanimals identify write it again"
            ) from error
        return cls(**{**{name: content[name] for name in names}, "matches": matches})


def _set_aside_changed(tables: list[Path], written: Path) -> None:
    """Rename tables that are not as they were written: somebody's work may be in them."""
    try:
        digests = read_json(written, "written")["written"]
    except (OSError, UserError):
        digests = {}
    for file in tables:
        with naming(file):
            if not file.exists() or _digest(file) == digests.get(file.name):
                continue
            changed = datetime.fromtimestamp(file.stat().st_mtime)
            kept = file.with_stem(f"{file.stem}-changed-{changed:%Y%m%d-%H%M%S}")
            file.replace(kept)
        logger.warning("%s was changed since it was written; it is kept as %s", file, kept.name)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _read_match(entry: dict[str, Any]) -> Match:
    tuples = {name: tuple(entry[name]) for name in ("annotations", "viewpoints")}
    candidates = tuple(Candidate(**candidate) for candidate in entry["candidates"])
    return Match(**{**entry, **tuples, "candidates": candidates})


def _worded(value: Any) -> str:
    if isinstance(value, float) and value > 1:
        return "none is high enough"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
