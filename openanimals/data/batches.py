"""Batches of uint8 images: read in worker processes, or gathered from images that are ready."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from openanimals.data.image_cache import ImageCache
from openanimals.data.image_io import ImageError, resize
from openanimals.data.photographs import Photographs
from openanimals.data.pixels import Pixels
from openanimals.data.rectangles import stack
from openanimals.data.transforms import auto_augment
from openanimals.utils.reproducibility import derive_seed

Draw = tuple[int, int]  # a row, and the number of this draw in the whole training


@dataclass
class Batch:
    """Images on their way to the model.

    Attributes:
        images: uint8 ``[B, 3, H, W]``, RGB, in channels-last memory.
        rows: ``[B]``, their rows in the catalogue.
        unreadable: messages on images that could not be read; others stand in for them.
        lost: messages on images that could not be read and that nothing stands in for: black.
    """

    images: Tensor
    rows: Tensor
    unreadable: list[str]
    lost: list[str]

    def pin_memory(self) -> "Batch":
        """Move the images to page-locked memory, from where CUDA copies without waiting."""
        return replace(self, images=self.images.pin_memory())


Sample = tuple[Tensor | None, int, list[str], list[str]]  # of a Batch, one image's share


class Draws(Dataset):
    """Reads an image for each draw.

    Args:
        photographs: what is drawn from.
        identities: of each row.
        auto_augment_prob: share of the draws that AutoAugment changes, before the resize.
        seed: of AutoAugment.
        substitute: let another image of the same identity stand in for one that cannot be read.

    Attributes:
        ready: None, or messages on the unreadable ones where images are ready elsewhere. Then only
            what AutoAugment changes is read here.
    """

    def __init__(
        self,
        photographs: Photographs,
        identities: Sequence[str],
        *,
        auto_augment_prob: float = 0.0,
        seed: int = 0,
        substitute: bool = False,
    ) -> None:
        self.photographs, self.identities = photographs, identities
        self.auto_augment_prob, self.seed = auto_augment_prob, seed
        self.substitute = substitute
        self.ready: dict[int, str] | None = None

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, draw: Draw) -> Sample:
        """Return an image (None where it is ready elsewhere) and what :class:`Batch` tells of it.

        It does not raise: out of a worker process an error comes with that process's traceback.
        """
        first, number = draw
        messages: list[str] = []
        for row in self._candidates(first):
            try:
                return self._read(row, number), row, messages, []
            except ImageError as error:
                messages.append(str(error))
        black = torch.zeros(3, *self.photographs.size, dtype=torch.uint8)
        return black, first, [], messages

    def _candidates(self, row: int) -> Iterator[int]:
        """Yield the row, then (to substitute) the identity's other rows, cyclically."""
        yield row
        if self.substitute:
            own = np.flatnonzero(np.array(self.identities, dtype=object) == self.identities[row])
            yield from (int(other) for other in (*own[own > row], *own[own < row]))

    def _read(self, row: int, number: int) -> Tensor | None:
        if self.auto_augment_prob:
            seed = derive_seed(self.seed, "autoaugment", number)
            if seed % 10**9 < self.auto_augment_prob * 10**9:
                image = auto_augment(self.photographs.open(row), seed)
                pixels = np.array(resize(image, self.photographs.size))
                return torch.from_numpy(pixels).permute(2, 0, 1)
        if self.ready is None:
            return self.photographs.read(row)
        if row in self.ready:
            raise ImageError(self.ready[row])
        return None


class Batches:
    """Reads the draws of a sampler; with a cache that has the images, it only gathers them.

    The cache is opened when the first batch is asked for.

    Args:
        draws: reads single images.
        sampler: lists of draws, one a batch.
        workers: processes that read; 0 reads in this one.
        pinned: put the images into page-locked memory.
        cache: may have the images ready, or make them so.

    Attributes:
        unreadable: messages on the images that were black so far because they cannot be read.
    """

    def __init__(
        self,
        draws: Draws,
        sampler: Iterable[list[Draw]],
        *,
        workers: int,
        pinned: bool,
        cache: ImageCache | None = None,
    ) -> None:
        self.draws, self.sampler = draws, sampler
        self.workers, self.pinned, self.cache = workers, pinned, cache
        self.unreadable: list[str] = []

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]  # of test images; training has no end

    def __iter__(self) -> Iterator[Batch]:
        pixels = self.cache.open(self.draws.photographs) if self.cache is not None else None
        self.draws.ready = None if pixels is None else pixels.unreadable
        reads = pixels is None or self.draws.auto_augment_prob > 0
        workers = self.workers if reads else 0
        loader = DataLoader(
            self.draws,
            batch_sampler=self.sampler,  # type: ignore[arg-type]
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=self.pinned,
            prefetch_factor=4 if workers else None,
        )
        for batch, slots in loader:
            if pixels is not None:
                batch = _fill_up(batch, slots, pixels, self.pinned)
            self.unreadable += batch.lost
            yield batch
            del batch  # the next one can have its memory


def _collate(samples: list[Sample]) -> tuple[Batch, list[int]]:
    """Return a batch with only the images that were read, and their places in the whole one."""
    images, rows, unreadable, lost = zip(*samples, strict=True)
    slots = [slot for slot, image in enumerate(images) if image is not None]
    read = stack([images[slot] for slot in slots]) if slots else torch.empty(0)
    return Batch(read, torch.tensor(rows), sum(unreadable, []), sum(lost, [])), slots


def _fill_up(batch: Batch, slots: list[int], pixels: Pixels, pinned: bool) -> Batch:
    """Return the whole batch, what was not read from the images that are ready."""
    images = pixels.take(batch.rows, pinned)
    if slots:
        images[slots] = batch.images.to(images.device)
    return replace(batch, images=images)
