"""Files that are either whole or not there."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openanimals.utils.errors import naming


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
            umask = os.umask(0)  # can only be read by setting it
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
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
