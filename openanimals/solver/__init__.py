"""How the parameters are updated: groups, optimiser, clipping, and the learning rate."""

from openanimals.solver.build import build_optimizer, build_schedule, clip_gradients
from openanimals.solver.schedule import Schedule

__all__ = ["Schedule", "build_optimizer", "build_schedule", "clip_gradients"]
