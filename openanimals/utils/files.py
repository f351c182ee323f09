"""Files that are either whole or not there, and folders that one process at a time writes to."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openanimals.utils.errors import naming

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``target``; rename it to ``target`` if the block succeeds.

    The file is flushed to the disk before the rename, so a crash at any moment leaves either the
    old file or the new one. If the block raises, the temporary file is removed and ``target`` is
    untouched.

    Raises:
        FileError: the folder cannot be written, or the disk is full.
    """
    target = Path(target)
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | os.PathLike[str], names: str = "*") -> None:
    """Remove the temporary files that killed processes have left in a folder.

    Only for files that no other process writes.

    Args:
        folder: where they are.
        names: a pattern of how the names of the files begin that were to be written.
    """
    for leftover in Path(folder).glob(f".{names}.*.tmp"):
        leftover.unlink()


@contextmanager
def exclusive(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Let one process at a time into the block; one that dies in it lets the next one in.

    Windows has no such lock; there every process enters at once.

    Args:
        folder: where the lock is, in the file ``.lock``. It is made if need be.

    Raises:
        FileError: the folder cannot be written.
    """
    with naming(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        file = open(Path(folder) / ".lock", "a")  # noqa: SIM115 (closed below)
    with file as lock:  # a stranger's file of this name stays whole
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("waiting for another process that writes to %s", folder)
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield  # closing the file unlocks it


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
