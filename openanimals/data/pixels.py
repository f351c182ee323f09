"""Images that are ready: all of them read once, and batches gathered from them."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from openanimals.data.image_io import ImageError
from openanimals.data.photographs import Photographs
from openanimals.utils.machine import cores

logger = logging.getLogger(__name__)

T = TypeVar("T")

CHUNK = 256  # images that are read before the first of them is stored: it bounds the memory
SECONDS = 30.0  # between lines that tell how far the reading is


@dataclass(frozen=True)
class Pixels:
    """Images that are ready, by row.

    Attributes:
        images: uint8 ``[N, H, W, 3]``; nothing may write to them.
        unreadable: messages on the rows that cannot be read; these are black.
    """

    images: Tensor
    unreadable: dict[int, str]

    @classmethod
    def of(cls, images: np.ndarray, unreadable: dict[int, str]) -> "Pixels":
        """Take an array as it is, in memory or mapped from a file."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return cls(torch.from_numpy(images), unreadable)

    def take(self, rows: Tensor, pinned: bool = False) -> Tensor:
        """Gather a batch.

        Args:
            rows: int64 ``[B]``.
            pinned: put it into page-locked memory, if the images are in the host's.

        Returns:
            uint8 ``[B, 3, H, W]`` in channels-last memory, on the device of the images.
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
        return batch.permute(0, 3, 1, 2)


def _in_words(images: Tensor) -> Tensor:
    """Return a view ``[N, bytes / 8]``, which torch gathers faster than bytes, where that goes."""
    rows = images.flatten(1)
    return rows.view(torch.int64) if rows.shape[1] % 8 == 0 else rows


def read_all(photographs: Photographs) -> Pixels:
    """Read photographs into memory."""
    images = np.zeros((len(photographs), *photographs.size, 3), dtype=np.uint8)
    unreadable = {}

    def read(row: int) -> str | None:
        images[row], message = read_row(photographs, row)
        return message

    rows = range(len(photographs))
    for row, message in in_threads(read, rows):
        if message is not None:
            unreadable[row] = message
    return Pixels.of(images, unreadable)


def read_row(photographs: Photographs, row: int) -> tuple[np.ndarray, str | None]:
    """Return one image ``[H, W, 3]`` and None, or black and why it cannot be read."""
    try:
        return photographs.read(row).permute(1, 2, 0).numpy(), None
    except ImageError as error:
        return np.zeros((*photographs.size, 3), dtype=np.uint8), str(error)


def in_threads(function: Callable[[int], T], rows: Sequence[int]) -> Iterator[tuple[int, T]]:
    """Yield each row and what a function returns for it, in order; tell how far it is.

    The functions must release Python's lock where they spend their time, as decoders do.
    """
    from tqdm import tqdm

    said = time.monotonic()
    bar = tqdm(total=len(rows), disable=None, unit="image", leave=False)  # on a terminal only
    with bar, ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            yield from zip(chunk, pool.map(function, chunk), strict=True)
            bar.update(len(chunk))
            if bar.disable and time.monotonic() - said > SECONDS:
                said = time.monotonic()
                logger.info("%d of %d images are ready", start + len(chunk), len(rows))
