"""From what a command line names to matchers; the one place here that knows configurations."""

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from openanimals.config import load
from openanimals.data.build import load_sets
from openanimals.data.catalogue import Catalogue
from openanimals.engine.checkpoint import RunFolder
from openanimals.engine.device import pick_device
from openanimals.engine.loading import config_from_checkpoint
from openanimals.engine.matchers import FEATURES, FUSED, LOCAL, single_matcher
from openanimals.engine.predictor import Predictor
from openanimals.identification.kept_features import KeptFeatures
from openanimals.identification.learning import HeldOut
from openanimals.matching.matcher import MATCHER_REGISTRY, Matcher
from openanimals.utils.errors import UserError
from openanimals.utils.files import expanded, read_json
from openanimals.utils.registry import did_you_mean

HELD_OUT, PARTS = "held_out", "held_out.json"  # a folder in that of a run, and a file in that one
STEPS = 500  # of a training, at least: of a few photographs an epoch is but a few steps


def build_matchers(
    matcher: str,
    model: str | Path | None,
    catalogue: Path,
    *,
    device: str = "auto",
    backend: str = "auto",
    overrides: Sequence[Any] = (),
) -> tuple[dict[str, Matcher], str]:
    """Return the matchers that identify, by name, and what tells them from others.

    Args:
        matcher: ``"local"`` (spots and stripes, without training), ``"cosine"`` (a network's
            features), ``"fusion"`` (both), or a registered one; "": fusion if there is a model,
            else local.
        model: a run, a checkpoint or a YAML file, for all but local.
        catalogue: its file, beside which features are kept.
        device: of the network.
        backend: of the network, see :class:`Predictor`.
        overrides: ``[KEY, VALUE, ...]`` for the configuration, such as MATCHING keys.

    Raises:
        UserError: a name is unknown, or a model is lacking or not used.
    """
    matcher = matcher or (FUSED if model else LOCAL)
    names = [FEATURES, LOCAL] if matcher == FUSED else [matcher]
    known = (FUSED, FEATURES, LOCAL, *MATCHER_REGISTRY)
    if matcher not in known:
        hint = did_you_mean(matcher, known)
        raise UserError(f"no matcher {matcher!r}{hint}; known: {', '.join(known)}")
    if FEATURES in names and not model:
        raise UserError(
            f"the matcher {matcher} looks at a network's features, and no model is named: add "
            "--model with the folder of a run, or use --matcher local, which needs none"
        )
    if not model and (backend != "auto" or device != "auto"):
        raise UserError("--backend and --device are of a model, and none is named by --model")
    if model and FEATURES not in names:
        raise UserError(f"the matcher {matcher} has no use for a model: leave out --model {model}")
    cfg, matchers, marks = load(None, [] if model else overrides), dict[str, Matcher](), []
    if model:
        predictor = Predictor(model, device=device, backend=backend, overrides=overrides)
        cfg = predictor.cfg
        file = catalogue.with_name(f"{catalogue.name}.features")
        metric = cfg.TEST.METRIC
        matchers[FEATURES] = KeptFeatures(predictor, str(model), file, metric)
        marks.append(predictor.fingerprint)
    for name in names:
        if name != FEATURES:
            matchers[name] = single_matcher(cfg, name)
            marks.append(name)
    return matchers, "+".join(marks)


def build_held_out(model: str | Path | None, **how: Any) -> HeldOut | None:
    """Return what was held out at first when a model was trained, None where nothing was.

    Args:
        model: the folder of a run, or a checkpoint in it.
        **how: what else :func:`build_matchers` takes; the features are always torch's.

    Raises:
        UserError: the files of the first training are damaged.
    """
    run = expanded(model or "")
    place = (run if run.is_dir() else run.parent) / HELD_OUT
    if not model or not (place / PARTS).is_file():
        return None
    names = [each.name for each in fields(HeldOut) if each.name != "matchers"]
    found = read_json(place / PARTS, *names)
    how |= {"backend": "torch", "model": place, "catalogue": place / "catalogue.csv"}
    matchers, _ = build_matchers(**how)
    return HeldOut(matchers, **{name: frozenset(found[name]) for name in names})


def trained_on(model: str | Path | None, catalogue: Catalogue) -> int:
    """Return how many photographs of a catalogue a model was trained on, as far as can be told."""
    if not model or Path(model).suffix in (".yml", ".yaml"):
        return 0
    try:
        place = expanded(model)
        checkpoint = RunFolder(place).finished() if place.is_dir() else place
        if checkpoint is None:
            return 0
        sets = load_sets(config_from_checkpoint(checkpoint, []))
    except UserError:  # such as a training set that is not on this computer
        return 0
    assert sets.train is not None
    seen = {os.path.realpath(sets.train.images.path(row)) for row in range(len(sets.train.images))}
    return sum(os.path.realpath(catalogue.path(row)) in seen for row in range(len(catalogue)))


def training_keys(
    files: Sequence[str], overrides: Sequence[Any], counts: Sequence[int]
) -> tuple[list[str], list[Any]]:
    """Return what to train with on a catalogue's individuals.

    An individual is in a batch with K photographs, half as many if most have fewer; half of the
    individuals are, at most, so that they meet others from batch to batch. Where the epochs of the
    configuration make fewer than :data:`STEPS` steps there are more of them, and the parts of its
    schedule last as much longer.

    Args:
        files: configuration files; none: ARBase, on a computer without a GPU its small variant.
        overrides: ``[KEY, VALUE, ...]``, which win.
        counts: photographs of each individual.

    Returns:
        The files and the overrides.

    Raises:
        UserError: a mistake in the configuration.
    """
    files = [*files]
    if not files:
        device = load(None, overrides).MODEL.DEVICE
        lite = pick_device(device).type == "cpu"
        files = [f"configs/Base-ARBase{'-lite' if lite else ''}.yml"]
    cfg, given = load(files, overrides), {*overrides[::2]}
    solver, together = cfg.SOLVER, cfg.DATALOADER.NUM_INSTANCE
    if np.median(counts) < together and "DATALOADER.NUM_INSTANCE" not in given:
        together = max(2, together // 2)
    batch = solver.IMS_PER_BATCH
    if "SOLVER.IMS_PER_BATCH" not in given:
        batch = together * max(2, min(batch // together, len(counts) // 2))
    own: dict[str, Any] = {"DATALOADER.NUM_INSTANCE": together, "SOLVER.IMS_PER_BATCH": batch}
    if "SOLVER.MAX_EPOCH" not in given:
        longer = -(-STEPS // (solver.MAX_EPOCH * max(1, sum(counts) // batch)))
        for key in ("MAX_EPOCH", "DELAY_EPOCHS", "FREEZE_EPOCHS", "CHECKPOINT_PERIOD"):
            own[f"SOLVER.{key}"] = solver[key] * longer
        own["SOLVER.STEPS"] = [step * longer for step in solver.STEPS]
        own["SOLVER.WARMUP_EPOCHS"] = max(1, solver.MAX_EPOCH * longer // 12)
        own["TEST.EVAL_PERIOD"] = cfg.TEST.EVAL_PERIOD * longer
    keys = [part for key, value in own.items() for part in (key, value)]
    return files, [*keys, *overrides]
