"""What the benchmarks train: a Trainer on photographs that need not be there, and its step."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from openanimals.config import CfgNode
from openanimals.data.build import TrainSet
from openanimals.data.cache import ImageCache
from openanimals.data.catalogue import Catalogue
from openanimals.data.loaders import Batch
from openanimals.engine.trainer import Trainer


def herd(paths: Sequence[Path], count: int) -> TrainSet:
    """Return a training set of as many images, four of each individual; it repeats the files."""
    rows = range(count)
    table = {"path": [str(paths[row % len(paths)]) for row in rows], "identity": ""}
    table["identity"] = [f"{row // 4:05}" for row in rows]
    return TrainSet.of(Catalogue("photographs", "/", pd.DataFrame(table)))


def trainer(cfg: CfgNode, train: TrainSet, cache: ImageCache | None = None) -> Trainer:
    """Return a trainer on MODEL.DEVICE that is ready for its first step."""
    made = Trainer(cfg, train, torch.device(cfg.MODEL.DEVICE), cache=cache)
    made.begin(frozen=False)
    return made


def step_on(trained: Trainer, images: Tensor) -> Callable[[], object]:
    """Return a call that does a step on images ``[B, 3, H, W]``, as they are."""
    trained.transforms = lambda images, draws: images  # type: ignore[assignment]
    batch = Batch(images, torch.arange(len(images)), {}, {})
    return partial(trained.train_step, batch)
