"""Where the ready images of a run are kept: nowhere, in memory, on disk or on the device."""

import errno
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from openanimals.data.photographs import Photographs
from openanimals.data.pixel_files import PixelFile
from openanimals.data.pixels import Pixels, read_all
from openanimals.utils.errors import UserError

logger = logging.getLogger(__name__)

GIB = 2**30
FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or one's share of it


class ImageCache:
    """The ready images of a run. A list of photographs is made ready when it is first asked for.

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
        self._opened: dict[str, Pixels | None] = {}
        self._files: set[Path] = set()

    def open(self, photographs: Photographs) -> Pixels | None:
        """Return the images; None where each is to be read from its file when it is needed.

        Raises:
            ValueError: the mode is not ``auto`` and they are more than the limit, do not fit on the
                device, or the folder cannot be used. Of a disk that is full, only the log tells.
        """
        key = photographs.digest()
        if key not in self._opened:
            usable = self.mode != "off" and len(photographs) > 0
            self._opened[key] = self._keep(photographs) if usable else None
            if self._opened[key] is not None:
                self._taken += photographs.nbytes
        return self._opened[key]

    def _keep(self, photographs: Photographs) -> Pixels | None:
        height, width = photographs.size
        what = f"{len(photographs)} images of {height} x {width} ({_mib(photographs.nbytes)})"
        if self._taken + photographs.nbytes > self.limit:
            message = (
                f"{what}, with {_mib(self._taken)} of this run before them, are more than "
                f"INPUT.CACHE_LIMIT, {_mib(self.limit)}"
            )
            if self.mode != "auto":
                raise UserError(f"INPUT.CACHE is {self.mode!r}, but {message}")
            logger.warning("no cache: %s; they are read from their files each time", message)
            return None
        if self.mode in ("auto", "disk"):
            return self._on_disk(photographs, what)
        logger.info("cache: reading %s into memory", what)
        pixels = read_all(photographs)
        return self._on_device(pixels) if self.mode == "device" else pixels

    def _on_disk(self, photographs: Photographs, what: str) -> Pixels | None:
        file = PixelFile(photographs, self.folder)
        try:
            pixels = file.open()
            if pixels is not None:
                logger.info("cache: %s, from %s", what, file.path)
            elif self.mode == "auto" and self.build and self._crowds(photographs.nbytes):
                return None
            elif self.build or self.mode == "disk":
                logger.info("cache: reading %s into %s", what, file.path)
                pixels = file.build(self.limit, self._files)
        except OSError as error:
            if self.mode == "disk" and error.errno not in FULL:
                raise UserError(
                    f"INPUT.CACHE is 'disk', but INPUT.CACHE_DIR cannot be used: {error}"
                ) from error
            logger.warning("no cache: %s; images are read from their files each time", error)
            return None
        if pixels is not None:
            self._files.add(file.path)
        return pixels

    def _crowds(self, size: int) -> bool:
        """Tell, and log, whether a file would take more than half of what the disk has free.

        The rest is for checkpoints and features; and nobody has asked for this file.
        """
        there = next(place for place in (self.folder, *self.folder.parents) if place.exists())
        free = shutil.disk_usage(there).free
        if 2 * size <= free:
            return False
        logger.warning(
            "no cache: its %s are more than half of the %s that are free at %s; images are read "
            "from their files each time, or set INPUT.CACHE to disk",
            _mib(size),
            _mib(free),
            there,
        )
        return True

    def _on_device(self, pixels: Pixels) -> Pixels:
        try:
            return replace(pixels, images=pixels.images.to(self.device))
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"INPUT.CACHE is 'device', but the images do not fit on {self.device}: {error}; "
                "set it to ram or disk"
            ) from error


def _mib(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"
