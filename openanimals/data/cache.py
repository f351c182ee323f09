"""The image cache: the decoded images of a run in memory, on disk or on the device.

On disk they are one file, mapped into memory: the images, and after them, as JSON, the state of the
photographs that they were made of. Where that has changed, all are read anew.
"""

import errno
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from openanimals.data.dataset import ReIDDataset
from openanimals.data.image_io import ImageError
from openanimals.utils.errors import UserError, naming_memory
from openanimals.utils.machine import cores
from openanimals.utils.progress import Progress

logger = logging.getLogger(__name__)

CORES = cores()
OURS = f"{'[0-9a-f]' * 32}.images"  # the folder may have other files, which are left alone
FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or one's share of it
CHUNK = 256  # images that are read before the first of them is stored: it bounds the memory


@dataclass(frozen=True)
class CachedImages:
    """Images that are decoded, by row.

    Attributes:
        images: uint8 ``[N, H, W, 3]``; nothing may write to them.
        unreadable: messages on the rows that cannot be read; these are black.
    """

    images: Tensor
    unreadable: dict[int, str]

    def take(self, rows: Tensor, pinned: bool = False) -> Tensor:
        """Gather the images of int64 rows ``[B]`` into a batch ``[B, H, W, 3]`` on their device.

        If that is the host, it may be ``pinned``: in page-locked memory.
        """
        device, shape = self.images.device, self.images.shape[1:]
        pinned = pinned and device.type == "cpu"
        size = len(rows), *shape
        batch = torch.empty(size, dtype=torch.uint8, device=device, pin_memory=pinned)
        source, target = self.images.flatten(1), batch.flatten(1)
        if shape.numel() % 8 == 0:  # torch gathers words faster than bytes
            source, target = source.view(torch.int64), target.view(torch.int64)
        torch.index_select(source, 0, rows.to(device), out=target)
        return batch


class ImageCache:
    """The decoded images of a run. Those of a data set are read when they are first asked for.

    Args:
        mode: ``off``, ``ram``, ``disk``, ``device``, or ``auto``: ``disk`` where it is possible.
        limit: bytes that the images of this run may take, and on disk all that are in the folder.
        folder: for the files of ``disk``.
        device: for the images of ``device``.
        build: whether ``auto`` may make files; else it only uses those that are there.
    """

    def __init__(
        self, mode: str, limit: float, folder: Path, device: torch.device, *, build: bool = True
    ) -> None:
        self.mode, self.limit, self.folder, self.device = mode, limit, folder, device
        self.build = build
        self._opened: dict[str, CachedImages | None] = {}  # by the name of its file

    def open(self, dataset: ReIDDataset) -> CachedImages | None:
        """Return the images; None where each is to be read from its file when it is needed.

        Raises:
            ValueError: the mode is not ``auto`` and they are more than the limit, do not fit on the
                device, or the folder cannot be used. Of a disk that is full, only the log tells.
        """
        name = f"{dataset.digest()[:32]}.images"
        if name not in self._opened:
            usable = self.mode != "off" and dataset.nbytes > 0
            self._opened[name] = self._load(dataset, self.folder / name) if usable else None
        return self._opened[name]

    def _load(self, dataset: ReIDDataset, path: Path) -> CachedImages | None:
        count, height, width, _ = dataset.shape
        what = f"{count} images of {height} x {width} ({_mib(dataset.nbytes)})"
        taken = sum(cached.images.nbytes for cached in self._opened.values() if cached is not None)
        if taken + dataset.nbytes > self.limit:
            message = (
                f"{what}, with {_mib(taken)} of this run before them, are more than "
                f"INPUT.CACHE_LIMIT, {_mib(self.limit)}"
            )
            if self.mode != "auto":
                raise UserError(f"INPUT.CACHE is {self.mode!r}, but {message}")
            logger.warning("no cache: %s; they are read from their files each time", message)
            return None
        if self.mode in ("auto", "disk"):
            return self._on_disk(dataset, path, what)
        logger.info("cache: reading %s into memory", what)
        unreadable: dict[int, str] = {}
        with naming_memory(
            f"INPUT.CACHE is {self.mode!r}, but a cache of {what}", "set it to disk"
        ):
            images = torch.empty(dataset.shape, dtype=torch.uint8)
            for row, image in enumerate(_read_all(dataset, unreadable)):
                images[row] = torch.from_numpy(image)
            images = images.to(self.device if self.mode == "device" else "cpu")
        return CachedImages(images, unreadable)

    def _on_disk(self, dataset: ReIDDataset, path: Path, what: str) -> CachedImages | None:
        try:
            cached = _open_file(path, dataset)
            if isinstance(cached, CachedImages):
                logger.info("cache: %s, from %s", what, path)
            elif self.mode == "auto" and not (self.build and self._has_room(dataset.nbytes)):
                return None
            else:
                with _alone(self.folder):
                    cached = _open_file(path, dataset)  # another process may have built it
                    if not isinstance(cached, CachedImages):
                        logger.info("cache: reading %s into %s; %s", what, path, cached)
                        self._make_room(path, dataset.nbytes)
                        cached = _build_file(path, dataset)
        except OSError as error:
            if self.mode == "disk" and error.errno not in FULL:
                raise UserError(
                    f"INPUT.CACHE is 'disk', but INPUT.CACHE_DIR cannot be used: {error}"
                ) from error
            logger.warning("no cache: %s: %s; images are read from their files", self.folder, error)
            return None
        with suppress(OSError):  # a folder that may only be read serves as well
            os.utime(path)
        return cached

    def _has_room(self, size: int) -> bool:
        """Tell whether a file leaves half of what is free to checkpoints and features; warn if not.

        So big a one has to be asked for.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if 2 * size > free:
            what = f"its {_mib(size)} are more than half of the {_mib(free)} that are free"
            logger.warning("no cache: %s at %s; set INPUT.CACHE to disk", what, self.folder)
        return 2 * size <= free

    def _make_room(self, path: Path, size: int) -> None:
        """Remove other files, those first that were not opened for longest, to keep the limit."""
        others = [other for other in self.folder.glob(OURS) if other != path]
        taken = size + sum(other.stat().st_size for other in others)
        for other in sorted(others, key=lambda other: other.stat().st_mtime_ns):
            if taken > self.limit and self._opened.get(other.name) is None:
                taken -= other.stat().st_size
                other.unlink()
                logger.info("cache: %s made room; it was not used for longest", other)


def _open_file(path: Path, dataset: ReIDDataset) -> CachedImages | str:
    """Return the images if they still hold, or why not."""
    try:
        with open(path, "rb") as file:
            file.seek(dataset.nbytes)
            noted = json.load(file)
    except FileNotFoundError:
        return "they are new"
    except ValueError as error:
        return f"the file that is there is damaged ({error})"
    states = _states(dataset)
    changed = [name for name in states if noted["files"].get(name) != states[name]]
    if changed:
        return f"{len(changed)} files have changed since, such as {changed[0]}"
    unreadable = {int(row): message for row, message in noted["unreadable"].items()}
    for row in unreadable:
        with suppress(ImageError):
            dataset.read(row)
            return f"{dataset.paths[row]} could not be read then and can be now"
    return _mapped(path, dataset, unreadable)


def _build_file(path: Path, dataset: ReIDDataset) -> CachedImages:
    """Read all images into a file that is renamed to ``path`` when it is whole.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    files = _states(dataset)  # before they are read: a change in between shows at the next start
    unreadable: dict[int, str] = {}
    temporary = path.with_name(".unfinished")  # of one killed in this block: the next one's now
    try:
        with open(temporary, "wb") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk shows now, not when all is read
                os.posix_fallocate(file.fileno(), 0, dataset.nbytes)
            # Written and not stored through a map, where a full disk would kill the process.
            for image in _read_all(dataset, unreadable):
                file.write(image.data)
            file.write(json.dumps({"files": files, "unreadable": unreadable}).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return _mapped(path, dataset, unreadable)


def _states(dataset: ReIDDataset) -> dict[str, list[int] | None]:
    """Return bytes and time of the last change of each file; None for one that is not there."""

    def state(file: str) -> list[int] | None:
        with suppress(OSError):
            status = os.stat(file)
            return [status.st_size, status.st_mtime_ns]
        return None

    with ThreadPoolExecutor() as pool:  # the time goes into waiting for the disk
        return dict(zip(dataset.files, pool.map(state, dataset.files), strict=True))


def _mapped(path: Path, dataset: ReIDDataset, unreadable: dict[int, str]) -> CachedImages:
    """Return the images of a file, which is read as they are used."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        images = torch.from_numpy(np.memmap(path, np.uint8, mode="r", shape=dataset.shape))
    return CachedImages(images, unreadable)


def _read_all(dataset: ReIDDataset, unreadable: dict[int, str]) -> Iterator[np.ndarray]:
    """Yield all images in order, read by a thread on each core; tell how far it is.

    Images that cannot be read are black, and ``unreadable`` gets the messages on them, by row.
    """

    def read(row: int) -> np.ndarray:
        try:
            return dataset.read(row)
        except ImageError as error:
            unreadable[row] = str(error)
            return np.zeros(dataset.shape[1:], np.uint8)

    count = dataset.shape[0]
    with Progress("reading", count, "image") as progress, ThreadPoolExecutor(CORES) as pool:
        for start in range(0, count, CHUNK):
            chunk = range(start, min(start + CHUNK, count))
            yield from pool.map(read, chunk)
            progress.update(len(chunk))


def _alone(folder: Path) -> AbstractContextManager:
    """Return a context that one process at a time is in; one that dies in it lets the next in."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        return lock.acquire(blocking=False)
    except Timeout:
        logger.info("waiting for another process that writes to %s", folder)
        return lock.acquire()


def _mib(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"
