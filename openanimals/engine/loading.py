"""Weights from a file into a model: ours, FastReID's or the release's, whole or not at all."""

from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from openanimals.config import CfgNode, load, load_text
from openanimals.engine import checkpoint
from openanimals.engine.checkpoint import CheckpointError
from openanimals.modeling import ReIDModel, class_weights, conversion
from openanimals.modeling.config_of_weights import NOT_TOLD, count_classes, fitting_values
from openanimals.modeling.weights import (
    HEAD_CLASSIFIERS,
    ArchitectureError,
    WeightsError,
    fits_any,
    match_state_dict,
)

logger = getLogger(__name__)


class Weights(NamedTuple):
    """What is used of a checkpoint.

    Attributes:
        state: the weights under our names.
        config: the configuration that the checkpoint carries, as YAML; None if it carries none.
        identities: of its classifiers; None if it does not say.
        foreign: whether the names were FastReID's.
        constants: keys of the configuration that the weights themselves hold.
    """

    state: dict[str, Tensor]
    config: str | None = None
    identities: list[str] | None = None
    foreign: bool = False
    constants: Mapping[str, Any] = {}

    def told(self) -> dict[str, Any]:
        """Return the keys that the weights tell, with their likeliest values."""
        fitting = fitting_values(self.state)
        return {**{key: values[0] for key, values in fitting.items()}, **self.constants}

    def describe(self, classifiers: Sequence[str] = HEAD_CLASSIFIERS) -> str:
        """Return a line for the log or a report: how many weights are of what."""
        heads = [key for key in self.state if key.startswith("heads.")]
        classes = [key for key in heads if fits_any(key, classifiers)]
        names = "FastReID's names, renamed" if self.foreign else "our names"
        return (
            f"{len(self.state)} weights under {names}: {len(self.state) - len(heads)} of the "
            f"backbone, {len(heads) - len(classes)} of the heads, {len(classes)} of the "
            f"classifiers ({count_classes(self.state, classifiers)} identities)"
        )


def read_weights(path: str | Path) -> Weights:
    """Read the weights of a checkpoint of ours, of FastReID or of the release. Nothing is executed.

    Raises:
        CheckpointError: the file is not a checkpoint, or damaged.
        WeightsError: it is FastReID's, but of a network that we do not have.
    """
    content = checkpoint.read(path)
    state = content["model"]
    if conversion.is_miewid(state):
        return Weights(conversion.miewid_renamed(state))
    if not conversion.is_foreign(state):
        config, identities = content.get("config"), content.get("identities")
        # Other packages keep other things under this name.
        return Weights(state, config if isinstance(config, str) else None, identities)
    try:
        names = conversion.our_names(state)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    constants = {
        f"MODEL.{name.upper()}": [round(value, 4) for value in state[name].flatten().tolist()]
        for name in conversion.CONSTANTS
        if name in state
    }
    renamed = {names[key]: value for key, value in state.items() if key in names}
    return Weights(renamed, foreign=True, constants=constants)


def load_weights(
    cfg: CfgNode, model: ReIDModel, path: str | Path, identities: Sequence[str] | None = None
) -> None:
    """Load the weights of a checkpoint, the classifiers only if it has the same identities.

    Args:
        cfg: what the model was built from.
        model: filled in place.
        path: a checkpoint of ours, of FastReID or of the release.
        identities: of the model's classifiers, in order.

    Raises:
        ValueError: the file is not a checkpoint, or is one of another architecture.
    """
    weights = read_weights(path)
    state, classifiers = fitting_state(cfg, model, weights, path), classifiers_of(cfg)
    if weights.identities is None or weights.identities != identities:
        # Classes of the same number are other animals.
        state = {key: state[key] for key in state if not fits_any(key, classifiers)}
    model.load_state_dict(state, strict=False)
    logger.info("%s: %s", path, weights.describe(classifiers))
    skipped = len(weights.state) - len(state)
    logger.info(
        "%d of the model's %d weights loaded%s",
        len(state),
        len(model.state_dict()),
        f"; {skipped} classifiers left out (not needed, or of others)" if skipped else "",
    )


def fitting_state(
    cfg: CfgNode, model: ReIDModel, weights: Weights, path: str | Path
) -> dict[str, Tensor]:
    """Return the weights that a model can load: all of them, but for classifiers of other sizes.

    Raises:
        ArchitectureError: they are of another model; says what differs, and what would fit.
    """
    ours = dict(cfg.keys_and_values())
    for key, theirs in weights.constants.items():
        if not torch.allclose(torch.tensor(theirs), torch.tensor(ours[key]), atol=1e-2):
            raise ArchitectureError(
                f"{path} was trained with {key} {_shell(theirs)}, and the configuration has "
                f"{_shell(ours[key])}"
            )
    return match(cfg, model, weights.state, path, ignore=classifiers_of(cfg))


def classifiers_of(cfg: CfgNode) -> tuple[str, ...]:
    """Patterns of classifiers: those of the configuration's heads, and those of other models."""
    return (*HEAD_CLASSIFIERS, *class_weights(cfg))


def match(
    cfg: CfgNode,
    model: ReIDModel,
    state: Mapping[str, Tensor],
    path: str | Path,
    ignore: Sequence[str] = (),
) -> dict[str, Tensor]:
    """Do as :func:`match_state_dict`, and say in an error which configuration would fit."""
    try:
        return match_state_dict(model, state, ignore=ignore, source=str(path))
    except ArchitectureError as error:
        raise ArchitectureError(f"{error}. {_advice(cfg, state)}") from error


def _advice(cfg: CfgNode, state: Mapping[str, Tensor]) -> str:
    """Say which configuration weights would fit."""
    if "conv1.weight" in state:
        return "They look like a pre-trained backbone: give them as MODEL.BACKBONE.PRETRAIN_PATH"
    ours = dict(cfg.keys_and_values())
    changes = {k: fit[0] for k, fit in fitting_values(state).items() if ours[k] not in fit}
    if not changes:
        return "Which configuration they fit cannot be told from them"
    pairs = " ".join(f"{key} {_shell(value)}" for key, value in changes.items())
    return f"They fit a configuration with {pairs}"


def _shell(value: Any) -> str:
    return f'"{value}"' if isinstance(value, list) else str(value)


def config_from_checkpoint(path: str | Path, overrides: Sequence[Any] = ()) -> CfgNode:
    """Return the configuration of a checkpoint: the one that it carries, or what its weights tell.

    Args:
        path: a checkpoint of ours, of FastReID or of the release.
        overrides: ``[KEY, VALUE, ...]`` that change it.

    Raises:
        ValueError: the file is no checkpoint, or the overrides are wrong (lists every mistake).
        CheckpointError: it carries no configuration, and is of a network that we cannot tell.
    """
    weights = read_weights(path)
    if weights.config is not None:
        # Beside the checkpoint, and not where its configuration, perhaps a stranger's, says.
        where = ["OUTPUT_DIR", str(Path(path).expanduser().parent)]
        return load_text(weights.config, [*where, *overrides], where=str(path), trusted=False)
    values = weights.told()
    if "MODEL.BACKBONE.NAME" not in values:
        raise CheckpointError(
            f"{path} carries no configuration, and its weights do not tell one; name it by "
            "--config-file, or as the first argument of load_model"
        )
    pairs = [part for pair in values.items() for part in pair]
    cfg = load(None, [*pairs, *overrides])
    given = {*weights.constants, *overrides[::2]}
    if values.get("MODEL.HEADS.POOL_LAYER") == "GeneralizedMeanPoolingP":
        given.add("MODEL.HEADS.POOL_LAYER")
    now = dict(cfg.keys_and_values())
    assumed = ", ".join(f"{key} {_shell(now[key])}" for key in NOT_TOLD if key not in given)
    logger.warning(
        "%s carries no configuration; its weights tell %s. They do not tell, so it is assumed: "
        "%s. Name the configuration to be sure",
        path,
        " ".join(f"{key} {_shell(value)}" for key, value in values.items()),
        assumed,
    )
    return cfg
