"""Files of photographs before they are opened: those that are none, and those that are the same."""

import hashlib
import os
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

END = 4096  # bytes of a file that tell most files of one size apart


def unusable_files(files: Iterable[str]) -> dict[str, str]:
    """Return why files cannot be read, by path; those that are there are not in it.

    Each folder is listed once, which is quick for a hundred thousand files, and only what is not a
    plain file in it is looked at by itself. Nothing is opened: a FIFO would wait for ever.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for file in dict.fromkeys(files):
        names[os.path.dirname(file)].append(file)
    reasons = {}
    for folder, members in names.items():
        plain: set[str] = set()
        with suppress(OSError, ValueError), os.scandir(folder or ".") as entries:
            plain = {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
        for file in members:
            if os.path.basename(file) not in plain and (reason := _reason(file)):
                reasons[file] = reason
    return reasons


def _reason(file: str) -> str:
    """Return a path with what is wrong with it, or nothing where it is a file after all."""
    try:
        kind = stat.S_IFMT(os.stat(file).st_mode)
    except FileNotFoundError:
        return file + _other_spelling(Path(file))
    except (OSError, ValueError) as error:
        return f"{file} ({getattr(error, 'strerror', None) or error})"
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
    return "" if kind == stat.S_IFREG else f"{file} (a {kinds.get(kind, 'device')}, not a file)"


def _other_spelling(path: Path) -> str:
    """Return a hint at the file of another case, or form of accents, if there is one."""

    def folded(name: str) -> str:
        return unicodedata.normalize("NFC", name).casefold().replace(".jpeg", ".jpg")

    place = Path(path.anchor)
    for part in path.parts[len(place.parts) :]:
        if not (place / part).exists():
            with suppress(OSError):
                names = sorted(os.listdir(place))
                part = next((name for name in names if folded(name) == folded(part)), part)
        place /= part
    return f" (did you mean {place}?)" if place.is_file() else ""


def find_copies(files: Sequence[str], boxes: Sequence[Any]) -> list[list[int]]:
    """Return groups of rows that show the same: files of equal bytes, and the same box.

    Only files of one size are read, and only those to the end whose last bytes are equal, too.
    A row without a box has None.
    """
    groups = [list(dict.fromkeys(files))]
    for key in (_size, _end, _whole):
        groups = _divided(groups, key)
    first = {file: group[0] for group in groups for file in group}
    rows: dict[Hashable, list[int]] = defaultdict(list)
    for row, (file, box) in enumerate(zip(files, boxes, strict=True)):
        rows[first.get(file, file), box].append(row)
    return [own for own in rows.values() if len(own) > 1]


def _divided(groups: list[list[str]], key: Callable[[str], Hashable]) -> list[list[str]]:
    """Divide groups of files by a key, without those that are alone or cannot be read."""
    parts: dict[Hashable, list[str]] = defaultdict(list)
    for number, group in enumerate(groups):
        for file in group:  # not in threads: with so short tasks these get into each other's way
            with suppress(OSError, ValueError):
                if (own := key(file)) is not None:
                    parts[number, own].append(file)
    return [part for part in parts.values() if len(part) > 1]


def _size(file: str) -> int | None:
    status = os.stat(file)
    return status.st_size or None if stat.S_ISREG(status.st_mode) else None


def _end(file: str) -> bytes:
    with open(file, "rb") as handle:
        handle.seek(-min(END, os.path.getsize(file)), os.SEEK_END)
        return handle.read()


def _whole(file: str) -> bytes:
    digest = hashlib.sha256()
    with open(file, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.digest()
