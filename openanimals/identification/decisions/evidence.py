"""What people decided about who is who: an SQLite file to which decisions are only ever added."""

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from openanimals.utils.errors import FileError, UserError
from openanimals.utils.files import expanded
from openanimals.utils.registry import did_you_mean

KINDS = {
    "same": ("photograph", "photograph"),
    "different": ("photograph", "photograph"),
    "incomparable": ("photograph", "photograph or nothing"),
    "skip": ("photograph", "photograph or nothing"),
    "new": ("photograph", ""),
    "name": ("photograph", "name"),
    "split": ("photograph", "name"),
    "merge": ("name", "name"),
    "rename": ("name", "name"),
}
"""What each kind of decision is about: its ``first`` and its ``second``."""
SYMMETRIC = ("same", "different", "incomparable", "skip")
FORMAT = 1  # of the file, its user_version
TABLE = (
    "CREATE TABLE IF NOT EXISTS decisions (number INTEGER PRIMARY KEY AUTOINCREMENT,"
    " kind TEXT NOT NULL, first TEXT NOT NULL, second TEXT,"
    " who TEXT NOT NULL, moment TEXT NOT NULL, note TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS named ON decisions (first)",
    f"PRAGMA user_version = {FORMAT}",
)
WAIT = 30.0  # seconds for another process to finish writing


@dataclass(frozen=True)
class Decision:
    """One line of what was decided.

    Attributes:
        number: counts from 1, in the order in which they were decided.
        kind: of :data:`KINDS`, or ``undo``, whose ``first`` is the number that it undoes.
        first: an annotation id, or an individual's name (see :data:`KINDS`).
        second: the same, or None.
        by: who decided.
        when: ISO time in UTC.
        note: any text.
        undone_by: number of the undo that holds, None where the decision itself holds.
    """

    number: int
    kind: str
    first: str
    second: str | None
    by: str
    when: str
    note: str
    undone_by: int | None = None

    def __str__(self) -> str:
        second = "" if self.second is None else f" {self.second}"
        undone = "" if self.undone_by is None else f" (undone by {self.undone_by})"
        return f"{self.number} {self.when} {self.by}: {self.kind} {self.first}{second}{undone}"


class Evidence:
    """The decisions about one catalogue, in a file beside it (``<catalogue>.decisions.sqlite``).

    A decision is on the disk when :meth:`decide` returns. Several processes may use the file at
    once. Nothing is removed or changed, an undo is a decision too.

    Args:
        file: is opened, or created in a folder that exists. On a local disk: SQLite's write-ahead
            log does not work over a network.
        wait: seconds for another process to finish writing.

    Example:
        >>> with Evidence("catalogue.csv.decisions.sqlite") as evidence:
        ...     number = evidence.decide("same", "a.jpg", "b.jpg", by="Ada")
        ...     evidence.undo(number, by="Ada")

    Raises:
        UserError: the file is something else, is damaged, or is of a later version.
        FileError: it cannot be opened.
    """

    def __init__(self, file: str | os.PathLike[str], wait: float = WAIT) -> None:
        self.file, self._wait = expanded(file), wait
        with self._naming():
            # Without isolation_level, transactions begin where we say so.
            self._connection = sqlite3.connect(self.file, timeout=wait, isolation_level=None)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        with self._naming():
            # Before anything is written: it might be a file of another program.
            if not self._is_ours():
                with self.transaction():  # another process may make it so just now, too
                    for statement in TABLE:
                        self._connection.execute(statement)
            self._write_ahead()
            self._connection.execute("PRAGMA synchronous = FULL")  # each decision to the disk

    def _write_ahead(self) -> None:
        """Switch to SQLite's write-ahead log; for this it does not wait for others by itself."""
        until = time.monotonic() + self._wait
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def _is_ours(self) -> bool:
        """Tell whether the file has our table; False if it is empty, an error if it is another."""
        (found,) = self._connection.execute("PRAGMA quick_check").fetchone()
        tables = {name for (name,) in self._connection.execute("SELECT name FROM sqlite_master")}
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if found != "ok":
            raise UserError(f"{self.file} is damaged: {found}; take the copy of your last backup")
        if tables and ("decisions" not in tables or not version):
            raise UserError(f"{self.file} is another program's SQLite file; expected decisions")
        if version > FORMAT:
            raise UserError(
                f"{self.file} was written by a later version of OpenAnimals (format {version}, "
                f"expected {FORMAT}); update with pip install --upgrade openanimals"
            )
        return bool(tables)

    def close(self) -> None:
        """Close the file; what was decided is in it already."""
        self._connection.close()

    def __enter__(self) -> "Evidence":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        """Take all decisions of the block, or none if it raises or the process dies.

        Other processes wait as long, so the block should be short.

        Args:
            kind: ``IMMEDIATE``, or ``DEFERRED`` for a block that only reads.
        """
        if self._connection.in_transaction:  # part of a larger block
            yield
            return
        with self._naming():
            self._connection.execute(f"BEGIN {kind}")
        try:
            yield
            with self._naming():
                self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk has ended it already
                self._connection.execute("ROLLBACK")
            raise

    def decide(
        self, kind: str, first: str, second: str | None = None, *, by: str, note: str = ""
    ) -> int:
        """Add a decision, unless the same person decided the same already.

        ==================  =================================================================
        same a b            two annotations show one animal
        different a b       they do not
        incomparable a [b]  nobody can tell (of one: who it is)
        skip a [b]          not decided now
        new a               is none of the individuals known so far
        name a NAME         is that individual, known or not
        split a NAME        is not that individual: what was said before of ``a`` no longer holds
        merge A B           two individuals are one, which is called A
        rename A B          the individual A is called B from now on
        ==================  =================================================================

        Returns:
            The decision's number: the earlier one's if the same still holds.

        Raises:
            UserError: there is no such kind, or it is not about such things.
            FileError: the file cannot be written, for instance as the disk is full.
        """
        _check(kind, first, second)
        _check_texts(by, first, second or "", note)
        turned = (second, first) if kind in SYMMETRIC and second is not None else (first, second)
        with self.transaction(), self._naming():
            undone = self._undone()
            earlier = self._connection.execute(
                "SELECT number FROM decisions WHERE kind = ? AND who = ?"
                " AND (first = ? AND second IS ? OR first = ? AND second IS ?) ORDER BY number",
                (kind, by, first, second, *turned),
            )
            hold = [number for (number,) in earlier if number not in undone]
            return hold[0] if hold else self._add(kind, first, second, by, note)

    def undo(self, number: int, *, by: str) -> int:
        """Let a decision no longer hold; to undo an undo lets it hold again.

        Returns:
            The number of the undo: the earlier one's if it is undone already.

        Raises:
            UserError: there is no decision of this number.
            FileError: as :meth:`decide`.
        """
        _check_texts(by)
        with self.transaction(), self._naming():
            last = self._connection.execute("SELECT MAX(number) FROM decisions").fetchone()[0] or 0
            if not 1 <= number <= last:
                among = f"they go from 1 to {last}" if last else "there is none yet"
                raise UserError(f"{self.file} has no decision {number}; {among}")
            undone = self._undone()
            return undone.get(number) or self._add("undo", str(number), None, by, "")

    def decisions(self, after: int = 0) -> list[Decision]:
        """Return decisions after a number, undone ones and the undos among them, in order."""
        with self.transaction("DEFERRED"), self._naming():  # both are read at one moment
            found = self._connection.execute(
                "SELECT * FROM decisions WHERE number > ? ORDER BY number", (after,)
            )
            lines: list[tuple[Any, ...]] = found.fetchall()
            undone = self._undone()
        return [Decision(*[*line, undone.get(line[0])]) for line in lines]

    def _undone(self) -> dict[int, int]:
        """Return by decision that does not hold the undo that it is undone by."""
        undone: dict[int, int] = {}
        found = self._connection.execute(
            "SELECT number, first FROM decisions WHERE kind = 'undo' ORDER BY number DESC"
        )
        for number, first in found:  # the last first: only a later one can undo an undo
            if number not in undone:
                undone[int(first)] = number
        return undone

    def _add(self, kind: str, first: str, second: str | None, by: str, note: str) -> int:
        moment = datetime.now(timezone.utc).isoformat(timespec="seconds")
        added = self._connection.execute(
            "INSERT INTO decisions (kind, first, second, who, moment, note)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (kind, first, second, by, moment, note),
        )
        assert added.lastrowid is not None
        return added.lastrowid

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Turn what SQLite says to the block into an error that the user can mend."""
        try:
            yield
        except sqlite3.OperationalError as error:  # locked, full, read-only, no such folder
            raise FileError(f"{self.file} cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{self.file} is no file of decisions, or is damaged: {error}"
            ) from error


def _check(kind: str, first: str, second: str | None) -> None:
    if kind not in KINDS:
        raise UserError(
            f"there is no decision {kind!r}{did_you_mean(kind, KINDS)}; there are "
            f"{', '.join(KINDS)} (and Evidence.undo)"
        )
    expected, other = KINDS[kind]
    if (second is None) != (not other) and "nothing" not in other:
        raise UserError(
            f"decision {kind} is about {' and '.join(filter(None, (expected, other)))}; got "
            f"{first!r} and {second!r}"
        )
    if first == second and expected == other.split()[0]:
        raise UserError(f"decision {kind}: {first!r} and itself; expected two")
    for what, text in ((expected, first), (other, second)):
        if text is not None and not text.strip():
            raise UserError(f"decision {kind}: the {what} is empty")


def _check_texts(by: str, *others: str) -> None:
    if not by.strip():
        raise UserError("nobody is named who decides; expected a name")
    for text in (by, *others):
        # NUL, and halves of characters: neither is text to SQLite.
        if re.search("[\0\ud800-\udfff]", text):
            raise UserError(f"{text!r} is no text that a decision can have")
