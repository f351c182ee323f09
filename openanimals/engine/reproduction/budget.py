"""Another number of epochs: every length of a schedule shrinks, or grows, in proportion."""

from typing import Any

from openanimals.config import CfgNode

PUBLISHED_ITERS_PER_EPOCH = 47
"""Of LeopardID2022. Lengths that are published in iterations are a share of this many an epoch."""


def scaled_schedule(published: CfgNode, epochs: int, iters_per_epoch: int) -> list[Any]:
    """Return the ``[KEY, VALUE, ...]`` that train for so many epochs, everything in proportion.

    The published epochs, E, become ``epochs``. Plateau and milestones keep their share of E. So do
    warm-up and freezing; where they are published in iterations, their share is that of
    ``47 E`` iterations, as on LeopardID2022: a share must be of something, and the four species of
    the paper have 23, 47, 59 and 60 iterations an epoch. What was not 0 stays at least 1.

    Args:
        published: the configuration of the method, for its SOLVER keys.
        epochs: to train for.
        iters_per_epoch: of the data that will be trained on.

    Example:
        BoT warms up over 2000 of 120 x 47 iterations. Over 12 epochs of 10 iterations these are
        ``120 * 2000 / 5640 = 42.6``, rounded 43 iterations; its milestones 40 and 90 become 4
        and 9.
    """
    solver = published.SOLVER
    stretch = epochs / solver.MAX_EPOCH

    def in_iterations(epochs_named: int, iters_named: int) -> int:
        published_epochs = epochs_named or iters_named / PUBLISHED_ITERS_PER_EPOCH
        return _scale(published_epochs, stretch * iters_per_epoch)

    scaled = {
        "SOLVER.MAX_EPOCH": epochs,
        "SOLVER.WARMUP_EPOCHS": 0,
        "SOLVER.WARMUP_ITERS": in_iterations(solver.WARMUP_EPOCHS, solver.WARMUP_ITERS),
        "SOLVER.FREEZE_EPOCHS": 0,
        "SOLVER.FREEZE_ITERS": in_iterations(solver.FREEZE_EPOCHS, solver.FREEZE_ITERS),
        "SOLVER.DELAY_EPOCHS": _scale(solver.DELAY_EPOCHS, stretch),
        "SOLVER.STEPS": [_scale(step, stretch) for step in solver.STEPS],
    }
    return [part for pair in scaled.items() for part in pair]


def _scale(length: float, factor: float) -> int:
    return max(1, round(length * factor)) if length else 0
