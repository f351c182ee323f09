"""A run of seconds: the tiny backbone on a tiny herd, in this process or in one of its own."""

import sys
from pathlib import Path

from openanimals.config import load
from tests.conftest import REPOSITORY

BASE = REPOSITORY / "configs/Base-ARBase.yml"
HERD = "Animals-SyntheticHerd:identities=12,images=6,pixels=48"


def overrides(folder: Path, root: Path, **keys) -> list:
    """The tiny run's KEY VALUE pairs; in ``keys`` a dot is written ``__``, and None omits one."""
    settings = {
        "MODEL.DEVICE": "cpu",
        "MODEL.BACKBONE.NAME": "tiny",
        "MODEL.BACKBONE.FEAT_DIM": 8,
        "MODEL.BACKBONE.PRETRAIN": False,
        "INPUT.SIZE_TRAIN": [48, 48],
        "INPUT.SIZE_TEST": [48, 48],
        "INPUT.PADDING.SIZE": 2,
        "DATASETS.NAMES": (HERD,),
        "DATASETS.ROOT": str(root),
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": 12,
        "DATALOADER.NUM_INSTANCE": 3,
        "SOLVER.MAX_EPOCH": 3,
        "SOLVER.WARMUP_ITERS": 3,
        "SOLVER.DELAY_EPOCHS": 0,
        "LOG_PERIOD": 2,
        "OUTPUT_DIR": str(folder),
    }
    settings.update({key.replace("__", "."): value for key, value in keys.items()})
    return [part for key, value in settings.items() if value is not None for part in (key, value)]


def tiny_cfg(folder: Path, root: Path, **keys):
    """The configuration of a tiny ARBase run."""
    return load(BASE, overrides(folder, root, **keys))


def command(folder: Path, root: Path, *arguments: str, config=BASE, **keys) -> list[str]:
    """The command line of a tiny run of a config file, ARBase's if none is named."""
    pairs = map(str, overrides(folder, root, **{"IMPORTS": ["tests.tiny"], **keys}))
    options = ["--config-file", str(config), *arguments]
    return [sys.executable, "tools/train_net.py", *options, *pairs]
