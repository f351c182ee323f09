"""Files that are either whole or not there."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openanimals.utils.errors import FileError, UserError, naming


def is_address(text: object) -> bool:
    """Tell whether a text is an address on the network, not a file."""
    return bool(re.match(r"[a-zA-Z][\w+.-]+:/|hf-hub:", str(text)))


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` or ``~name`` replaced by the home folder.

    Raises:
        UserError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(
            f"{path}: there is no user {Path(path).parts[0][1:]!r}, whose home ~ stands for (a "
            f"folder that is called so is ./{path})"
        ) from None


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


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a file of text in UTF-8, whole or not at all; see :func:`atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write a JSON file, whole or not at all; see :func:`atomic_path`."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def remove_leftovers(folder: str | os.PathLike[str], names: str = "*") -> None:
    """Remove the temporary files that killed processes have left in a folder.

    Only for files that no other process writes.

    Args:
        folder: where they are.
        names: a pattern of how the names of the files begin that were to be written.
    """
    for leftover in Path(folder).glob(f".{names}.*.tmp"):
        leftover.unlink()


def read_json(path: str | os.PathLike[str], *keys: str) -> dict[str, Any]:
    """Return what a JSON file maps its keys to, among them those that are named.

    Raises:
        FileError: it is damaged.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.keys() >= {*keys}:
            return content
        found = f"it holds {str(content)!r:.60}"
    except (ValueError, RecursionError) as error:
        found = str(error)
    expected = f"expected an object with {', '.join(keys)}" if keys else "expected an object"
    raise FileError(f"{path} is damaged: {found}; {expected}. Remove it, or what it belongs to")
