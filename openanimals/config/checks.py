"""Everything that can be known to be wrong from the configuration alone, in one error."""

import importlib
import math
import os
import re
import sys
from collections.abc import Iterable
from typing import Any

from openanimals.config.defaults import numbers
from openanimals.config.fastreid import instead_of
from openanimals.config.node import RULES, CfgNode, ConfigError
from openanimals.utils.errors import shown
from openanimals.utils.registry import did_you_mean

PK_SAMPLERS = ("NaiveIdentitySampler", "BalancedIdentitySampler")  # K images of P identities

BRANCHES_OF = {"Baseline": [[1]], "MGN": [[1], [1, 2], [1, 3]]}

COMPARING = ("TripletLoss", "CircleLoss", "Cosface")  # losses of pairs of images of a batch

BATCH_NORMS = {"BN": 2, "GhostBN": 4, "syncBN": 2}
"""Norms of a BNNeck by the images that they need to tell how these vary."""

SECTIONS = {
    "CrossEntropyLoss": "CE",
    "FocalLoss": "FL",
    "TripletLoss": "TRI",
    "CircleLoss": "CIRCLE",
    "Cosface": "COSFACE",
}
"""Our losses, and the sections of their keys."""


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
        if not finite(value):
            problems.append(f"{key} must be finite, and whole numbers within 64 bits")
            continue
        if _has_nul(value):
            problems.append(f"{key} must not have a NUL character, as in {shown(value)}")
            continue
        if not rule:
            continue
        if not callable(rule[0]):
            if value not in rule:
                hint = did_you_mean(value, rule)
                if key == "MODEL.BACKBONE.DEPTH":
                    hint = instead_of(cfg.MODEL.BACKBONE.NAME) or hint
                problems.append(f"{key} is {shown(value)}{hint}; allowed: {', '.join(rule)}")
        elif not rule[0](value):
            problems.append(f"{key} {rule[1]}, not {shown(value)}")
    problems += _relations(cfg)
    ConfigError.raise_for(problems)
    if not cfg.MODEL.HEADS.BRANCHES:
        cfg.MODEL.HEADS.BRANCHES = [list(b) for b in BRANCHES_OF[cfg.MODEL.META_ARCHITECTURE]]
    if not cfg.DATASETS.TESTS:
        cfg.DATASETS.TESTS = cfg.DATASETS.NAMES


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
        missing = not all(part.isidentifier() for part in name.split("."))
        try:
            if not missing:
                importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name is not None and f"{name}.".startswith(f"{error.name}.")
            if not missing:
                raise  # the module is there, and something that it imports is not
        if missing:
            problems.append(
                f"IMPORTS names {shown(name)}, but there is no such module in {os.getcwd()} or "
                "among the installed packages"
            )
    return problems


def _relations(cfg: CfgNode) -> list[str]:
    """Return what is wrong between keys, or with a key of a form of its own."""
    problems = []
    device = cfg.MODEL.DEVICE
    if not re.fullmatch("auto|(cpu|mps)(:0)?|cuda(:[0-9]{1,3})?", device):
        kind = device.partition(":")[0].replace("gpu", "cuda")
        hint = did_you_mean(kind, {"auto", "cpu", "cuda", "mps"} - {device})
        problems.append(
            f"MODEL.DEVICE is {shown(device)}{hint}; allowed: auto, cpu, cuda, cuda:<n>, mps"
        )
    branches = cfg.MODEL.HEADS.BRANCHES
    if not all(
        isinstance(b, list | tuple) and b and numbers(b, len(b), int) and min(b) > 0
        for b in branches
    ):
        problems.append(
            "MODEL.HEADS.BRANCHES must list, branch by branch, into how many stripes its map is "
            f"cut, like [[1], [1, 2], [1, 3]], not {shown(branches)}"
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
    sources = {*map(str, (*cfg.DATASETS.NAMES, *cfg.DATASETS.TESTS))}
    if cfg.DATASETS.SPLIT == "file" and len(sources) > 1:
        problems.append(
            f"DATASETS.SPLIT is 'file', which splits one data set, not {len(sources)}: "
            f"{', '.join(sorted(sources))}"
        )
    rerank = cfg.TEST.RERANK
    if rerank.ENABLED and 0 < rerank.K1 < rerank.K2:
        problems.append(
            f"TEST.RERANK.K2 ({rerank.K2}) must be at most TEST.RERANK.K1 ({rerank.K1})"
        )
    if cfg.SOLVER.NESTEROV and cfg.SOLVER.OPT in ("Adam", "AdamW"):
        problems.append(f"SOLVER.NESTEROV is for SGD, not for {cfg.SOLVER.OPT}")
    if cfg.SOLVER.NESTEROV and cfg.SOLVER.MOMENTUM == 0:
        problems.append("SOLVER.NESTEROV needs a SOLVER.MOMENTUM above 0")
    losses = cfg.MODEL.LOSSES
    sections = [SECTIONS.get(str(name)) for name in losses.NAME]
    if sections and all(section and losses[section].SCALE == 0 for section in sections):
        problems.append("the SCALE of each loss in MODEL.LOSSES.NAME is 0: nothing would be learnt")
    mean, std = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
    if numbers(mean, 3) and numbers(std, 3) and 0 < max(mean) <= 1 and max(std) <= 1:
        problems.append(
            f"MODEL.PIXEL_MEAN {mean} and MODEL.PIXEL_STD {std} are of pixels in 0..1, and ours "
            "lie in 0..255: multiply them by 255"
        )
    return problems


def finite(value: Any) -> bool:
    """Tell whether all numbers of a value are finite and of 64 bits at most."""
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or abs(value) < 2**63


def _has_nul(value: Any) -> bool:
    """Tell whether a text has a NUL character, which no name and no path can have."""
    if isinstance(value, list | tuple):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value


def train_size(cfg: CfgNode) -> tuple[str, list[int]]:
    """Return the key of how large images are in training, and its height and width."""
    if cfg.INPUT.CROP.ENABLED:
        return "INPUT.CROP.SIZE", cfg.INPUT.CROP.SIZE
    return "INPUT.SIZE_TRAIN", cfg.INPUT.SIZE_TRAIN


def instances(cfg: CfgNode) -> int:
    """Return how many images of an identity a batch has: K, or 1 where the sampler is free."""
    return cfg.DATALOADER.NUM_INSTANCE if cfg.DATALOADER.SAMPLER_TRAIN in PK_SAMPLERS else 1


def comparing(cfg: CfgNode) -> str:
    """Return the names of the losses that compare the images of a batch with each other."""
    return ", ".join(name for name in cfg.MODEL.LOSSES.NAME if name in COMPARING)


def images_compared(cfg: CfgNode, processes: int = 1) -> int:
    """Return how many images such a loss sees at once: a part of a process's share of a batch."""
    together = 1 if cfg.MODEL.LOSSES.GATHER else processes
    return cfg.SOLVER.IMS_PER_BATCH // (cfg.SOLVER.ACCUMULATE * together)


def batch_problems(cfg: CfgNode, processes: int = 1, identities: int | None = None) -> list[str]:
    """Return what is wrong with a batch that is shared among processes; at most one sentence.

    Each process gets as many images as another, and each part of its share (SOLVER.ACCUMULATE) is
    made of whole identities. To train, a batch must find enough of them, losses that compare
    images two of them in each part, with two images each, and a BNNeck images that differ.

    Args:
        cfg: the configuration.
        processes: that share a batch.
        identities: of the training set; None looks at the configuration alone.
    """
    each, losses = instances(cfg), comparing(cfg)
    factors = {
        "DATALOADER.NUM_INSTANCE ({})": each,
        "SOLVER.ACCUMULATE ({})": cfg.SOLVER.ACCUMULATE,
        "{} processes": processes,
    }
    batch, unit = cfg.SOLVER.IMS_PER_BATCH, math.prod(factors.values())
    if batch % unit:
        named = " x ".join(name.format(count) for name, count in factors.items() if count > 1)
        return [f"SOLVER.IMS_PER_BATCH ({batch}) must be a multiple of {named}"]
    if identities is None:
        return []
    for what, needed, seen in (
        ("MODEL.HEADS.WITH_BNNECK", *_normalised(cfg, processes)),
        (losses, 2 if losses else 0, images_compared(cfg, processes)),
    ):
        if seen < needed:
            least = -(-needed // each) * each * batch // seen
            return [
                f"{what} needs {needed} images at once, and SOLVER.IMS_PER_BATCH {batch} leaves "
                f"{seen} to each part of a batch ({batch // seen} parts); set "
                f"SOLVER.IMS_PER_BATCH to {least} or more"
            ]
    if cfg.DATALOADER.SAMPLER_TRAIN not in PK_SAMPLERS:
        return []
    if losses and each == 1:
        return [
            f"DATALOADER.NUM_INSTANCE is 1, so {losses} finds no second image of any individual "
            "in a batch; set it to 2 or more"
        ]
    parts = batch // images_compared(cfg, processes)
    least = -(-each * (2 * parts if losses else 1) // unit) * unit
    most = identities * each // unit * unit
    if least <= batch <= most:
        return []
    cause = (
        f"a batch needs {batch // each} identities (SOLVER.IMS_PER_BATCH {batch} / "
        f"DATALOADER.NUM_INSTANCE {each}) but the training set has {identities}"
    )
    if batch < least:
        cause = (
            f"{losses} compares identities, and SOLVER.IMS_PER_BATCH {batch} leaves one to each "
            f"part of a batch (DATALOADER.NUM_INSTANCE {each}, {parts} parts)"
        )
    size = f"{least}" if least == most else f"a multiple of {unit} from {least} to {most}"
    advice = f"set SOLVER.IMS_PER_BATCH to {size}"
    if least > most:
        advice = (
            f"none is large enough for {identities} identities; lower SOLVER.ACCUMULATE or the "
            f"number of processes, or train on {least // each} identities"
        )
    return [f"{cause}; {advice}"]


def _normalised(cfg: CfgNode, processes: int) -> tuple[int, int]:
    """Return how many images the batch norms of the BNNecks need at once, and how many they get."""
    heads, share = cfg.MODEL.HEADS, cfg.SOLVER.IMS_PER_BATCH // cfg.SOLVER.ACCUMULATE
    needed = BATCH_NORMS.get(heads.NORM, 0) if heads.WITH_BNNECK else 0
    return needed, share if heads.NORM == "syncBN" else share // processes
