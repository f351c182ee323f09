"""Everything that can be known to be wrong from the configuration alone, in one error."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from openanimals.config.defaults import get_cfg
from openanimals.config.node import CfgNode, ConfigError
from openanimals.utils.registry import did_you_mean

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
    "DATALOADER.SAMPLER_TRAIN": (
        "TrainingSampler",
        "NaiveIdentitySampler",
        "BalancedIdentitySampler",
    ),
    "SOLVER.AMP.DTYPE": ("float16", "bfloat16"),
    "SOLVER.WARMUP_METHOD": ("linear", "constant", "exp"),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("norm", "value"),
    "TEST.METRIC": ("cosine", "euclidean"),
    "TEST.DTYPE": ("float32", "bfloat16", "float16"),
    "TEST.STORE": ("float32", "float16"),
    "TEST.PROTOCOL": ("paper", "encounter", "flank"),
    "TEST.ENCOUNTER.BY": ("date", "sequence", "gap"),
}

Rule = tuple[Callable[[Any], bool], str]
_POSITIVE: Rule = (lambda v: v > 0, "must be above 0")
_NOT_NEGATIVE: Rule = (lambda v: v >= 0, "must not be negative")
_SHARE: Rule = (lambda v: 0 <= v <= 1, "must lie in 0..1")
_SIZE: Rule = (lambda v: _numbers(v, 2, int) and min(v) > 0, "must be [height, width] in pixels")
_COLOUR: Rule = (lambda v: _numbers(v, 3), "must be three numbers, for red, green and blue")
_RANGE: Rule = (
    lambda v: _numbers(v, 2) and 0 < v[0] <= v[1],
    "must be [low, high] with 0 < low <= high",
)
_TEXTS: Rule = (lambda v: all(isinstance(t, str) for t in v), "must be a list of names")

RULES: dict[str, Rule] = {
    "SEED": _NOT_NEGATIVE,
    "IMPORTS": _TEXTS,
    "LOG_PERIOD": _POSITIVE,
    "MODEL.FREEZE_LAYERS": _TEXTS,
    "MODEL.PIXEL_MEAN": _COLOUR,
    "MODEL.PIXEL_STD": (lambda v: _numbers(v, 3) and min(v) > 0, "must be three numbers above 0"),
    "MODEL.BACKBONE.LAST_STRIDE": (lambda v: v in (1, 2), "must be 1 or 2"),
    "MODEL.BACKBONE.FEAT_DIM": _POSITIVE,
    "MODEL.HEADS.NUM_CLASSES": _NOT_NEGATIVE,
    "MODEL.HEADS.EMBEDDING_DIM": _NOT_NEGATIVE,
    "MODEL.LOSSES.NAME": (lambda v: _TEXTS[0](v) and len(v) > 0, "must name at least one loss"),
    "MODEL.LOSSES.FL.ALPHA": _SHARE,
    "MODEL.LOSSES.FL.GAMMA": _NOT_NEGATIVE,
    "MODEL.LOSSES.CE.EPSILON": (lambda v: v == -1 or 0 <= v < 1, "must lie in 0..1, or be -1"),
    "INPUT.SIZE_TRAIN": _SIZE,
    "INPUT.SIZE_TEST": _SIZE,
    "INPUT.CACHE_LIMIT": _POSITIVE,
    "INPUT.CROP.SIZE": _SIZE,
    "INPUT.CROP.SCALE": _RANGE,
    "INPUT.CROP.RATIO": _RANGE,
    "INPUT.FLIP.PROB": _SHARE,
    "INPUT.PADDING.SIZE": _NOT_NEGATIVE,
    "INPUT.CJ.PROB": _SHARE,
    "INPUT.CJ.HUE": (lambda v: 0 <= v <= 0.5, "must lie in 0..0.5, half the circle of hues"),
    "INPUT.AUTOAUG.PROB": _SHARE,
    "INPUT.AUGMIX.PROB": _SHARE,
    "INPUT.REA.PROB": _SHARE,
    "INPUT.REA.VALUE": _COLOUR,
    "INPUT.RPT.PROB": _SHARE,
    "DATASETS.NAMES": (lambda v: _TEXTS[0](v) and len(v) > 0, "must name at least one data set"),
    "DATASETS.TESTS": _TEXTS,
    "DATASETS.VAL_FRACTION": (lambda v: 0 <= v < 1, "must lie in 0..1, below 1"),
    "DATALOADER.NUM_INSTANCE": _POSITIVE,
    "DATALOADER.NUM_WORKERS": _NOT_NEGATIVE,
    "DATALOADER.SEED": (lambda v: 0 <= v < 2**32, "must lie in 0..2**32 - 1"),
    "SOLVER.MAX_EPOCH": _POSITIVE,
    "SOLVER.BASE_LR": _POSITIVE,
    "SOLVER.DELAY_EPOCHS": _NOT_NEGATIVE,
    "SOLVER.STEPS": (lambda v: _numbers(v, len(v), int), "must be a list of epochs"),
    "SOLVER.WARMUP_ITERS": _NOT_NEGATIVE,
    "SOLVER.WARMUP_EPOCHS": _NOT_NEGATIVE,
    "SOLVER.WARMUP_FACTOR": (lambda v: 0 < v <= 1, "must be above 0 and at most 1"),
    "SOLVER.FREEZE_ITERS": _NOT_NEGATIVE,
    "SOLVER.FREEZE_EPOCHS": _NOT_NEGATIVE,
    "SOLVER.CHECKPOINT_PERIOD": _POSITIVE,
    "SOLVER.IMS_PER_BATCH": _POSITIVE,
    "SOLVER.ACCUMULATE": _POSITIVE,
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": _POSITIVE,
    "TEST.IMS_PER_BATCH": _POSITIVE,
    "TEST.PCA": _NOT_NEGATIVE,
    "TEST.ENCOUNTER.GAP": _NOT_NEGATIVE,
    "TEST.AQE.ALPHA": _NOT_NEGATIVE,
    "TEST.AQE.QE_TIME": _POSITIVE,
    "TEST.AQE.QE_K": _POSITIVE,
    "TEST.RERANK.K1": _POSITIVE,
    "TEST.RERANK.K2": _POSITIVE,
    "TEST.RERANK.LAMBDA": _SHARE,
    "TEST.PRECISE_BN.NUM_ITER": _POSITIVE,
}


def load(
    files: str | Path | Sequence[str | Path] | None = None, overrides: Sequence[Any] = ()
) -> CfgNode:
    """Return the checked, frozen configuration of files and ``[KEY, VALUE, ...]`` overrides.

    Args:
        files: a YAML file, or several, merged in order, such as a method and a species. The run of
            several goes to ``logs/<their names, joined by +>``, unless one of them or an override
            sets ``OUTPUT_DIR``.
        overrides: ``[KEY, VALUE, ...]``.

    Raises:
        ConfigError: lists every mistake of the files, their bases, the overrides and their sum.
    """
    cfg = get_cfg()
    files = [files] if isinstance(files, str | Path) else files or []
    paths = [Path(file) for file in files if file]
    if len(paths) > 1:
        cfg.OUTPUT_DIR = "logs/" + "+".join(path.stem for path in paths)
    problems = [problem for path in paths for problem in cfg.try_file(path)]
    return _finish(cfg, problems, overrides)


def load_text(text: str, overrides: Sequence[Any] = (), *, where: str = "text") -> CfgNode:
    """Return the checked, frozen configuration of YAML text and overrides.

    Args:
        text: keys and values, for instance those that a checkpoint carries.
        overrides: ``[KEY, VALUE, ...]``.
        where: what the text is of, for errors.

    Raises:
        ConfigError: lists every mistake.
    """
    cfg = get_cfg()
    return _finish(cfg, cfg.try_text(text, where), overrides)


def without_pretraining(cfg: CfgNode) -> CfgNode:
    """Return the configuration with PRETRAIN off: nothing is downloaded only to be replaced."""
    changed: CfgNode = cfg.clone()
    changed.defrost()
    changed.MODEL.BACKBONE.PRETRAIN = False
    changed.freeze()
    return changed


def _finish(cfg: CfgNode, problems: list[str], overrides: Sequence[Any]) -> CfgNode:
    problems = [*problems, *cfg.try_list(overrides)]
    try:
        check(cfg)
    except ConfigError as error:
        problems += error.problems
    ConfigError.raise_for(problems)
    cfg.freeze()
    return cfg


def check(cfg: CfgNode) -> None:
    """Fill in what follows from other keys, and check all values.

    ``HEADS.BRANCHES`` follows from ``META_ARCHITECTURE`` where it is empty, ``DATASETS.TESTS``
    from ``DATASETS.NAMES``.

    Raises:
        ConfigError: lists every mistake.
    """
    values = dict(cfg.keys_and_values())
    problems = []
    for key, choices in CHOICES.items():
        if values[key] not in choices:
            hint = did_you_mean(values[key], choices)
            problems.append(f"{key} is {values[key]!r}{hint}; allowed: {', '.join(choices)}")
    for key, (holds, rule) in RULES.items():
        if not holds(values[key]):
            problems.append(f"{key} {rule}, not {values[key]!r}")
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
    batch, parts, unit = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATE, 1
    if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        unit = cfg.DATALOADER.NUM_INSTANCE
    if unit > 0 and batch % unit:
        problems.append(
            f"SOLVER.IMS_PER_BATCH ({batch}) must be a multiple of DATALOADER.NUM_INSTANCE ({unit})"
        )
    elif unit > 0 and parts > 0 and batch % (unit * parts):
        problems.append(
            f"SOLVER.IMS_PER_BATCH ({batch}) must be a multiple of SOLVER.ACCUMULATE ({parts}) x "
            f"{unit} images of an identity"
        )
    if cfg.SOLVER.CUDA_GRAPHS and parts > 1:
        problems.append(
            "SOLVER.CUDA_GRAPHS is True, but a graph cannot add up the gradients of "
            f"SOLVER.ACCUMULATE ({parts}) parts; set one of them to its default"
        )
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


def _numbers(value: Any, count: int, kind: type = float) -> bool:
    """Tell whether the value is a list of so many numbers (of whole ones for ``int``)."""
    allowed = (int,) if kind is int else (int, float)
    return (
        isinstance(value, list | tuple)
        and len(value) == count
        and all(isinstance(v, allowed) and not isinstance(v, bool) for v in value)
    )
