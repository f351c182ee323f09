"""Loaders of training and test batches, in an order that no worker can change."""

import os
from collections.abc import Iterable, Iterator
from logging import getLogger
from pathlib import Path

import torch

from openanimals.config import CfgNode
from openanimals.data import transforms
from openanimals.data.batches import Batches, Draw, Draws
from openanimals.data.build import TrainSet
from openanimals.data.catalogue import Catalogue
from openanimals.data.image_cache import GIB, ImageCache
from openanimals.data.photographs import Photographs
from openanimals.data.samplers import balanced_stream, batches, identity_stream, shuffled_stream
from openanimals.utils.errors import UserError
from openanimals.utils.machine import cores, user_cache

logger = getLogger(__name__)


def build_cache(cfg: CfgNode, device: torch.device, *, build: bool = True) -> ImageCache:
    """Return where the ready images of a run are kept, as the INPUT keys say.

    Args:
        cfg: the configuration.
        device: the model's.
        build: whether it is worth making images ready that are not: if they are seen repeatedly.
    """
    keys = cfg.INPUT
    folder = Path(keys.CACHE_DIR).expanduser() if keys.CACHE_DIR else user_cache() / "images"
    if build and keys.CACHE != "off" and _auto_augment_prob(cfg):
        logger.info(
            "cache: AutoAugment works on whole photographs, so the draws that it changes (%g %%) "
            "are read from their files; the others come from the cache",
            100 * _auto_augment_prob(cfg),
        )
    return ImageCache(keys.CACHE, keys.CACHE_LIMIT * GIB, folder, device, build=build)


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

    def __iter__(self) -> Iterator[list[Draw]]:
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
        raise UserError(
            f"SOLVER.IMS_PER_BATCH ({batch_size}) must be a multiple of DATALOADER.NUM_INSTANCE "
            f"({instances}) x {world_size} processes, so that each process gets whole identities"
        )
    labels = train.labels.tolist()
    if sampler == "BalancedIdentitySampler":
        cameras = train.images.column("camera")
        return balanced_stream(labels, cameras, batch_size, instances, seed)
    return identity_stream(labels, batch_size, instances, seed)


def build_train_loader(
    cfg: CfgNode,
    train: TrainSet,
    *,
    start: int = 0,
    rank: int = 0,
    world_size: int = 1,
    cache: ImageCache | None = None,
) -> Batches:
    """Return the endless training batches of one process, from iteration ``start`` on.

    Raises:
        ValueError: the batch cannot be made of P identities with K images, or not be shared
            among the processes.
    """
    photographs = Photographs.of(
        train.images,
        cfg.INPUT.SIZE_TRAIN,
        exact=cfg.INPUT.EXACT_TRAIN,
        masked=cfg.INPUT.BACKGROUND == "mask",
    )
    draws = Draws(
        photographs,
        train.images.identities,
        auto_augment_prob=_auto_augment_prob(cfg),
        seed=cfg.SEED,
        substitute=True,
    )
    sampler = TrainBatches(cfg, train, start, rank, world_size)
    return Batches(draws, sampler, workers=_workers(cfg), pinned=_pinned(cfg), cache=cache)


def build_test_loader(
    cfg: CfgNode,
    images: Catalogue,
    rows: Iterable[int] | None = None,
    *,
    cache: ImageCache | None = None,
) -> Batches:
    """Return the images of a catalogue, or of some of its rows, in this order."""
    photographs = Photographs.of(
        images,
        cfg.INPUT.SIZE_TEST,
        exact=cfg.INPUT.EXACT_TEST,
        masked=cfg.INPUT.BACKGROUND == "mask",
    )
    draws = [(row, 0) for row in (range(len(images)) if rows is None else rows)]
    size = cfg.TEST.IMS_PER_BATCH
    sampler = [draws[start : start + size] for start in range(0, len(draws), size)]
    reader = Draws(photographs, images.identities)
    return Batches(reader, sampler, workers=_workers(cfg), pinned=_pinned(cfg), cache=cache)


def build_transforms(cfg: CfgNode) -> transforms.BatchTransforms:
    """Return the random augmentation of training batches that the INPUT keys ask for."""
    keys = cfg.INPUT
    jitter = (keys.CJ.PROB, keys.CJ.BRIGHTNESS, keys.CJ.CONTRAST, keys.CJ.SATURATION, keys.CJ.HUE)
    crop = (keys.CROP.SIZE, keys.CROP.SCALE, keys.CROP.RATIO)
    padding = (keys.PADDING.MODE, keys.PADDING.SIZE)
    return transforms.BatchTransforms(
        crop=transforms.ResizedCrop(*crop) if keys.CROP.ENABLED else None,
        padding=transforms.PadCrop(*padding) if keys.PADDING.ENABLED else None,
        flip=transforms.Flip(keys.FLIP.PROB) if keys.FLIP.ENABLED else None,
        cj=transforms.ColorJitter(*jitter) if keys.CJ.ENABLED else None,
        affine=transforms.Affine() if keys.AFFINE.ENABLED else None,
        augmix=transforms.AugMix(keys.AUGMIX.PROB) if keys.AUGMIX.ENABLED else None,
        rea=transforms.Erasing(keys.REA.PROB, keys.REA.VALUE) if keys.REA.ENABLED else None,
        rpt=transforms.Patch(keys.RPT.PROB) if keys.RPT.ENABLED else None,
    )


def _auto_augment_prob(cfg: CfgNode) -> float:
    return cfg.INPUT.AUTOAUG.PROB if cfg.INPUT.AUTOAUG.ENABLED else 0.0


def _pinned(cfg: CfgNode) -> bool:
    """Page-locked memory is for CUDA, and asking for it would wake CUDA up."""
    return cfg.MODEL.DEVICE.startswith(("auto", "cuda")) and torch.cuda.is_available()


def _workers(cfg: CfgNode) -> int:
    """NUM_WORKERS, but no more than this process's share of the cores."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun says so
    return min(cfg.DATALOADER.NUM_WORKERS, max(1, cores() // processes))
