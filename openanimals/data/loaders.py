"""Loaders of training and test batches, in an order that no worker can change.

Here the keys of a config become data sets, samplers and transforms.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from openanimals.config import CfgNode, ConfigError
from openanimals.config.checks import batch_problems
from openanimals.data import samplers
from openanimals.data.build import TrainSet
from openanimals.data.cache import ImageCache
from openanimals.data.catalogue import Catalogue
from openanimals.data.dataset import ReIDDataset, Sample
from openanimals.data.erasing import Erasing, Patch
from openanimals.data.samplers import SAMPLER_REGISTRY, BatchSampler
from openanimals.data.transforms import (
    TRANSFORM_REGISTRY,
    Affine,
    AugMix,
    ColorJitter,
    Compose,
    Flip,
    PadCrop,
    ResizedCrop,
    Transform,
)
from openanimals.utils.machine import cores, user_cache

logger = getLogger(__name__)

GIB = 2**30


@dataclass
class Batch:
    """Images on their way to the model.

    Attributes:
        images: uint8 ``[B, 3, H, W]``, RGB, in channels-last memory, as convolutions want it.
        rows: ``[B]``, their rows in the catalogue.
        unreadable: messages on images that could not be read; others stand in for them.
        lost: messages on images that could not be read and that nothing stands in for: black.
    """

    images: Tensor
    rows: Tensor
    unreadable: list[str]
    lost: list[str]


class Loader:
    """Batches of a data set: read in worker processes, or gathered from a cache.

    The cache is opened when the first batch is asked for.

    Args:
        dataset: reads single images.
        sampler: for each batch the rows and numbers of its images.
        workers: processes that read; 0 reads in this one.
        pinned: put the images into page-locked memory, from where CUDA copies without waiting.
        cache: has or gets the images decoded; None reads each from its file.

    Attributes:
        unreadable: messages on the images that were black so far because they cannot be read.
    """

    def __init__(
        self,
        dataset: ReIDDataset,
        sampler: Iterable[list[tuple[int, int]]],
        *,
        workers: int,
        pinned: bool,
        cache: ImageCache | None = None,
    ) -> None:
        self.dataset, self.sampler = dataset, sampler
        self.workers, self.pinned, self.cache = workers, pinned, cache
        self.unreadable: list[str] = []

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]  # of test images; training has no end

    def __iter__(self) -> Iterator[Batch]:
        cached = self.cache.open(self.dataset) if self.cache is not None else None
        self.dataset.cached = None if cached is None else cached.unreadable
        reads = cached is None or self.dataset.auto_augment_prob > 0
        workers = self.workers if reads else 0
        batches = DataLoader(
            self.dataset,
            batch_sampler=self.sampler,  # type: ignore[arg-type]
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=self.pinned,
            prefetch_factor=4 if workers else None,
        )
        for images, places, (rows, unreadable, lost) in batches:
            if cached is not None:
                read, images = images, cached.take(rows, self.pinned)
                if places:
                    images[places] = read.to(images.device)
            self.unreadable += lost
            # Where images get the layout of the model; before it they are [H, W, 3].
            batch = Batch(images.permute(0, 3, 1, 2), rows, unreadable, lost)
            del images
            yield batch
            del batch  # the next one can have its memory


def _collate(samples: list[Sample]) -> tuple[Tensor, list[int], tuple[Tensor, list, list]]:
    """Return the images that were read, their places in the batch, and what is told of all."""
    places = [place for place, sample in enumerate(samples) if sample.image is not None]
    images = [torch.from_numpy(samples[place].image) for place in places]
    rows = torch.tensor([sample.row for sample in samples])
    unreadable = [message for sample in samples for message in sample.unreadable]
    lost = [message for sample in samples for message in sample.lost]
    return torch.stack(images) if images else torch.empty(0), places, (rows, unreadable, lost)


@SAMPLER_REGISTRY.register("TrainingSampler")
def _training_sampler(cfg: CfgNode, train: TrainSet) -> Iterator[int]:
    return samplers.shuffled_stream(len(train.labels), cfg.DATALOADER.SEED)


@SAMPLER_REGISTRY.register("NaiveIdentitySampler")
def _naive_identity_sampler(cfg: CfgNode, train: TrainSet) -> Iterator[int]:
    keys, batch_size = cfg.DATALOADER, cfg.SOLVER.IMS_PER_BATCH
    labels = train.labels.tolist()
    return samplers.identity_stream(labels, batch_size, keys.NUM_INSTANCE, keys.SEED)


@SAMPLER_REGISTRY.register("BalancedIdentitySampler")
def _balanced_identity_sampler(cfg: CfgNode, train: TrainSet) -> Iterator[int]:
    keys, batch_size = cfg.DATALOADER, cfg.SOLVER.IMS_PER_BATCH
    labels, cameras = train.labels.tolist(), train.images.column("camera")
    return samplers.balanced_stream(labels, cameras, batch_size, keys.NUM_INSTANCE, keys.SEED)


def build_cache(cfg: CfgNode, device: torch.device, *, build: bool = True) -> ImageCache:
    """Return the image cache of a run, as the INPUT keys say.

    Args:
        cfg: the configuration.
        device: the model's.
        build: whether it is worth caching images that are not: if they are seen repeatedly.
    """
    keys = cfg.INPUT
    folder = Path(keys.CACHE_DIR).expanduser() if keys.CACHE_DIR else user_cache() / "images"
    if build and keys.CACHE != "off" and _auto_augment_prob(cfg):
        logger.info(
            "cache: AutoAugment works on whole photographs, so the images that it changes (%g %%) "
            "are read from their files; the others come from the cache",
            100 * _auto_augment_prob(cfg),
        )
    return ImageCache(keys.CACHE, keys.CACHE_LIMIT * GIB, folder, device, build=build)


def build_train_loader(
    cfg: CfgNode,
    train: TrainSet,
    *,
    start: int = 0,
    rank: int = 0,
    world_size: int = 1,
    cache: ImageCache | None = None,
) -> Loader:
    """Return the endless training batches of one process, from iteration ``start`` on.

    Raises:
        ValueError: there is no such sampler, the batch cannot be made of P identities with K
            images, or it cannot be shared among the processes.
    """
    stream = SAMPLER_REGISTRY.get(cfg.DATALOADER.SAMPLER_TRAIN)(cfg, train)
    ConfigError.raise_for(batch_problems(cfg, world_size))
    sampler = BatchSampler(
        stream, cfg.SOLVER.IMS_PER_BATCH, start=start, rank=rank, world_size=world_size
    )
    dataset = ReIDDataset(
        train.images,
        cfg.INPUT.SIZE_TRAIN,
        exact=cfg.INPUT.EXACT_TRAIN,
        masked=cfg.INPUT.BACKGROUND == "mask",
        substitute=True,
        auto_augment_prob=_auto_augment_prob(cfg),
        seed=cfg.SEED,
    )
    return Loader(dataset, sampler, workers=_workers(cfg), pinned=_pinned(cfg), cache=cache)


def build_test_loader(
    cfg: CfgNode,
    images: Catalogue,
    rows: Iterable[int] | None = None,
    *,
    cache: ImageCache | None = None,
) -> Loader:
    """Return the images of a catalogue, or of some of its rows, in this order."""
    dataset = ReIDDataset(
        images,
        cfg.INPUT.SIZE_TEST,
        exact=cfg.INPUT.EXACT_TEST,
        masked=cfg.INPUT.BACKGROUND == "mask",
    )
    places = [(row, 0) for row in (range(len(images)) if rows is None else rows)]
    size = cfg.TEST.IMS_PER_BATCH
    sampler = [places[start : start + size] for start in range(0, len(places), size)]
    return Loader(dataset, sampler, workers=_workers(cfg), pinned=_pinned(cfg), cache=cache)


def build_transforms(cfg: CfgNode) -> Compose:
    """Return the random augmentation of training batches that the INPUT keys ask for.

    Those of ours run in FastReID's order, and then those of INPUT.TRANSFORMS.

    Raises:
        ValueError: INPUT.TRANSFORMS names one that is not registered.
    """
    keys = cfg.INPUT
    jitter = (keys.CJ.PROB, keys.CJ.BRIGHTNESS, keys.CJ.CONTRAST, keys.CJ.SATURATION, keys.CJ.HUE)
    ours: list[tuple[bool, Transform]] = [
        (keys.CROP.ENABLED, ResizedCrop(keys.CROP.SIZE, keys.CROP.SCALE, keys.CROP.RATIO)),
        (keys.PADDING.ENABLED, PadCrop(keys.PADDING.MODE, keys.PADDING.SIZE)),
        (keys.FLIP.ENABLED, Flip(keys.FLIP.PROB)),
        (keys.CJ.ENABLED, ColorJitter(*jitter)),
        (keys.AFFINE.ENABLED, Affine()),
        (keys.AUGMIX.ENABLED, AugMix(keys.AUGMIX.PROB)),
        (keys.REA.ENABLED, Erasing(keys.REA.PROB, keys.REA.VALUE)),
        (keys.RPT.ENABLED, Patch(keys.RPT.PROB)),
    ]
    own = [TRANSFORM_REGISTRY.get(name)(cfg) for name in keys.TRANSFORMS]
    return Compose([*(transform for enabled, transform in ours if enabled), *own])


def _auto_augment_prob(cfg: CfgNode) -> float:
    return cfg.INPUT.AUTOAUG.PROB if cfg.INPUT.AUTOAUG.ENABLED else 0.0


def _pinned(cfg: CfgNode) -> bool:
    """Page-locked memory is for CUDA, and asking for it would wake CUDA up."""
    return cfg.MODEL.DEVICE.startswith(("auto", "cuda")) and torch.cuda.is_available()


def _workers(cfg: CfgNode) -> int:
    """NUM_WORKERS, but no more than this process's share of the cores."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun says so
    return min(cfg.DATALOADER.NUM_WORKERS, max(1, cores() // processes))
