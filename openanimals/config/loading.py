"""Files, text and overrides to one checked, frozen configuration."""

import os
import re
from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

from openanimals.config.checks import check, import_modules
from openanimals.config.defaults import get_cfg
from openanimals.config.files import Setting, read_file, read_overrides, read_text
from openanimals.config.node import CfgNode, ConfigError

logger = getLogger(__name__)

WRITTEN = ("OUTPUT_DIR", "INPUT.CACHE_DIR")  # decide where is written


def load(
    files: str | Path | Sequence[str | Path] | None = None, overrides: Sequence[Any] = ()
) -> CfgNode:
    """Return the checked, frozen configuration of files and ``[KEY, VALUE, ...]`` overrides.

    Args:
        files: a YAML file, or several, merged in order, such as a method and a species. One that
            is not there is looked for among the shipped ones. The run of several goes to
            ``logs/<their names, joined by +>``, unless one of them or an override sets
            ``OUTPUT_DIR``.
        overrides: ``[KEY, VALUE, ...]``.

    Raises:
        ConfigError: lists every mistake of the files, their bases, the overrides and their sum.
    """
    files = [files] if isinstance(files, str | Path) else files or []
    paths = [Path(file) for file in files if file]
    layers = [read_file(path) for path in paths]
    if len(paths) > 1:
        folder = "logs/" + "+".join(path.stem for path in paths)
        layers.insert(0, [("the names of the files", "OUTPUT_DIR", folder)])
    return _checked([*layers, read_overrides(overrides)])


def load_text(
    text: str, overrides: Sequence[Any] = (), *, where: str = "text", trusted: bool = True
) -> CfgNode:
    """Return the checked, frozen configuration of YAML text and overrides.

    Args:
        text: keys and values, for instance those that a checkpoint carries; no base files.
        overrides: ``[KEY, VALUE, ...]``.
        where: what the text is of, for errors.
        trusted: whether its keys may run code, choose where is written, and reach other files or
            the network; else the overrides alone may, and what is passed over is told.

    Raises:
        ConfigError: lists every mistake.
    """
    settings, given = read_text(text, where), read_overrides(overrides)
    if not trusted:
        named = {setting[1]: setting[2] for setting in given if not isinstance(setting, str)}
        settings = [setting for setting in settings if _is_safe(setting, where, named)]
    return _checked([settings, given])


def _is_safe(setting: Setting, where: str, given: Mapping[str, Any]) -> bool:
    if isinstance(setting, str):
        return True
    _, key, value = setting
    if key == "IMPORTS" and value and key not in given:
        logger.warning(
            "%s asks for the modules %s, which could do anything, so they are not imported; if you "
            "trust them, add IMPORTS to the command",
            *(where, value),
        )
    if key == "MODEL.BACKBONE.NAME" and re.match("timm/.*:", str(value)) and key not in given:
        raise ConfigError(
            [
                f"{where} asks for the backbone {value}, which reaches the network or the disk; if "
                f"you trust it, add {key} {value} to the command (or to the overrides of Predictor)"
            ]
        )
    taken = str(given.get(key) or "the default")
    if key in WRITTEN and value and os.path.realpath(taken) != os.path.realpath(str(value)):
        logger.info("%s: its %s %s is not used, but %s", where, key, value, taken)
    return key not in ("IMPORTS", *WRITTEN)


def without_pretraining(cfg: CfgNode) -> CfgNode:
    """Return the configuration with PRETRAIN off: nothing is downloaded only to be replaced."""
    changed: CfgNode = cfg.clone()
    changed.defrost()
    changed.MODEL.BACKBONE.PRETRAIN = False
    changed.freeze()
    return changed


YIELDING = {
    "DATASETS.NAMES": "DATASETS.TESTS",
    "MODEL.META_ARCHITECTURE": "MODEL.HEADS.BRANCHES",
    "SOLVER.WARMUP_ITERS": "SOLVER.WARMUP_EPOCHS",
    "SOLVER.FREEZE_ITERS": "SOLVER.FREEZE_EPOCHS",
}
"""Keys, and those that would overrule them: not where a later layer sets only the first."""


def _checked(layers: Sequence[Sequence[Setting]]) -> CfgNode:
    """Set and check all; plugins that are named declare their keys before."""
    cfg, problems = _merged(layers)
    if cfg.IMPORTS:
        import_modules(cfg.IMPORTS)  # check tells which are not there
        cfg, problems = _merged(layers)
    try:
        check(cfg)
    except ConfigError as error:
        problems += error.problems
    ConfigError.raise_for(problems)
    cfg.freeze()
    return cfg


def _merged(layers: Sequence[Sequence[Setting]]) -> tuple[CfgNode, list[str]]:
    """Return all keys as files and overrides set them, later over earlier, and what is wrong."""
    cfg, problems = get_cfg(), []
    empty = dict(cfg.keys_and_values())
    for layer in layers:
        given = {setting[1] for setting in layer if not isinstance(setting, str)}
        if cfg.DATASETS.TESTS != cfg.DATASETS.NAMES:
            given.add("DATASETS.TESTS")  # chosen, so they stay
        for first, second in YIELDING.items():
            if first in given and second not in given:
                cfg.merge([("", second, empty[second])])
        problems += cfg.merge(layer)
    return cfg, problems
