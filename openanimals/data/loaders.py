"""Batches of uint8 images, read in worker processes, in an order that no worker can change."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from openanimals.config import CfgNode
from openanimals.data import augment
from openanimals.data.catalogue import Catalogue
from openanimals.data.images import ImageError, open_image, resize
from openanimals.data.samplers import balanced_stream, batches, identity_stream, shuffled_stream
from openanimals.data.sets import TrainSet
from openanimals.utils.reproducibility import derive_seed


@dataclass
class Batch:
    """Images on their way to the model.

    Attributes:
        images: uint8 ``[B, 3, H, W]``, RGB.
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


Sample = tuple[Tensor, int, list[str], list[str]]  # of a Batch, one image's share


class Photographs(Dataset):
    """The images of a catalogue by row: read, rotated, cropped and resized.

    Args:
        catalogue: the images.
        size: height and width in pixels.
        auto_augment_prob: share of the images that AutoAugment changes before the resize.
        seed: of AutoAugment.
        substitute: let another image of the same identity stand in for one that cannot be read.
        masked: make the background black in images that have a mask.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        size: Sequence[int],
        *,
        auto_augment_prob: float = 0.0,
        seed: int = 0,
        substitute: bool = False,
        masked: bool = False,
    ) -> None:
        # Plain lists: worker processes share their memory, and reading them is quick.
        self.paths = [str(catalogue.path(row)) for row in range(len(catalogue))]
        self.boxes = catalogue.column("bbox")
        self.masks = [catalogue.mask(row) if masked else None for row in range(len(catalogue))]
        self.identities = catalogue.identities
        self.size = (size[0], size[1])
        self.auto_augment_prob = auto_augment_prob
        self.seed = seed
        self.substitute = substitute

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: tuple[int, int]) -> Sample:
        """Return an image and what :class:`Batch` tells of it.

        It does not raise: out of a worker process an error comes with that process's traceback.

        Args:
            item: the row, and the number of this draw in the whole training (seeds AutoAugment).
        """
        first, draw = item
        messages: list[str] = []
        for row in self._candidates(first):
            try:
                return self._read(row, draw), row, messages, []
            except ImageError as error:
                messages.append(str(error))
        return torch.zeros(3, *self.size, dtype=torch.uint8), first, [], messages

    def _candidates(self, row: int) -> Iterator[int]:
        """Yield the row, then (to substitute) the identity's other rows, cyclically."""
        yield row
        if self.substitute:
            own = np.flatnonzero(np.array(self.identities, dtype=object) == self.identities[row])
            yield from (int(other) for other in (*own[own > row], *own[own < row]))

    def _read(self, row: int, draw: int) -> Tensor:
        image = open_image(self.paths[row], self.boxes[row], self.masks[row])
        if self.auto_augment_prob:
            seed = derive_seed(self.seed, "autoaugment", draw)
            if seed % 10**9 < self.auto_augment_prob * 10**9:
                image = augment.auto_augment(image, seed)
        pixels = np.array(resize(image, self.size))
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


class TrainBatches:
    """Endless numbered draws for a process: lists of (row, number of the draw).

    Raises:
        ValueError: see :func:`build_train_loader`.
    """

    def __init__(
        self, cfg: CfgNode, train: TrainSet, start: int, rank: int, world_size: int
    ) -> None:
        self.batch_size = cfg.SOLVER.IMS_PER_BATCH
        self.start, self.rank, self.world_size = start, rank, world_size
        stream = _stream(cfg, train, world_size)
        self.batches = batches(
            stream, self.batch_size, skip=start, rank=rank, world_size=world_size
        )

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        share = self.batch_size // self.world_size
        for iteration, rows in enumerate(self.batches, self.start):
            first = iteration * self.batch_size + self.rank * share
            yield [(row, first + slot) for slot, row in enumerate(rows)]


def _stream(cfg: CfgNode, train: TrainSet, world_size: int) -> Iterator[int]:
    """Return the training rows in the endless order of SAMPLER_TRAIN."""
    sampler, seed = cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.SEED
    if sampler == "TrainingSampler":
        return shuffled_stream(len(train.labels), seed)
    batch_size, instances = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE
    if batch_size % (instances * world_size):
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH ({batch_size}) must be a multiple of DATALOADER.NUM_INSTANCE "
            f"({instances}) x {world_size} processes, so that each process gets whole identities"
        )
    labels = train.labels.tolist()
    if sampler == "BalancedIdentitySampler":
        cameras = train.images.column("camera")
        return balanced_stream(labels, cameras, batch_size, instances, seed)
    return identity_stream(labels, batch_size, instances, seed)


def build_train_loader(
    cfg: CfgNode, train: TrainSet, *, start: int = 0, rank: int = 0, world_size: int = 1
) -> DataLoader:
    """Return the endless training batches of one process, from iteration ``start`` on.

    Raises:
        ValueError: the batch cannot be made of P identities with K images, or not be shared
            among the processes.
    """
    augmented = cfg.INPUT.AUTOAUG.PROB if cfg.INPUT.AUTOAUG.ENABLED else 0.0
    photographs = Photographs(
        train.images,
        cfg.INPUT.SIZE_TRAIN,
        auto_augment_prob=augmented,
        seed=cfg.SEED,
        substitute=True,
        masked=cfg.INPUT.BACKGROUND == "mask",
    )
    workers = _workers(cfg)
    return DataLoader(
        photographs,
        batch_sampler=TrainBatches(cfg, train, start, rank, world_size),  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=_pinned(cfg),
        prefetch_factor=4 if workers else None,
    )


def build_test_loader(
    cfg: CfgNode, images: Catalogue, *, rank: int = 0, world_size: int = 1
) -> "TestBatches":
    """Return one process's share of the images of a catalogue, in row order."""
    bounds = [len(images) * part // world_size for part in (rank, rank + 1)]
    workers = _workers(cfg)
    loader = DataLoader(
        Photographs(images, cfg.INPUT.SIZE_TEST, masked=cfg.INPUT.BACKGROUND == "mask"),
        sampler=[(row, 0) for row in range(*bounds)],  # type: ignore[arg-type]
        batch_size=cfg.TEST.IMS_PER_BATCH,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=_pinned(cfg),
    )
    return TestBatches(loader)


class TestBatches:
    """Reads on past unreadable images, so that all of them can be told at once.

    Attributes:
        unreadable: messages on the images that were black so far because they cannot be read.
    """

    __test__ = False  # not a pytest class

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self.unreadable: list[str] = []

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            self.unreadable += batch.lost
            yield batch


def build_augment(cfg: CfgNode) -> augment.BatchAugment:
    """Return the random augmentation of training batches that the INPUT keys ask for."""
    keys = cfg.INPUT
    jitter = (keys.CJ.PROB, keys.CJ.BRIGHTNESS, keys.CJ.CONTRAST, keys.CJ.SATURATION, keys.CJ.HUE)
    crop = (keys.CROP.SIZE, keys.CROP.SCALE, keys.CROP.RATIO)
    padding = (keys.PADDING.MODE, keys.PADDING.SIZE)
    return augment.BatchAugment(
        crop=augment.ResizedCrop(*crop) if keys.CROP.ENABLED else None,
        padding=augment.PadCrop(*padding) if keys.PADDING.ENABLED else None,
        flip=augment.Flip(keys.FLIP.PROB) if keys.FLIP.ENABLED else None,
        cj=augment.ColorJitter(*jitter) if keys.CJ.ENABLED else None,
        affine=augment.Affine() if keys.AFFINE.ENABLED else None,
        augmix=augment.AugMix(keys.AUGMIX.PROB) if keys.AUGMIX.ENABLED else None,
        rea=augment.Erasing(keys.REA.PROB, keys.REA.VALUE) if keys.REA.ENABLED else None,
        rpt=augment.Patch(keys.RPT.PROB) if keys.RPT.ENABLED else None,
    )


def _collate(samples: list[Sample]) -> Batch:
    images, rows, unreadable, lost = zip(*samples, strict=True)
    return Batch(torch.stack(images), torch.tensor(rows), sum(unreadable, []), sum(lost, []))


def _pinned(cfg: CfgNode) -> bool:
    """Page-locked memory is for CUDA, and asking for it would wake CUDA up."""
    return cfg.MODEL.DEVICE.startswith(("auto", "cuda")) and torch.cuda.is_available()


def _workers(cfg: CfgNode) -> int:
    """NUM_WORKERS, but no more than this process's share of the cores."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun says so
    try:
        cores = len(os.sched_getaffinity(0))  # those that this process may use
    except AttributeError:  # macOS and Windows
        cores = os.cpu_count() or 1
    return min(cfg.DATALOADER.NUM_WORKERS, max(1, cores // processes))
