"""Everything that can be known to be wrong from the configuration alone, in one error."""

import importlib
import math
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from openanimals.config.defaults import get_cfg, numbers
from openanimals.config.files import Setting, read_file, read_overrides, read_text
from openanimals.config.node import RULES, CfgNode, ConfigError
from openanimals.utils.registry import did_you_mean

PK_SAMPLERS = ("NaiveIdentitySampler", "BalancedIdentitySampler")  # K images of P identities

BRANCHES_OF = {"Baseline": [[1]], "MGN": [[1], [1, 2], [1, 3]]}


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


def check(cfg: CfgNode) -> None:
    """Import the plugins, fill in what follows from other keys, and check all values.

    ``HEADS.BRANCHES`` follows from ``META_ARCHITECTURE`` where it is empty, ``DATASETS.TESTS``
    from ``DATASETS.NAMES``.

    Raises:
        ConfigError: lists every mistake.
    """
    problems = import_modules(cfg.IMPORTS)
    for key, value in cfg.keys_and_values():
        rule = RULES.get(key)
        if not rule:
            continue
        if not callable(rule[0]):
            if value not in rule:
                hint = did_you_mean(value, rule)
                problems.append(f"{key} is {value!r}{hint}; allowed: {', '.join(rule)}")
        elif not rule[0](value):
            problems.append(f"{key} {rule[1]}, not {value!r}")
    problems += _relations(cfg)
    ConfigError.raise_for(problems)
    if not cfg.MODEL.HEADS.BRANCHES:
        cfg.MODEL.HEADS.BRANCHES = [list(b) for b in BRANCHES_OF[cfg.MODEL.META_ARCHITECTURE]]
    if not cfg.DATASETS.TESTS:
        cfg.DATASETS.TESTS = cfg.DATASETS.NAMES


def _relations(cfg: CfgNode) -> list[str]:
    """Return what is wrong between keys, or with a key of a form of its own."""
    problems = []
    device = cfg.MODEL.DEVICE
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and not index.isdigit()):
        hint = did_you_mean("cuda" if kind == "gpu" else device, ("auto", "cpu", "cuda", "mps"))
        problems.append(
            f"MODEL.DEVICE is {device!r}{hint}; allowed: auto, cpu, cuda, cuda:<n>, mps"
        )
    branches = cfg.MODEL.HEADS.BRANCHES
    if not all(
        isinstance(b, list | tuple) and b and numbers(b, len(b), int) and min(b) > 0
        for b in branches
    ):
        problems.append(
            "MODEL.HEADS.BRANCHES must list, branch by branch, into how many stripes its map is "
            f"cut, like [[1], [1, 2], [1, 3]], not {branches!r}"
        )
    if min(cfg.SOLVER.ACCUMULATE, cfg.DATALOADER.NUM_INSTANCE) > 0:
        problems += batch_problems(cfg)
    if cfg.DATASETS.SPLIT == "file" and not cfg.DATASETS.SPLIT_FILE:
        problems.append("DATASETS.SPLIT is 'file', so DATASETS.SPLIT_FILE must name it")
    if cfg.DATASETS.SPLIT_FILE and cfg.DATASETS.SPLIT != "file":
        problems.append(
            f"DATASETS.SPLIT_FILE is {cfg.DATASETS.SPLIT_FILE!r}, but DATASETS.SPLIT is "
            f"{cfg.DATASETS.SPLIT!r}, which reads no file; set DATASETS.SPLIT to file"
        )
    sources = {*cfg.DATASETS.NAMES, *cfg.DATASETS.TESTS}
    if cfg.DATASETS.SPLIT == "file" and len(sources) > 1:
        problems.append(
            f"DATASETS.SPLIT is 'file', which splits one data set, not {len(sources)}: "
            f"{', '.join(sorted(map(str, sources)))}"
        )
    rerank = cfg.TEST.RERANK
    if rerank.ENABLED and 0 < rerank.K1 < rerank.K2:
        problems.append(
            f"TEST.RERANK.K2 ({rerank.K2}) must be at most TEST.RERANK.K1 ({rerank.K1})"
        )
    if cfg.SOLVER.NESTEROV and cfg.SOLVER.OPT in ("Adam", "AdamW"):
        problems.append(f"SOLVER.NESTEROV is for SGD, not for {cfg.SOLVER.OPT}")
    return problems


def instances(cfg: CfgNode) -> int:
    """Return how many images of an identity a batch has: K, or 1 where the sampler is free."""
    return cfg.DATALOADER.NUM_INSTANCE if cfg.DATALOADER.SAMPLER_TRAIN in PK_SAMPLERS else 1


def batch_problems(cfg: CfgNode, processes: int = 1) -> list[str]:
    """Return what is wrong with a batch that is shared among processes; at most one sentence.

    Each process gets as many images as another, and each part of its share (SOLVER.ACCUMULATE) is
    made of whole identities.
    """
    factors = {
        "DATALOADER.NUM_INSTANCE ({})": instances(cfg),
        "SOLVER.ACCUMULATE ({})": cfg.SOLVER.ACCUMULATE,
        "{} processes": processes,
    }
    batch = cfg.SOLVER.IMS_PER_BATCH
    if batch % math.prod(factors.values()) == 0:
        return []
    unit = " x ".join(name.format(count) for name, count in factors.items() if count > 1)
    return [f"SOLVER.IMS_PER_BATCH ({batch}) must be a multiple of {unit}"]


def import_modules(names: Iterable[object]) -> list[str]:
    """Import modules, also from the working directory.

    Returns:
        One sentence for each module that is not there.
    """
    if os.getcwd() not in sys.path:  # for good: a plugin may import others of them later
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    problems = []
    for name in dict.fromkeys(map(str, names)):
        missing = not name or name.startswith(".")
        try:
            if not missing:
                importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name is not None and f"{name}.".startswith(f"{error.name}.")
            if not missing:
                raise  # the module is there, and something that it imports is not
        if missing:
            problems.append(
                f"IMPORTS names {name!r}, but there is no such module in {os.getcwd()} or "
                "among the installed packages"
            )
    return problems
