"""Everything that can be known to be wrong from the configuration alone, in one error."""

import math

from openanimals.config.defaults import numbers
from openanimals.config.node import RULES, CfgNode, ConfigError
from openanimals.config.plugins import import_modules
from openanimals.utils.registry import did_you_mean

PK_SAMPLERS = ("NaiveIdentitySampler", "BalancedIdentitySampler")  # K images of P identities

BRANCHES_OF = {"Baseline": [[1]], "MGN": [[1], [1, 2], [1, 3]]}


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
