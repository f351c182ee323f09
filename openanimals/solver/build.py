"""From the SOLVER keys to an optimiser and a schedule."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import nn

from openanimals.config import CfgNode
from openanimals.solver.schedule import SCHEDULE_REGISTRY, Schedule
from openanimals.utils.registry import Registry

Groups = list[dict[str, Any]]

OPTIMIZER_REGISTRY: Registry[Callable[[Groups, CfgNode], torch.optim.Optimizer]] = Registry(
    "optimizer (SOLVER.OPT)"
)
"""Functions ``f(groups, cfg) -> Optimizer``; each group has its parameters, rate and decay."""

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def build_optimizer(
    cfg: CfgNode, model: nn.Module, losses: nn.Module | None = None
) -> torch.optim.Optimizer:
    """Return SOLVER.OPT over the parameters that will ever be trained, in as few groups as differ.

    A parameter's rate is BASE_LR, times BIAS_LR_FACTOR for a bias, times HEADS_LR_FACTOR in the
    heads. Its decay is WEIGHT_DECAY, WEIGHT_DECAY_BIAS for a bias (one of a norm layer too, as the
    release has it), WEIGHT_DECAY_NORM for other parameters of norm layers. Each group keeps its
    base rate as ``initial_lr``. Parameters of losses come last and follow the same rules.
    """
    solver = cfg.SOLVER
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    learners = [model] if losses is None else [model, losses]
    for module_name, module in chain.from_iterable(part.named_modules() for part in learners):
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            rate, decay = solver.BASE_LR, solver.WEIGHT_DECAY
            if name == "bias":
                rate, decay = rate * solver.BIAS_LR_FACTOR, solver.WEIGHT_DECAY_BIAS
            elif isinstance(module, NORMS):
                decay = solver.WEIGHT_DECAY_NORM
            if module_name.split(".")[0] == "heads":
                rate *= solver.HEADS_LR_FACTOR
            groups[rate, decay].append(parameter)
    options = [
        {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
    return OPTIMIZER_REGISTRY.get(solver.OPT)(options, cfg)


@OPTIMIZER_REGISTRY.register("Adam")
def _adam(groups: Groups, cfg: CfgNode) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, fused=True)


@OPTIMIZER_REGISTRY.register("AdamW")
def _adamw(groups: Groups, cfg: CfgNode) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, fused=True)


@OPTIMIZER_REGISTRY.register("SGD")
def _sgd(groups: Groups, cfg: CfgNode) -> torch.optim.Optimizer:
    momentum, nesterov = cfg.SOLVER.MOMENTUM, cfg.SOLVER.NESTEROV
    optimizer = torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, fused=True)
    if momentum:  # fused, it cannot step where some have one and others, frozen until now, have not
        for parameter in chain.from_iterable(group["params"] for group in optimizer.param_groups):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def build_schedule(cfg: CfgNode, iters_per_epoch: int) -> Schedule:
    """Return the schedule of the SOLVER keys for epochs of so many iterations."""
    solver = cfg.SOLVER
    SCHEDULE_REGISTRY.get(solver.SCHED)  # now, not after warm-up
    return Schedule(
        iters_per_epoch=iters_per_epoch,
        max_epoch=solver.MAX_EPOCH,
        kind=solver.SCHED,
        warmup_iters=solver.WARMUP_EPOCHS * iters_per_epoch or solver.WARMUP_ITERS,
        warmup_factor=solver.WARMUP_FACTOR,
        warmup_method=solver.WARMUP_METHOD,
        delay_epochs=solver.DELAY_EPOCHS,
        eta_min=solver.ETA_MIN_LR,
        steps=tuple(solver.STEPS),
        gamma=solver.GAMMA,
        cfg=cfg,
    )


def clip_gradients(
    parameters: Iterable[nn.Parameter], kind: str, limit: float, norm_type: float
) -> None:
    """Clip gradients in place, each parameter's on its own (as FastReID does).

    Args:
        parameters: those without a gradient are passed over.
        kind: ``norm`` (scale each gradient down to the norm ``limit``) or ``value`` (clamp).
        limit: the norm, or the largest absolute value.
        norm_type: the p of the p-norm.
    """
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if kind == "norm":
            nn.utils.clip_grad_norm_(parameter, limit, norm_type)
        else:
            nn.utils.clip_grad_value_(parameter, limit)
