"""What a training would be, told before it starts."""

from openanimals.config import CfgNode
from openanimals.data.build import load_sets
from openanimals.solver import build_schedule


def count_training_images(cfg: CfgNode) -> int:
    """Return how many images training has.

    Raises:
        UserError: the data cannot be found, read or split.
    """
    train = load_sets(cfg).train
    assert train
    return len(train.images)


def describe_schedule(cfg: CfgNode, images: int) -> str:
    """Return in words where warm-up, plateau and decay begin and end, with so many images."""
    schedule = build_schedule(cfg, max(1, images // cfg.SOLVER.IMS_PER_BATCH))
    return "; ".join(schedule.describe(cfg.SOLVER.BASE_LR))
