"""The one base of all errors that the user can mend."""

import os
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
