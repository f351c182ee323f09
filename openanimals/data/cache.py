"""The image cache: the decoded images of a run in memory, on disk or on the device.

On disk they are two files: the images, which are mapped into memory, and a JSON file that tells
what they were made of. Where that has changed, or a file is not as it should be, all are read anew.
"""

import errno
import json
import logging
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from openanimals.data.dataset import ReIDDataset
from openanimals.data.image_io import ImageError
from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path, remove_leftovers
from openanimals.utils.machine import cores

logger = logging.getLogger(__name__)

SUFFIX = ".images"
OURS = "[0-9a-f]" * 32  # how our files begin; a folder may have others, which are left alone
FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or one's share of it
CHUNK = 256  # images that are read before the first of them is stored: it bounds the memory
SECONDS = 30.0  # between lines that tell how far the reading is


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
        """Gather a batch.

        Args:
            rows: int64 ``[B]``.
            pinned: put it into page-locked memory, if the images are in the host's.

        Returns:
            uint8 ``[B, H, W, 3]``, on the device of the images.
        """
        device = self.images.device
        batch = torch.empty(
            (len(rows), *self.images.shape[1:]),
            dtype=torch.uint8,
            device=device,
            pin_memory=pinned and device.type == "cpu",
        )
        source, target = (_in_words(images) for images in (self.images, batch))
        torch.index_select(source, 0, rows.to(device), out=target)
        return batch


def _in_words(images: Tensor) -> Tensor:
    """Return a view ``[N, bytes / 8]``, which torch gathers faster than bytes, where that goes."""
    rows = images.flatten(1)
    return rows.view(torch.int64) if rows.shape[1] % 8 == 0 else rows


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
        self._taken = 0  # bytes
        self._opened: dict[str, CachedImages | None] = {}
        self._in_use: set[Path] = set()

    def open(self, dataset: ReIDDataset) -> CachedImages | None:
        """Return the images; None where each is to be read from its file when it is needed.

        Raises:
            ValueError: the mode is not ``auto`` and they are more than the limit, do not fit on the
                device, or the folder cannot be used. Of a disk that is full, only the log tells.
        """
        key = dataset.digest()
        if key not in self._opened:
            usable = self.mode != "off" and len(dataset) > 0
            self._opened[key] = self._load(dataset, key) if usable else None
            if self._opened[key] is not None:
                self._taken += dataset.nbytes
        return self._opened[key]

    def _load(self, dataset: ReIDDataset, key: str) -> CachedImages | None:
        height, width = dataset.size
        what = f"{len(dataset)} images of {height} x {width} ({_mib(dataset.nbytes)})"
        if self._taken + dataset.nbytes > self.limit:
            message = (
                f"{what}, with {_mib(self._taken)} of this run before them, are more than "
                f"INPUT.CACHE_LIMIT, {_mib(self.limit)}"
            )
            if self.mode != "auto":
                raise UserError(f"INPUT.CACHE is {self.mode!r}, but {message}")
            logger.warning("no cache: %s; they are read from their files each time", message)
            return None
        if self.mode in ("auto", "disk"):
            return self._on_disk(dataset, key, what)
        logger.info("cache: reading %s into memory", what)
        images = np.empty((len(dataset), *dataset.size, 3), np.uint8)
        unreadable: dict[int, str] = {}
        for row, image in enumerate(_read_all(dataset, unreadable)):
            images[row] = image
        cached = CachedImages(torch.from_numpy(images), unreadable)
        return self._on_device(cached) if self.mode == "device" else cached

    def _on_disk(self, dataset: ReIDDataset, key: str, what: str) -> CachedImages | None:
        path = self.folder / f"{key[:32]}{SUFFIX}"
        try:
            cached, problem = _open_file(path, dataset)
            if cached is not None:
                logger.info("cache: %s, from %s", what, path)
            elif self.mode == "auto" and not (self.build and self._has_room(dataset.nbytes)):
                return None
            else:
                with _alone(self.folder):
                    cached, problem = _open_file(path, dataset)  # another process may have built it
                    if cached is None:
                        why = f"; {problem}" if problem else ""
                        logger.info("cache: reading %s into %s%s", what, path, why)
                        remove_leftovers(self.folder, OURS)  # of processes killed in this block
                        make_room(path, dataset.nbytes, self.limit, self._in_use)
                        cached = _build_file(path, dataset)
        except OSError as error:
            if self.mode == "disk" and error.errno not in FULL:
                raise UserError(
                    f"INPUT.CACHE is 'disk', but INPUT.CACHE_DIR cannot be used: {error}"
                ) from error
            logger.warning("no cache: %s; images are read from their files each time", error)
            return None
        with suppress(OSError):  # a folder that may only be read serves as well
            os.utime(path)
        self._in_use.add(path)
        return cached

    def _has_room(self, size: int) -> bool:
        """Tell whether a file leaves half of what the disk has free; log if it does not.

        The rest is for checkpoints and features; and nobody has asked for this file.
        """
        there = next(place for place in (self.folder, *self.folder.parents) if place.exists())
        free = shutil.disk_usage(there).free
        if 2 * size <= free:
            return True
        logger.warning(
            "no cache: its %s are more than half of the %s that are free at %s; images are read "
            "from their files each time, or set INPUT.CACHE to disk",
            _mib(size),
            _mib(free),
            there,
        )
        return False

    def _on_device(self, cached: CachedImages) -> CachedImages:
        try:
            return replace(cached, images=cached.images.to(self.device))
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"INPUT.CACHE is 'device', but the images do not fit on {self.device}: {error}; "
                "set it to ram or disk"
            ) from error


def _open_file(path: Path, dataset: ReIDDataset) -> tuple[CachedImages | None, str]:
    """Return the images if they still hold, or None and, if there is a file, why they do not."""
    try:
        size = path.stat().st_size
        noted = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        files = dict(noted["files"])
        unreadable = {int(row): str(message) for row, message in noted["unreadable"].items()}
    except FileNotFoundError:
        return None, ""
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"its list of files is damaged ({error})"
    if size != dataset.nbytes:
        return None, f"it has {size} bytes instead of {dataset.nbytes}"
    changed = [name for name, state in _states(dataset).items() if files.get(name) != state]
    if changed:
        return None, f"{len(changed)} files have changed since, such as {changed[0]}"
    for row in unreadable:
        with suppress(ImageError):
            dataset.read(row)
            return None, f"{dataset.paths[row]} could not be read then and can be now"
    return CachedImages(_mapped(path, dataset), unreadable), ""


def _build_file(path: Path, dataset: ReIDDataset) -> CachedImages:
    """Read all images into a file beside ``path`` that is renamed when it is whole.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    files = _states(dataset)  # before they are read: a change in between shows at the next start
    path.with_suffix(".json").unlink(missing_ok=True)  # it is of the file that is replaced
    unreadable: dict[int, str] = {}
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        if hasattr(os, "posix_fallocate"):  # a full disk shows now, not when all is read
            os.posix_fallocate(file.fileno(), 0, dataset.nbytes)
        # Written and not stored through a map, where a full disk would kill the process.
        for image in _read_all(dataset, unreadable):
            file.write(image.data)
    with atomic_path(path.with_suffix(".json")) as temporary:
        content = {"files": files, "unreadable": unreadable}
        temporary.write_text(json.dumps(content), encoding="utf-8")
    return CachedImages(_mapped(path, dataset), unreadable)


def _states(dataset: ReIDDataset) -> dict[str, list[int] | None]:
    """Return bytes and time of the last change of each file; None for one that is not there."""

    def state(file: str) -> list[int] | None:
        try:
            status = os.stat(file)
        except OSError:
            return None
        return [status.st_size, status.st_mtime_ns]

    files = dict.fromkeys(dataset.files())
    with ThreadPoolExecutor() as pool:  # the time goes into waiting for the disk
        return dict(zip(files, pool.map(state, files), strict=True))


def _mapped(path: Path, dataset: ReIDDataset) -> Tensor:
    """Return the file as a tensor that is read as it is used."""
    shape = (len(dataset), *dataset.size, 3)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(np.memmap(path, dtype=np.uint8, mode="r", shape=shape))


def _read_all(dataset: ReIDDataset, unreadable: dict[int, str]) -> Iterator[np.ndarray]:
    """Yield all images in order, read by a thread on each core; tell how far it is.

    Args:
        dataset: what is read.
        unreadable: gets the messages on the images that cannot be read; those are black.
    """

    def read(row: int) -> np.ndarray:
        try:
            return dataset.read(row)
        except ImageError as error:
            unreadable[row] = str(error)
            return np.zeros((*dataset.size, 3), np.uint8)

    said = time.monotonic()
    bar = tqdm(total=len(dataset), disable=None, unit="image", leave=False)  # on a terminal only
    with bar, ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(dataset), CHUNK):
            chunk = range(start, min(start + CHUNK, len(dataset)))
            yield from pool.map(read, chunk)
            bar.update(len(chunk))
            if bar.disable and time.monotonic() - said > SECONDS:
                said = time.monotonic()
                logger.info("%d of %d images are read", chunk.stop, len(dataset))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time into the block; one that dies in it lets the next one in."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        logger.info("waiting for another process that writes to %s", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def make_room(target: Path, needed: int, limit: float, in_use: set[Path]) -> None:
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


def _mib(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"
