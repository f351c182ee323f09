"""A model for use from Python: from a configuration, a checkpoint or the folder of a run."""

from collections.abc import Sequence
from logging import getLogger
from pathlib import Path

import torch

from openanimals.config import CfgNode, load, without_pretraining
from openanimals.engine.checkpoint import CheckpointError, RunFolder
from openanimals.engine.device import pick_device, place
from openanimals.engine.loading import config_from_checkpoint, load_weights
from openanimals.modeling import ReIDModel, build_model
from openanimals.utils.errors import UserError

logger = getLogger(__name__)


def load_model(
    source: str | Path | Sequence[str | Path],
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
) -> ReIDModel:
    """Return a model that is ready to compute features.

    Args:
        source: one of

            - a YAML file, or a list of them merged in order. Without weights, its MODEL.WEIGHTS
              count, and without those the pre-trained backbone, if MODEL.BACKBONE.PRETRAIN says
              so;
            - a checkpoint, of this package, of FastReID or of the release. If it carries no
              configuration, the architecture is told from the weights, and a warning lists what
              they do not tell;
            - the folder of a run: its ``model_final.pth``; if there is none, for instance since
              the run was interrupted, the checkpoint that was written last; if there is only
              ``model_best.pth``, that one.
        weights: a checkpoint to take the weights from, whatever the source says.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto".

    Returns:
        The model in eval mode: RGB images ``[B, 3, H, W]`` in 0..255, uint8 or float, in;
        features ``[B, D]`` out. H and W should be the configuration's INPUT.SIZE_TEST.

    Raises:
        ValueError: the source, the weights or the device cannot be had, or do not fit.

    Example:
        >>> model = openanimals.load_model("logs/demo")
        >>> features = model(images)
    """
    cfg, path = _find(source, ["MODEL.DEVICE", str(device)])
    path = weights or path or cfg.MODEL.WEIGHTS
    place_on = pick_device(cfg.MODEL.DEVICE)
    if path:
        cfg = without_pretraining(cfg)
    elif not cfg.MODEL.BACKBONE.PRETRAIN:
        logger.warning("the weights are random: %s names none, and no pre-training", source)
    model = build_model(cfg, num_classes=0)
    if path:
        load_weights(cfg, model, path)
    place(model, place_on)
    return model.eval()


def _find(
    source: str | Path | Sequence[str | Path], overrides: Sequence[str]
) -> tuple[CfgNode, Path | None]:
    """Return the configuration of a source, and its checkpoint if it is one."""
    if not source:
        raise UserError(
            f"nothing to load: the source is {source!r}; name a YAML file, a "
            "checkpoint or the folder of a run"
        )
    if not isinstance(source, str | Path):
        return load(source, overrides), None
    path = Path(source).expanduser()
    if path.is_dir():
        found = RunFolder(path).finished()
        if found is None:
            raise CheckpointError(f"{path} is not the folder of a run: it has no model_*.pth")
        path = found
    elif path.suffix in (".yml", ".yaml"):
        return load(path, overrides), None
    return config_from_checkpoint(path, overrides), path
