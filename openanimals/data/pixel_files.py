"""Ready images in a file, and an index beside it that tells whether they still hold.

The file has the pixels and nothing else, so that it can be mapped into memory. It is written
beside its place, renamed when it is whole, and never changed afterwards, so a process that has it
mapped keeps what it opened. Where a photograph has changed, a new file takes the others from it.
"""

import logging
import os
import zlib
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from openanimals.data.photographs import Photographs
from openanimals.data.pixel_index import Entry, read_index, sign, write_index
from openanimals.data.pixels import Pixels, in_threads, read_row
from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path, exclusive, remove_leftovers

logger = logging.getLogger(__name__)

SUFFIX = ".pixels"
OURS = "[0-9a-f]" * 32  # how our files begin; a folder may have others, which are left alone


@dataclass(frozen=True)
class Kept:
    """What a file has of a list of photographs.

    Attributes:
        images: uint8 ``[N, H, W, 3]``, mapped from the file; None if nothing of it is of use.
        entries: of each image; None where it is to be read.
        reasons: why some are, in words; none if they were never read.
        noted: whether the index says what the entries say.
    """

    images: np.ndarray | None
    entries: list[Entry | None]
    reasons: list[str]
    noted: bool = True


class PixelFile:
    """The ready images of a list of photographs, in a folder that has those of others, too.

    Args:
        photographs: their paths, boxes, masks and settings name the file.
        folder: need not be there yet.

    Attributes:
        path: of the pixels; the index has the same name and ends in ``.json``.
    """

    def __init__(self, photographs: Photographs, folder: Path) -> None:
        self.photographs = photographs
        self.key = photographs.digest()
        self.path = folder / f"{self.key[:32]}{SUFFIX}"
        self.index = self.path.with_suffix(".json")

    def open(self) -> Pixels | None:
        """Return the images if all of them are there and still hold, else None.

        Raises:
            OSError: the file is there and cannot be read.
        """
        return self._use(self._check())

    def build(self, limit: float, in_use: Collection[Path] = ()) -> Pixels:
        """Read what is missing or no longer holds, and return all images.

        Args:
            limit: bytes that all files of the folder may take. Those that were not opened for
                longest are removed to make room.
            in_use: files that are not.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
        """
        with exclusive(self.path.parent):
            kept = self._check()  # another process may have built it since
            pixels = self._use(kept)
            if pixels is not None:
                return pixels
            for reason in kept.reasons:
                logger.warning("cache: %s", reason)
            remove_leftovers(self.path.parent, OURS)  # of processes that were killed in this block
            make_room(self.path, self.photographs.nbytes, limit, in_use)
            return self._write(kept)

    def _check(self) -> Kept:
        """Find out what is there and still holds."""
        rows = range(len(self.photographs))
        try:
            entries = read_index(self.index, self.key, len(rows))
            images = self._map()
        except FileNotFoundError:
            return Kept(None, [None] * len(rows), [])
        except ValueError as error:
            return Kept(None, [None] * len(rows), [f"{self.path} is made again: {error}"])

        def judge(row: int) -> Entry | str:
            return self._judge(row, images[row], entries[row])

        judged = [outcome for _, outcome in in_threads(judge, rows)]
        counts = Counter(outcome for outcome in judged if isinstance(outcome, str))
        reasons = [
            f"{count} images {reason}, such as {self.photographs.paths[judged.index(reason)]}"
            for reason, count in counts.items()
        ]
        good = [outcome if isinstance(outcome, Entry) else None for outcome in judged]
        return Kept(images, good, reasons, noted=good == entries)

    def _judge(self, row: int, pixels: np.ndarray, entry: Entry) -> Entry | str:
        """Return what is to be noted of an image or, if it is to be read again, why."""
        if zlib.crc32(pixels.data) != entry.checksum:
            return "are damaged in the cache and read again"
        paths = self.photographs.files(row)
        files = [sign(path, known) for path, known in zip(paths, entry.files, strict=True)]
        if not entry.is_made_of(files):
            return "have changed since they were cached and are read again"
        if entry.message is not None and read_row(self.photographs, row)[1] is None:
            return "could not be read for the cache and can be now"
        return replace(entry, files=files)

    def _use(self, kept: Kept) -> Pixels | None:
        """Return the images if nothing is missing, and note that they are in use."""
        entries = [entry for entry in kept.entries if entry is not None]
        if kept.images is None or len(entries) < len(kept.entries):
            return None
        with suppress(OSError):  # a folder that may only be read serves as well
            if not kept.noted:  # files that were only touched need not be hashed each time
                write_index(self.index, self.key, entries)
            os.utime(self.path)
        return _pixels(kept.images, entries)

    def _write(self, kept: Kept) -> Pixels:
        """Write a new file, with what still holds of the old one."""

        def make_ready(row: int) -> tuple[np.ndarray, Entry]:
            entry = kept.entries[row]
            if kept.images is not None and entry is not None:
                return kept.images[row], entry
            # Signed before it is read: a change in between shows at the next start.
            files = [sign(path) for path in self.photographs.files(row)]
            pixels, message = read_row(self.photographs, row)
            return pixels, Entry(zlib.crc32(pixels.data), files, message)

        entries = []
        with atomic_path(self.path) as temporary, open(temporary, "wb") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk shows now, not when all is read
                os.posix_fallocate(file.fileno(), 0, self.photographs.nbytes)
            # Written and not stored through a map, where a full disk would kill the process.
            for _, (pixels, entry) in in_threads(make_ready, range(len(self.photographs))):
                file.write(pixels.data)
                entries.append(entry)
        write_index(self.index, self.key, entries)
        return _pixels(self._map(), entries)

    def _map(self) -> np.ndarray:
        """Return the file as an array that is read as it is used.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is of another size.
        """
        expected, found = self.photographs.nbytes, self.path.stat().st_size
        if found != expected:
            raise UserError(f"it has {found} bytes; expected {expected}")
        shape = (len(self.photographs), *self.photographs.size, 3)
        return np.memmap(self.path, dtype=np.uint8, mode="r", shape=shape)


def _pixels(images: np.ndarray, entries: list[Entry]) -> Pixels:
    return Pixels.of(
        images, {row: entry.message for row, entry in enumerate(entries) if entry.message}
    )


def make_room(target: Path, needed: int, limit: float, in_use: Collection[Path] = ()) -> None:
    """Remove our files beside ``target`` until it, with ``needed`` bytes, and they keep the limit.

    Those go first that were not opened for longest.

    Args:
        target: will be written; what it has now does not count.
        needed: its bytes.
        limit: bytes of all of them.
        in_use: files that stay.
    """
    others = [path for path in target.parent.glob(OURS + SUFFIX) if path != target]
    others.sort(key=lambda path: path.stat().st_mtime_ns)
    taken = needed + sum(path.stat().st_size for path in others)
    for path in others:
        if taken > limit and path not in in_use:
            taken -= path.stat().st_size
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink()
            logger.info("cache: %s is removed to make room; it was not used for longest", path)
