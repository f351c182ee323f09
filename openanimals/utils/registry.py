"""Names in a config to functions in code, and the closest right spelling of a wrong name."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from openanimals.utils.errors import UserError

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest known name, or ``""`` if none is close."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(str(name).casefold(), by_folded, n=1, cutoff=0.6)
    return f" (did you mean {by_folded[close[0]]!r}?)" if close else ""


def check_name(key: str, name: str, known: Iterable[str]) -> None:
    """Raise unless a name is among those that a key can have.

    Raises:
        UserError: names the key, the closest name and all names.
    """
    names = [*known]
    if name not in names:
        raise UserError(
            f"{key} is {name!r}{did_you_mean(name, names)}; it can be {', '.join(names)}"
        )


class Registry(Generic[T]):
    """A dict from names to things that explains itself when a name is wrong.

    Args:
        kind: what it holds, as it should read in an error ("backbone", "loss", ...).

    Example:
        >>> COLOURS = Registry("colour")
        >>> @COLOURS.register("red")
        ... def red(): return (255, 0, 0)
        >>> COLOURS.get("red")()
        (255, 0, 0)
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files what it decorates under ``name``.

        Raises:
            ValueError: the name is already taken.
        """

        def file_under(thing: T) -> T:
            if name in self._entries:
                raise UserError(f"{self.kind} {name!r} is registered already")
            self._entries[name] = thing
            return thing

        return file_under

    def get(self, name: str) -> T:
        """Return the entry called ``name``.

        Raises:
            ValueError: there is none; the message has the closest name and all names.
        """
        problems = self.unknown([name])
        if problems:
            raise UserError(problems[0])
        return self._entries[name]

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Return a sentence for each name that is not registered, with the closest that is."""
        return [
            f"unknown {self.kind} {name!r}{did_you_mean(name, self._entries)}; "
            f"known: {', '.join(self)}"
            for name in names
            if name not in self._entries
        ]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))
