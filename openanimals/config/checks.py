"""Everything that can be known to be wrong from the configuration alone, in one error."""

import math
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

from openanimals.config.defaults import get_cfg
from openanimals.config.files import Layer, read_file, read_overrides, read_text
from openanimals.config.node import DECLARED, CfgNode, ConfigError, Rule
from openanimals.config.plugins import NOT_NEGATIVE, POSITIVE, SHARE, import_modules
from openanimals.utils.registry import did_you_mean

logger = getLogger(__name__)

PK_SAMPLERS = ("NaiveIdentitySampler", "BalancedIdentitySampler")  # K images of P identities

BRANCHES_OF = {"Baseline": [[1]], "MGN": [[1], [1, 2], [1, 3]]}

CHOICES = {
    "MODEL.META_ARCHITECTURE": tuple(BRANCHES_OF),
    "MODEL.BACKBONE.DEPTH": ("18x", "34x", "50x", "101x"),
    "MODEL.BACKBONE.NORM": ("BN", "syncBN", "GhostBN", "FrozenBN", "GN"),
    "MODEL.HEADS.NORM": ("BN", "syncBN", "GhostBN", "FrozenBN", "GN"),
    "MODEL.HEADS.STRIPES": ("rows", "cols"),
    "MODEL.HEADS.NECK_FEAT": ("before", "after"),
    "INPUT.PADDING.MODE": ("constant", "edge", "reflect", "symmetric"),
    "INPUT.BACKGROUND": ("keep", "mask"),
    "INPUT.CACHE": ("auto", "off", "ram", "disk", "device"),
    "DATASETS.SPLIT": ("auto", "source", "paper", "closed", "time", "original", "file"),
    "DATASETS.FLANKS": ("ignore", "separate"),
    "SOLVER.AMP.DTYPE": ("float16", "bfloat16"),
    "SOLVER.WARMUP_METHOD": ("linear", "constant", "exp"),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("norm", "value"),
    "TEST.METRIC": ("cosine", "euclidean"),
    "TEST.DTYPE": ("float32", "bfloat16", "float16"),
    "TEST.STORE": ("float32", "float16"),
    "TEST.PROTOCOL": ("paper", "encounter", "flank"),
    "TEST.ENCOUNTER.BY": ("date", "sequence", "gap"),
}

_SIZE: Rule = (lambda v: _numbers(v, 2, int) and min(v) > 0, "must be [height, width] in pixels")
_COLOUR: Rule = (lambda v: _numbers(v, 3), "must be three numbers, for red, green and blue")
_RANGE: Rule = (
    lambda v: _numbers(v, 2) and 0 < v[0] <= v[1],
    "must be [low, high] with 0 < low <= high",
)
_TEXTS: Rule = (lambda v: all(isinstance(t, str) for t in v), "must be a list of names")

RULES: dict[str, Rule] = {
    "SEED": NOT_NEGATIVE,
    "IMPORTS": _TEXTS,
    "LOG_PERIOD": POSITIVE,
    "CALLBACKS": _TEXTS,
    "WRITERS": _TEXTS,
    "MODEL.FREEZE_LAYERS": _TEXTS,
    "MODEL.PIXEL_MEAN": _COLOUR,
    "MODEL.PIXEL_STD": (lambda v: _numbers(v, 3) and min(v) > 0, "must be three numbers above 0"),
    "MODEL.BACKBONE.LAST_STRIDE": (lambda v: v in (1, 2), "must be 1 or 2"),
    "MODEL.BACKBONE.FEAT_DIM": POSITIVE,
    "MODEL.HEADS.NUM_CLASSES": NOT_NEGATIVE,
    "MODEL.HEADS.EMBEDDING_DIM": NOT_NEGATIVE,
    "MODEL.LOSSES.NAME": (lambda v: _TEXTS[0](v) and len(v) > 0, "must name at least one loss"),
    "MODEL.LOSSES.FL.ALPHA": SHARE,
    "MODEL.LOSSES.FL.GAMMA": NOT_NEGATIVE,
    "MODEL.LOSSES.CE.EPSILON": (lambda v: v == -1 or 0 <= v < 1, "must lie in 0..1, or be -1"),
    "INPUT.SIZE_TRAIN": _SIZE,
    "INPUT.SIZE_TEST": _SIZE,
    "INPUT.CACHE_LIMIT": POSITIVE,
    "INPUT.CROP.SIZE": _SIZE,
    "INPUT.CROP.SCALE": _RANGE,
    "INPUT.CROP.RATIO": _RANGE,
    "INPUT.FLIP.PROB": SHARE,
    "INPUT.PADDING.SIZE": NOT_NEGATIVE,
    "INPUT.CJ.PROB": SHARE,
    "INPUT.CJ.HUE": (lambda v: 0 <= v <= 0.5, "must lie in 0..0.5, half the circle of hues"),
    "INPUT.AUTOAUG.PROB": SHARE,
    "INPUT.AUGMIX.PROB": SHARE,
    "INPUT.REA.PROB": SHARE,
    "INPUT.REA.VALUE": _COLOUR,
    "INPUT.RPT.PROB": SHARE,
    "INPUT.TRANSFORMS": _TEXTS,
    "DATASETS.NAMES": (lambda v: _TEXTS[0](v) and len(v) > 0, "must name at least one data set"),
    "DATASETS.TESTS": _TEXTS,
    "DATASETS.VAL_FRACTION": (lambda v: 0 <= v < 1, "must lie in 0..1, below 1"),
    "DATALOADER.NUM_INSTANCE": POSITIVE,
    "DATALOADER.NUM_WORKERS": NOT_NEGATIVE,
    "DATALOADER.SEED": (lambda v: 0 <= v < 2**32, "must lie in 0..2**32 - 1"),
    "SOLVER.MAX_EPOCH": POSITIVE,
    "SOLVER.BASE_LR": POSITIVE,
    "SOLVER.DELAY_EPOCHS": NOT_NEGATIVE,
    "SOLVER.STEPS": (lambda v: _numbers(v, len(v), int), "must be a list of epochs"),
    "SOLVER.WARMUP_ITERS": NOT_NEGATIVE,
    "SOLVER.WARMUP_EPOCHS": NOT_NEGATIVE,
    "SOLVER.WARMUP_FACTOR": (lambda v: 0 < v <= 1, "must be above 0 and at most 1"),
    "SOLVER.FREEZE_ITERS": NOT_NEGATIVE,
    "SOLVER.FREEZE_EPOCHS": NOT_NEGATIVE,
    "SOLVER.CHECKPOINT_PERIOD": POSITIVE,
    "SOLVER.IMS_PER_BATCH": POSITIVE,
    "SOLVER.ACCUMULATE": POSITIVE,
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": POSITIVE,
    "TEST.IMS_PER_BATCH": POSITIVE,
    "TEST.PCA": NOT_NEGATIVE,
    "TEST.ENCOUNTER.GAP": NOT_NEGATIVE,
    "TEST.AQE.ALPHA": NOT_NEGATIVE,
    "TEST.AQE.QE_TIME": POSITIVE,
    "TEST.AQE.QE_K": POSITIVE,
    "TEST.RERANK.K1": POSITIVE,
    "TEST.RERANK.K2": POSITIVE,
    "TEST.RERANK.LAMBDA": SHARE,
    "TEST.PRECISE_BN.NUM_ITER": POSITIVE,
}


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
    layers = []
    if len(paths) > 1:
        folder = "logs/" + "+".join(path.stem for path in paths)
        layers.append(Layer("the names of the files", [("OUTPUT_DIR", folder)]))
    for path in paths:
        layers += (read := read_file(path))
        if read[-1].where != str(path.expanduser()):
            logger.info("%s is not here; the shipped one is taken: %s", path, read[-1].where)
    return _checked([*layers, read_overrides(overrides)])


def load_text(text: str, overrides: Sequence[Any] = (), *, where: str = "text") -> CfgNode:
    """Return the checked, frozen configuration of YAML text and overrides.

    Args:
        text: keys and values, for instance those that a checkpoint carries.
        overrides: ``[KEY, VALUE, ...]``.
        where: what the text is of, for errors.

    Raises:
        ConfigError: lists every mistake.
    """
    return _checked([*read_text(text, where), read_overrides(overrides)])


def without_pretraining(cfg: CfgNode) -> CfgNode:
    """Return the configuration with PRETRAIN off: nothing is downloaded only to be replaced."""
    changed: CfgNode = cfg.clone()
    changed.defrost()
    changed.MODEL.BACKBONE.PRETRAIN = False
    changed.freeze()
    return changed


def _checked(layers: Sequence[Layer]) -> CfgNode:
    """Merge layers and check all; plugins that they name declare their keys before."""
    cfg = get_cfg()
    problems = cfg.merge(layers)
    if cfg.IMPORTS:
        import_modules(cfg.IMPORTS)  # check tells which are not there
        cfg = get_cfg()
        problems = cfg.merge(layers)
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
    values = dict(cfg.keys_and_values())
    theirs = {key: of.rule for key, of in DECLARED.items() if of.rule and key in values}
    for key, rule in {**CHOICES, **RULES, **theirs}.items():
        if not callable(rule[0]):
            if values[key] not in rule:
                hint = did_you_mean(values[key], rule)
                problems.append(f"{key} is {values[key]!r}{hint}; allowed: {', '.join(rule)}")
        elif not rule[0](values[key]):
            problems.append(f"{key} {rule[1]}, not {values[key]!r}")
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
        isinstance(b, list | tuple) and b and _numbers(b, len(b), int) and min(b) > 0
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


def _numbers(value: Any, count: int, kind: type = float) -> bool:
    """Tell whether the value is a list of so many numbers (of whole ones for ``int``)."""
    allowed = (int,) if kind is int else (int, float)
    return (
        isinstance(value, list | tuple)
        and len(value) == count
        and all(isinstance(v, allowed) and not isinstance(v, bool) for v in value)
    )
