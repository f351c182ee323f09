"""The learning rate as a pure function of the iteration: nothing to save, nothing to replay."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from openanimals.utils.registry import Registry

SCHEDULE_REGISTRY: Registry[Callable[..., float]] = Registry("schedule (SOLVER.SCHED)")
"""Pure functions ``f(schedule, iteration, base_lr) -> rate``, asked from the end of warm-up on."""


LONG = 0.25  # share of a run that warm-up, or layers that are frozen, should not exceed


@dataclass(frozen=True)
class Schedule:
    """Warm-up by iteration, then a plateau, then decay by epoch. Everything counts from 0.

    The closed form of the release's schedule (ARBase, arXiv 2410.00204). Let
    ``e = i // iters_per_epoch`` and ``w = warmup_iters``. While ``i < w`` the warm-up factor
    applies. After it, with ``k = #{q < e : (q+1) * iters_per_epoch >= w and q+1 > delay_epochs}``:
    ``eta_min + (base - eta_min) * (1 + cos(pi * k / T_max)) / 2``, with
    ``T_max = max_epoch - max(ceil(w / iters_per_epoch), delay_epochs)``, or
    ``base * gamma ** #{s in steps : k >= s}``.

    Attributes:
        iters_per_epoch: iterations in an epoch.
        max_epoch: epochs in all.
        kind: a name of :data:`SCHEDULE_REGISTRY`.
        warmup_iters: iterations of warm-up.
        warmup_factor: share of the base rate that warm-up starts from, in 0..1.
        warmup_method: ``linear``, ``constant`` or ``exp``.
        delay_epochs: epochs before decay may start.
        eta_min: rate that the cosine ends at.
        steps: milestones of MultiStepLR, in epochs after warm-up and delay.
        gamma: its factor.
        cfg: the configuration, for a schedule with keys of its own.
    """

    iters_per_epoch: int
    max_epoch: int
    kind: str = "CosineAnnealingLR"
    warmup_iters: int = 0
    warmup_factor: float = 0.1
    warmup_method: str = "linear"
    delay_epochs: int = 0
    eta_min: float = 0.0
    steps: Sequence[int] = ()
    gamma: float = 0.1
    cfg: Any = None

    @property
    def max_iter(self) -> int:
        """Iterations in all."""
        return self.max_epoch * self.iters_per_epoch

    @property
    def warmup_epochs(self) -> int:
        """Epochs until warm-up has ended, the last one counted in full."""
        return math.ceil(self.warmup_iters / self.iters_per_epoch)

    @property
    def decay_epoch(self) -> int:
        """First epoch with ``k = 1``; may be ``max_epoch`` or later, and then nothing decays."""
        return max(self.warmup_epochs, self.delay_epochs + 1)

    def lr_at(self, iteration: int, base_lr: float) -> float:
        """Return the rate used at an iteration by a group whose base rate is ``base_lr``."""
        if iteration < self.warmup_iters:
            return base_lr * self._warmup(iteration / self.warmup_iters)
        return SCHEDULE_REGISTRY.get(self.kind)(self, iteration, base_lr)

    def epochs_decayed(self, iteration: int) -> int:
        """Return ``k`` at an iteration."""
        return max(0, iteration // self.iters_per_epoch - self.decay_epoch + 1)

    def _warmup(self, done: float) -> float:
        if self.warmup_method == "constant":
            return self.warmup_factor
        if self.warmup_method == "exp":
            return self.warmup_factor ** (1 - done)
        return self.warmup_factor * (1 - done) + done

    def caveats(self, base_lr: float, frozen_iters: int = 0) -> list[str]:
        """Return what of the schedule is too long for a run of this length, and the key to mend it.

        Args:
            base_lr: the full rate.
            frozen_iters: iterations at the start that some layers are frozen for.
        """
        most, found = self.max_iter, []
        epochs = max(1, self.max_epoch // 12)  # as 10 of 120 epochs
        if self.warmup_iters > LONG * most:
            reached = max(self.lr_at(i, base_lr) for i in (0, most - 1))
            so = f", so the rate gets to {reached:.2g} of {base_lr:.2g} and nothing decays"
            found.append(
                f"warm-up takes {self.warmup_iters} of {most} iterations"
                f"{so if self.warmup_iters >= most else ''}; set SOLVER.WARMUP_EPOCHS {epochs}"
            )
        if frozen_iters > LONG * most:
            found.append(
                f"MODEL.FREEZE_LAYERS are frozen for {min(frozen_iters, most)} of {most} "
                f"iterations; set SOLVER.FREEZE_EPOCHS {epochs}"
            )
        return found

    def describe(self, base_lr: float) -> list[str]:
        """Return, in words, where warm-up, plateau and decay begin and end."""
        last = self.max_iter - 1
        lines = [
            f"{self.max_epoch} epochs of {self.iters_per_epoch} iterations, {self.max_iter} in all"
        ]
        if self.warmup_iters:
            lines.append(
                f"warm-up ({self.warmup_method}) from {self.lr_at(0, base_lr):.3g} to "
                f"{base_lr:.3g} over iterations 0..{self.warmup_iters - 1} "
                f"(until epoch {(self.warmup_iters - 1) // self.iters_per_epoch})"
            )
        if self.warmup_iters > last:
            return [*lines, "training ends before warm-up does; nothing decays"]
        if self.kind == "MultiStepLR":
            drops = [self.decay_epoch - 1 + step for step in self.steps]
            reached = [str(epoch) for epoch in drops if epoch < self.max_epoch]
            decay = f"x {self.gamma:g} at epochs {', '.join(reached)}" if reached else "no decay"
        elif self.kind != "CosineAnnealingLR":
            decay = f"decay by {self.kind}"
        elif self.decay_epoch < self.max_epoch:
            decay = f"cosine from epoch {self.decay_epoch} to {self.max_epoch - 1}"
        else:
            decay = "no decay"
        lines.append(f"then {base_lr:.3g}; {decay}; last rate {self.lr_at(last, base_lr):.3g}")
        return lines


@SCHEDULE_REGISTRY.register("MultiStepLR")
def multi_step(schedule: Schedule, iteration: int, base_lr: float) -> float:
    """Multiply the rate by ``gamma`` at each of ``steps``."""
    epochs = schedule.epochs_decayed(iteration)
    return base_lr * schedule.gamma ** sum(epochs >= step for step in schedule.steps)


@SCHEDULE_REGISTRY.register("CosineAnnealingLR")
def cosine_annealing(schedule: Schedule, iteration: int, base_lr: float) -> float:
    """Follow half a cosine from the base rate to ``eta_min``."""
    epochs = schedule.epochs_decayed(iteration)
    if epochs == 0:
        return base_lr
    t_max = schedule.max_epoch - max(schedule.warmup_epochs, schedule.delay_epochs)
    cosine = (1 + math.cos(math.pi * epochs / t_max)) / 2
    return schedule.eta_min + (base_lr - schedule.eta_min) * cosine
