"""The one base of all errors that the user can mend."""

import os
import re
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A mistake that the user can mend: says what was found, what is expected, the nearest name.

    The command line shows its message and nothing else. Any other exception is a bug, of ours or of
    a plugin, and shows where it was raised.
    """


class FileError(UserError, OSError):
    """A file or folder that cannot be used: names it, and the cause."""


@contextmanager
def naming(path: str | os.PathLike[str], what: str = "cannot be written") -> Iterator[None]:
    """Turn what the system says to the block into an error that the user can mend.

    Args:
        path: the file or folder that the block uses.
        what: of it is wrong then.

    Raises:
        FileError: in place of any other OSError of the block.
    """
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        mendable = FileError(f"{path} {what}: {error}")
        mendable.errno = error.errno
        raise mendable from error


NO_ROOM = re.compile(
    r"(?i)out of memory|can't allocate memory|not enough memory|_ALLOC_FAILED|bad.alloc"
    r"|invalid buffer size|storage size calculation overflowed"
)
"""What torch says, on whatever device, when memory is asked for that is not there."""


@contextmanager
def naming_memory(what: str, remedy: str) -> Iterator[None]:
    """Turn a lack of memory in the block into an error that the user can mend.

    Args:
        what: is too large, such as "the model".
        remedy: what to do about it, with the names and values of the keys that decide.

    Raises:
        UserError: in place of the MemoryError, or torch's RuntimeError. All others are passed on.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not NO_ROOM.search(str(error)):
            raise
        first = str(error).strip().partition("\n")[0].rpartition("Allocator: ")[2]
        cause = shortened(first, 200) or "MemoryError"
        raise UserError(f"{what} does not fit into memory ({cause}); {remedy}") from error


def shortened(text: object, most: int = 80) -> str:
    """Return a text, its middle left out where it is longer than ``most`` characters."""
    text = str(text)
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 12


def shown(value: object) -> str:
    """Return ``repr(value)``, however long it would be, in the length of a message."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return f"a {type(value).__name__} of very many digits"
