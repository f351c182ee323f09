"""Files, text and overrides to one checked, frozen configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openanimals.config.checks import check
from openanimals.config.defaults import get_cfg
from openanimals.config.files import Setting, read_file, read_overrides, read_text
from openanimals.config.node import CfgNode, ConfigError
from openanimals.config.plugins import import_modules


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
    settings = [setting for path in paths for setting in read_file(path)]
    if len(paths) > 1:
        folder = "logs/" + "+".join(path.stem for path in paths)
        settings.insert(0, ("the names of the files", "OUTPUT_DIR", folder))
    return _checked([*settings, *read_overrides(overrides)])


def load_text(text: str, overrides: Sequence[Any] = (), *, where: str = "text") -> CfgNode:
    """Return the checked, frozen configuration of YAML text and overrides.

    Args:
        text: keys and values, for instance those that a checkpoint carries.
        overrides: ``[KEY, VALUE, ...]``.
        where: what the text is of, for errors.

    Raises:
        ConfigError: lists every mistake.
    """
    return _checked([*read_text(text, where), *read_overrides(overrides)])


def without_pretraining(cfg: CfgNode) -> CfgNode:
    """Return the configuration with PRETRAIN off: nothing is downloaded only to be replaced."""
    changed: CfgNode = cfg.clone()
    changed.defrost()
    changed.MODEL.BACKBONE.PRETRAIN = False
    changed.freeze()
    return changed


def _checked(settings: Sequence[Setting]) -> CfgNode:
    """Set and check all; plugins that are named declare their keys before."""
    cfg = get_cfg()
    problems = cfg.merge(settings)
    if cfg.IMPORTS:
        import_modules(cfg.IMPORTS)  # check tells which are not there
        cfg = get_cfg()
        problems = cfg.merge(settings)
    try:
        check(cfg)
    except ConfigError as error:
        problems += error.problems
    ConfigError.raise_for(problems)
    cfg.freeze()
    return cfg
