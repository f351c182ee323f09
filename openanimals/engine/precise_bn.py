"""Precise batch norm: statistics measured over many batches, in place of moving averages."""

from collections.abc import Iterable, Iterator
from functools import partial
from logging import getLogger

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from openanimals.data.loaders import build_train_loader
from openanimals.engine.trainer import Trainer
from openanimals.utils import distributed
from openanimals.utils.reproducibility import generator

logger = getLogger(__name__)

Moments = tuple[Tensor, Tensor]  # means and variances of channels, [C] each


def update_statistics(trainer: Trainer) -> None:
    """Measure the running statistics over TEST.PRECISE_BN.NUM_ITER batches, in place.

    These are the first batches of the training, augmented as training batches are, so the outcome
    depends on the weights alone. The training goes on as if nothing had happened: only what is
    evaluated and saved differs.
    """
    cfg, rank = trainer.cfg, distributed.rank()
    loader = build_train_loader(
        cfg,
        trainer.train_set,
        rank=rank,
        world_size=distributed.world_size(),
        cache=trainer.cache,
    )

    def own_batches() -> Iterator[tuple[Tensor, Tensor]]:
        for number, batch in zip(range(cfg.TEST.PRECISE_BN.NUM_ITER), loader, strict=False):
            trainer.check_readable(batch)
            images = batch.images.to(trainer.device, non_blocking=True)
            draws = generator(cfg.SEED, "precise_bn", number, rank)
            yield trainer.transforms(images, draws), trainer.labels[batch.rows].to(trainer.device)

    if not estimate(trainer.model, own_batches(), trainer.amp_dtype):
        logger.warning("TEST.PRECISE_BN: no layer has statistics that are not frozen")


def estimate(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], amp_dtype: torch.dtype | None = None
) -> int:
    """Set running statistics to the mean and variance of all that a layer sees in these batches.

    Frozen layers and those that keep no statistics of a batch (FrozenBN, GN, instance norm) are
    left alone. Nothing else of the model changes.

    Args:
        model: called in training mode, without gradients.
        batches: images and targets, all of the same size; every process has as many.
        amp_dtype: of mixed precision, None for float32.

    Returns:
        The number of layers that were measured.
    """
    was_training = model.training
    model.train()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    seen: list[list[Moments]] = [[] for _ in norms]
    counters = [norm.num_batches_tracked.clone() for norm in norms]
    hooks = [
        norm.register_forward_pre_hook(partial(_measure, moments))
        for norm, moments in zip(norms, seen, strict=True)
    ]
    try:
        with torch.no_grad():
            for images, targets in batches if norms else ():
                with torch.autocast(images.device.type, amp_dtype, enabled=amp_dtype is not None):
                    model(images, targets)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    own = [tuple(value.cpu() for value in _pool(moments)) for moments in seen]
    processes = distributed.gather(own)
    for norm, counter, moments in zip(norms, counters, zip(*processes, strict=True), strict=True):
        mean, variance = _pool(moments)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.num_batches_tracked.copy_(counter)
    return len(norms)


def _measure(moments: list[Moments], norm: nn.Module, inputs: tuple[Tensor]) -> None:
    """Note the mean and variance of what a layer is given, ``[B, C, ...]``."""
    x = inputs[0].to(norm.running_mean.dtype).transpose(0, 1).flatten(1)  # [C, positions]
    variance, mean = torch.var_mean(x, dim=1, correction=0)
    moments.append((mean, variance))


def _pool(parts: Iterable[Moments]) -> Moments:
    """Return the moments of parts of the same size together."""
    means, variances = (torch.stack(values) for values in zip(*parts, strict=True))
    return means.mean(0), variances.mean(0) + means.var(0, correction=0)
