"""Checkpoints of FastReID and of the release into ours, and ours into theirs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from openanimals.config import CfgNode, load, without_pretraining
from openanimals.engine import checkpoint
from openanimals.engine.checkpoint import CheckpointError
from openanimals.engine.loading import Weights, config_from_checkpoint, fitting_state, read_weights
from openanimals.modeling import build_model, conversion
from openanimals.modeling.config_of_weights import count_classes
from openanimals.modeling.weights import WeightsError
from openanimals.utils.files import expanded


def convert(
    source: str | Path,
    target: str | Path,
    config_files: Sequence[str | Path] = (),
    overrides: Sequence[Any] = (),
) -> str:
    """Write a checkpoint of FastReID's or the release's as one of ours, or one of ours as theirs.

    The direction follows from the names in the file. Ours carries a configuration and can be
    evaluated as it is; theirs is ``{"model": state_dict}``, which FastReID takes as MODEL.WEIGHTS.

    Args:
        source: the checkpoint to read; nothing in it is executed.
        target: the file to write, which must not be there yet.
        config_files: what the model was trained with. Without, a checkpoint of ours says so
            itself, and FastReID's weights tell most of it.
        overrides: ``[KEY, VALUE, ...]`` that change it.

    Returns:
        A report: what was read, and what was written.

    Raises:
        ValueError: the file is no checkpoint or does not fit the configuration, the other side
            has no such network, or the target is there already.
    """
    target = expanded(target)
    if target.exists():
        raise CheckpointError(f"{target} is there already: choose another name, or move it away")
    weights = read_weights(source)
    cfg = (
        load(config_files, overrides) if config_files else config_from_checkpoint(source, overrides)
    )
    with torch.device("meta"):  # no memory for weights: names and shapes are compared
        model = build_model(without_pretraining(cfg), count_classes(weights.state))
    fitting_state(cfg, model, weights, source)
    if weights.foreign:
        content = {"format": checkpoint.FORMAT, "model": weights.state, "identities": None}
        content["config"] = cfg.dump()
        if not config_files:  # of the other keys nothing is known, so that they stay open
            values, known = dict(cfg.keys_and_values()), [*weights.told(), *overrides[::2]]
            content["config"] = yaml.safe_dump({k: values[k] for k in known if k in values})
        written = f"ours. To evaluate it: --eval-only MODEL.WEIGHTS {target}"
    else:
        content = {"model": _renamed(cfg, weights, source)}
        written = "FastReID's, for its MODEL.WEIGHTS"
    checkpoint.write(target, content)
    return f"{source}: {weights.describe()}\n{target}: written as {written}"


def _renamed(cfg: CfgNode, weights: Weights, source: str | Path) -> dict[str, torch.Tensor]:
    try:
        names = conversion.their_names(weights.state)
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from error
    if len(cfg.MODEL.HEADS.BRANCHES) > 1 and cfg.MODEL.HEADS.STRIPES != "rows":
        raise WeightsError(
            f"{source}: its stripes are {cfg.MODEL.HEADS.STRIPES} (MODEL.HEADS.STRIPES), and "
            "FastReID's are always rows"
        )
    return {names[key]: value for key, value in weights.state.items()}
