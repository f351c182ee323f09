"""From the SOLVER keys to an optimiser and a schedule."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain

import torch
from torch import nn

from openanimals.config import CfgNode
from openanimals.solver.schedule import Schedule

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
    if solver.OPT == "SGD":
        return torch.optim.SGD(
            options, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV, fused=True
        )
    return {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[solver.OPT](options, fused=True)


def build_schedule(cfg: CfgNode, iters_per_epoch: int) -> Schedule:
    """Return the schedule of the SOLVER keys for epochs of so many iterations."""
    solver = cfg.SOLVER
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
