"""Before the first iteration: is all there, do the processes agree, and can such a run learn?"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging import getLogger
from os.path import basename

import torch
from torch import nn

from openanimals.config import CfgNode, ConfigError
from openanimals.config.checks import (
    PK_SAMPLERS,
    batch_problems,
    comparing,
    images_compared,
    instances,
)
from openanimals.data.build import Sets, TrainSet, check_files, load_sets
from openanimals.data.samplers import SAMPLER_REGISTRY
from openanimals.data.transforms import TRANSFORM_REGISTRY
from openanimals.engine.callbacks import CALLBACK_REGISTRY
from openanimals.engine.device import DeviceError, evaluation_dtype, pick_device
from openanimals.engine.matchers import FUSED, matcher_problems, uses_features
from openanimals.engine.trainer import TRAINER_REGISTRY, Trainer
from openanimals.engine.writers import WRITER_REGISTRY
from openanimals.evaluation.build import check_protocol
from openanimals.modeling import LOSS_REGISTRY, unknown_names
from openanimals.solver import OPTIMIZER_REGISTRY, SCHEDULE_REGISTRY
from openanimals.utils import distributed
from openanimals.utils.errors import UserError

logger = getLogger(__name__)

OF_A_MACHINE = (
    "OUTPUT_DIR",
    "DATASETS.ROOT",
    "DATALOADER.NUM_WORKERS",
    "INPUT.CACHE",
    "INPUT.CACHE_DIR",
    "INPUT.CACHE_LIMIT",
    "MODEL.BACKBONE.PRETRAIN_PATH",
)
"""Keys that may differ among the processes of a run, as paths and memory do among machines."""


def prepare(
    cfg: CfgNode, training: bool, problems: Sequence[str] = ()
) -> tuple[torch.device, Sets]:
    """Find the device and the data; what is wrong with either is told in one error.

    Args:
        cfg: the configuration.
        training: whether training images are needed, too.
        problems: what is known to be wrong already.

    Raises:
        UserError: lists all that is wrong.
    """
    problems = [*problems, *matcher_problems(cfg, training)]
    if uses_features(cfg):
        problems += unknown_names(cfg)
    used_in_training = (
        (LOSS_REGISTRY, cfg.MODEL.LOSSES.NAME),
        (SAMPLER_REGISTRY, [cfg.DATALOADER.SAMPLER_TRAIN]),
        (TRANSFORM_REGISTRY, cfg.INPUT.TRANSFORMS),
        (OPTIMIZER_REGISTRY, [cfg.SOLVER.OPT]),
        (SCHEDULE_REGISTRY, [cfg.SOLVER.SCHED]),
        (TRAINER_REGISTRY, [cfg.TRAINER]),
        (CALLBACK_REGISTRY, cfg.CALLBACKS),
        (WRITER_REGISTRY, cfg.WRITERS),
    )
    for registry, names in used_in_training if training else ():
        problems += registry.unknown(names)
    try:
        device = pick_device(cfg.MODEL.DEVICE)
        evaluation_dtype(cfg, device)
    except DeviceError as error:
        problems.append(str(error))
    try:
        sets = load_sets(cfg, train=training or cfg.TEST.MATCHER == FUSED)
        if sets.train and training:
            processes = int(os.environ.get("WORLD_SIZE", "1"))  # that will be joined
            problems += batch_problems(cfg, processes, len(sets.train.identities))
        check_files(cfg, sets)
        for test_set in [*sets.tests, *filter(None, [sets.validation])]:
            check_protocol(cfg, test_set.name, (test_set.query.table, test_set.gallery.table))
    except UserError as error:
        if not problems:
            raise
        problems.append(str(error))
    ConfigError.raise_for(problems)
    return device, sets


@contextmanager
def joined(cfg: CfgNode, sets: Sets, device: torch.device, resume: bool = False) -> Iterator[None]:
    """Join the other processes of the run, if there are any, for the length of the block.

    Raises:
        UserError: they were not started with the same keys and images; names what differs.
    """
    with distributed.process_group(device, cfg.TIMEOUT):
        if distributed.world_size() > 1:
            distributed.check_alike(_facts(cfg, sets, resume))
        yield


def _facts(cfg: CfgNode, sets: Sets, resume: bool) -> dict[str, object]:
    facts = {key: value for key, value in cfg.keys_and_values() if key not in OF_A_MACHINE}
    facts["--resume"] = resume
    parts = {"training": sets.train.images} if sets.train else {}
    for test in sets.tests:
        parts |= {f"{test.name} query": test.query, f"{test.name} gallery": test.gallery}
    for name, images in parts.items():
        rows = images.table.drop(columns="mask").assign(path=images.table["path"].map(basename))
        digest = hashlib.sha256(rows.to_csv().encode()).hexdigest()[:8]
        facts[f"images, {name}"] = f"{len(rows)} of {rows['identity'].nunique()}, digest {digest}"
    return facts


def check_same_weights(model: nn.Module) -> None:
    """Raise unless the model has the same weights in all processes, to the last bit."""
    if distributed.world_size() > 1:
        digest = hashlib.sha256()
        for value in model.state_dict().values():
            digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy())
        distributed.check_alike({"the weights, by digest": digest.hexdigest()[:8]})


def warn_of_batches(cfg: CfgNode, train: TrainSet) -> None:
    """Warn where the images of an individual are too few, or seldom meet in a batch."""
    counts, losses, each = Counter(train.images.identities), comparing(cfg), instances(cfg)
    small = sum(count < each for count in counts.values())
    if small:
        logger.warning(
            "%d training identities have fewer than %d images (DATALOADER.NUM_INSTANCE); "
            "theirs are repeated within a batch%s",
            small,
            each,
            ". All have one: there are no two photographs of an individual to compare"
            if max(counts.values()) == 1
            else "",
        )
    total, seen = len(train.labels), images_compared(cfg, distributed.world_size())
    alone = sum(n * (1 - (n - 1) / max(total - 1, 1)) ** (seen - 1) for n in counts.values())
    if losses and cfg.DATALOADER.SAMPLER_TRAIN not in PK_SAMPLERS and alone > total / 2:
        logger.warning(
            "%s compares images of an individual, but %.0f %% of the images of a batch (%d) are "
            "drawn without another of theirs: set DATALOADER.SAMPLER_TRAIN NaiveIdentitySampler",
            losses,
            100 * alone / total,
            seen,
        )


def warn_of_schedule(trainer: Trainer) -> None:
    """Warn of what of the schedule is too long for this run; see :meth:`Schedule.caveats`."""
    model, names = trainer.model, trainer.cfg.MODEL.FREEZE_LAYERS
    frozen = trainer.frozen_iters if names else 0
    caveats = trainer.schedule.caveats(trainer.cfg.SOLVER.BASE_LR, frozen)
    model.freeze(names)
    learning = any(p.requires_grad for part in (model, trainer.losses) for p in part.parameters())
    model.unfreeze()
    if frozen and not learning:
        caveats.append(
            f"MODEL.FREEZE_LAYERS {list(names)} are all weights: nothing is learnt for "
            f"{min(frozen, trainer.schedule.max_iter)} iterations; name fewer"
        )
    for caveat in caveats:
        logger.warning("schedule: %s", caveat)
