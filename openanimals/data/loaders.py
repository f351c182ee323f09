"""Loaders of training and test batches, in an order that no worker can change.

Here the keys of a config become data sets, samplers and transforms.
"""

import multiprocessing
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from logging import getLogger
from threading import Event, Thread, Timer
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from openanimals.config import CfgNode, ConfigError
from openanimals.config.checks import batch_problems, train_size
from openanimals.data.build import TrainSet
from openanimals.data.cache import ImageCache
from openanimals.data.catalogue import Catalogue
from openanimals.data.dataset import ReIDDataset
from openanimals.data.image_io import limit_megapixels
from openanimals.data.samplers import (
    SAMPLER_REGISTRY,
    balanced_stream,
    batch_sampler,
    identity_stream,
    shuffled_stream,
)
from openanimals.data.transforms import (
    TRANSFORM_REGISTRY,
    Compose,
    Erasing,
    Flip,
    PadCrop,
    Patch,
    PerImage,
    Transform,
    augmix,
)
from openanimals.utils.errors import UserError
from openanimals.utils.files import expanded
from openanimals.utils.machine import cores, user_cache

logger = getLogger(__name__)

CORES = cores()
GIB = 2**30
LOST_WORKER = re.compile(r"DataLoader worker \(pid|Caught MemoryError in DataL|</torch_|ancdata")


@dataclass
class Batch:
    """Images on their way to the model.

    Attributes:
        images: uint8 ``[B, 3, H, W]``, RGB, in channels-last memory, as convolutions want it.
        rows: ``[B]``, their rows in the catalogue.
        unreadable: by row, messages on images that cannot be read and others stand in for.
        lost: by row, messages on images that cannot be read and nothing stands in for: black.
    """

    images: Tensor
    rows: Tensor
    unreadable: dict[int, str]
    lost: dict[int, str]


class LoaderError(UserError):
    """A worker process was killed, or had no memory to work in."""


@contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Have the loss of a worker process within the block say what to do about it.

    PyTorch raises it wherever the process is that waits for batches, such as in a step.

    Raises:
        LoaderError: names the cause and the key.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not LOST_WORKER.search(str(error)):
            raise
        raise LoaderError(
            f"a process that reads images was lost ({str(error).strip().splitlines()[-1]}). The "
            "system ends one where memory runs out, and batches on their way need room in "
            "/dev/shm: lower DATALOADER.NUM_WORKERS (0: this process reads) or the INPUT.SIZE of "
            "images, or give more memory or, to a container, a larger /dev/shm. A training goes on "
            "with --resume"
        ) from error


class Loader:
    """Batches of a data set: read in worker processes, or gathered from a cache.

    The cache is opened when the first batch is asked for.

    Args:
        cfg: the configuration, of which only what it says of processes and the device counts.
        dataset: reads images.
        sampler: for each batch the rows and numbers of its images.
        cache: has or gets the images decoded; None reads each from its file.

    Attributes:
        unreadable: by row, messages on the images that were black so far as they cannot be read.
    """

    def __init__(
        self,
        cfg: CfgNode,
        dataset: ReIDDataset,
        sampler: Iterable[list[tuple[int, int]]],
        cache: ImageCache | None,
    ) -> None:
        self.dataset, self.sampler, self.cache = dataset, sampler, cache
        # No more processes that read than this process's share of the cores.
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun says so
        self.patience = cfg.TIMEOUT
        self.workers = min(cfg.DATALOADER.NUM_WORKERS, max(1, CORES // here))
        # CUDA copies from page-locked memory without waiting. Asking for it would wake CUDA up.
        cuda = cfg.MODEL.DEVICE.startswith(("auto", "cuda"))
        self.pinned = cuda and torch.cuda.is_available()
        self.unreadable: dict[int, str] = {}
        self.megapixels = cfg.INPUT.MAX_MEGAPIXELS
        limit_megapixels(self.megapixels)

    def __iter__(self) -> Iterator[Batch]:
        cached = self.cache.open(self.dataset) if self.cache is not None else None
        self.dataset.cached = None if cached is None else cached.unreadable
        reads = cached is None or self.dataset.auto_augment_prob > 0
        workers = self.workers if reads else 0
        batches = DataLoader(
            self.dataset,
            batch_size=None,  # the data set makes them
            sampler=self.sampler,
            num_workers=workers,
            pin_memory=self.pinned,
            prefetch_factor=4 if workers else None,
            worker_init_fn=partial(_begin_worker, self.megapixels),
        )
        with naming_lost_workers():
            for images, places, rows, unreadable, lost in self._awaited(batches):
                if cached is not None:
                    read, images = images, cached.take(rows, self.pinned)
                    if places:
                        images[places] = read.to(images.device)
                self.unreadable |= lost
                # Where images get the layout of the model; before it they are [H, W, 3].
                batch = Batch(images.permute(0, 3, 1, 2), rows, unreadable, lost)
                del images
                yield batch
                del batch  # the next one can have its memory

    def _awaited(self, batches: DataLoader) -> Iterator[Any]:
        """Yield what a loader gives; where nothing comes for too long, end its worker processes.

        The loader's own timeout does not end the wait for a tensor of a process that was stopped.
        """
        others = set(multiprocessing.active_children())
        iterator, expired = iter(batches), Event()
        workers = set(multiprocessing.active_children()) - others

        def expire() -> None:
            expired.set()
            logger.warning("no images for %g s (TIMEOUT): ending what reads them", self.patience)
            for worker in workers:  # so that the wait for it fails
                worker.kill()

        while True:
            timer = Timer(self.patience, expire)
            timer.daemon = True
            if workers:
                timer.start()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except Exception as error:
                if not expired.is_set():
                    raise
                raise LoaderError(
                    f"no images have come for {self.patience:g} s (TIMEOUT): a process that reads "
                    "them was stopped, or the disk does not answer. A training goes on with "
                    "--resume"
                ) from error
            finally:
                timer.cancel()
            yield batch
            del batch


def _begin_worker(megapixels: float, _worker: int) -> None:
    """Have a worker process read like the one that it reads for, and end with it, however it ends.

    The parent may be a fork server, which is the default from Python 3.14 on: it hands on no
    limits, and ends only when all its workers have.
    """
    limit_megapixels(megapixels)
    reader = multiprocessing.parent_process()
    assert reader

    def watch() -> None:
        reader.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


@SAMPLER_REGISTRY.register("TrainingSampler")
def _training_sampler(cfg: CfgNode, train: TrainSet) -> Iterator[int]:
    return shuffled_stream(len(train.labels), cfg.DATALOADER.SEED)


@SAMPLER_REGISTRY.register("NaiveIdentitySampler")
def _naive_identity_sampler(cfg: CfgNode, train: TrainSet) -> Iterator[int]:
    batch_size, keys = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER
    return identity_stream(train.labels.tolist(), batch_size, keys.NUM_INSTANCE, keys.SEED)


@SAMPLER_REGISTRY.register("BalancedIdentitySampler")
def _balanced_identity_sampler(cfg: CfgNode, train: TrainSet) -> Iterator[int]:
    batch_size, keys = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER
    labels, cameras = train.labels.tolist(), train.images.column("camera")
    return balanced_stream(labels, cameras, batch_size, keys.NUM_INSTANCE, keys.SEED)


def build_cache(cfg: CfgNode, device: torch.device, *, build: bool = True) -> ImageCache:
    """Return the image cache of a run, as the INPUT keys say.

    ``build`` tells whether it is worth caching images that are not: if they are seen repeatedly.
    """
    keys = cfg.INPUT
    folder = expanded(keys.CACHE_DIR) if keys.CACHE_DIR else user_cache() / "images"
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
    sampler = SAMPLER_REGISTRY.get(cfg.DATALOADER.SAMPLER_TRAIN)
    ConfigError.raise_for(batch_problems(cfg, world_size, len(train.identities)))
    stream = sampler(cfg, train)
    batch_size = cfg.SOLVER.IMS_PER_BATCH
    batches = batch_sampler(stream, batch_size, start=start, rank=rank, world_size=world_size)
    keys = cfg.INPUT
    dataset = ReIDDataset(
        train.images,
        keys.SIZE_TRAIN,
        exact=keys.EXACT_TRAIN,
        masked=keys.BACKGROUND == "mask",
        substitute=True,
        auto_augment_prob=_auto_augment_prob(cfg),
        seed=cfg.SEED,
    )
    return Loader(cfg, dataset, batches, cache)


def build_test_loader(
    cfg: CfgNode,
    images: Catalogue,
    rows: Iterable[int] | None = None,
    *,
    cache: ImageCache | None = None,
) -> Loader:
    """Return the images of a catalogue, or of some of its rows, in this order."""
    keys, size = cfg.INPUT, cfg.TEST.IMS_PER_BATCH
    masked = keys.BACKGROUND == "mask"
    dataset = ReIDDataset(images, keys.SIZE_TEST, exact=keys.EXACT_TEST, masked=masked)
    places = [(row, 0) for row in (range(len(dataset.paths)) if rows is None else rows)]
    batches = [places[start : start + size] for start in range(0, len(places), size)]
    return Loader(cfg, dataset, batches, cache)


def build_transforms(cfg: CfgNode) -> Compose:
    """Return the random augmentation of training batches that the INPUT keys ask for.

    Those of ours run in FastReID's order, and then those of INPUT.TRANSFORMS.

    Raises:
        ValueError: one is not registered, or the padding is as large as the picture.
    """
    keys, bicubic = cfg.INPUT, v2.InterpolationMode.BICUBIC
    size = train_size(cfg)[1]
    if keys.PADDING.ENABLED and min(size) <= keys.PADDING.SIZE:
        raise ConfigError(
            [f"INPUT.PADDING.SIZE is {keys.PADDING.SIZE}, but must be below the sides of {size}"]
        )
    crop = v2.RandomResizedCrop(keys.CROP.SIZE, keys.CROP.SCALE, keys.CROP.RATIO, bicubic)
    jitter = (keys.CJ.BRIGHTNESS, keys.CJ.CONTRAST, keys.CJ.SATURATION, keys.CJ.HUE)
    affine = v2.RandomAffine(degrees=10, scale=(0.9, 1.1), shear=0.1)
    ours: list[tuple[bool, Transform]] = [
        (keys.CROP.ENABLED, PerImage(None, operation=crop)),
        (keys.PADDING.ENABLED, PadCrop(keys.PADDING.MODE, keys.PADDING.SIZE)),
        (keys.FLIP.ENABLED, Flip(keys.FLIP.PROB)),
        (keys.CJ.ENABLED, PerImage(keys.CJ.PROB, operation=v2.ColorJitter(*jitter))),
        (keys.AFFINE.ENABLED, PerImage(None, operation=affine)),
        (keys.AUGMIX.ENABLED, PerImage(keys.AUGMIX.PROB, operation=augmix)),
        (keys.REA.ENABLED, Erasing(keys.REA.PROB, keys.REA.VALUE)),
        (keys.RPT.ENABLED, Patch(keys.RPT.PROB)),
    ]
    own = [TRANSFORM_REGISTRY.get(name)(cfg) for name in keys.TRANSFORMS]
    return Compose([*(transform for enabled, transform in ours if enabled), *own])


def _auto_augment_prob(cfg: CfgNode) -> float:
    return cfg.INPUT.AUTOAUG.PROB if cfg.INPUT.AUTOAUG.ENABLED else 0.0
