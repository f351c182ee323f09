"""How the parameters are updated: groups, optimiser, clipping, and the learning rate."""

from openanimals.solver.build import (
    OPTIMIZER_REGISTRY,
    build_optimizer,
    build_schedule,
    clip_gradients,
)
from openanimals.solver.schedule import SCHEDULE_REGISTRY, Schedule

__all__ = [
    "OPTIMIZER_REGISTRY",
    "SCHEDULE_REGISTRY",
    "Schedule",
    "build_optimizer",
    "build_schedule",
    "clip_gradients",
]
