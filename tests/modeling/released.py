"""State dicts of the release's models: recorded names and shapes, and configurations of ours."""

import zlib

import torch

from tests.reference import load_json
from tests.reference.fill_rule import fill_value

_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
_MGN = {"MODEL.HEADS.BRANCHES": [[1], [1, 2], [1, 3]]}
_IBN = {"MODEL.BACKBONE.WITH_IBN": True}
_SE = {"MODEL.BACKBONE.WITH_SE": True}
_NL = {"MODEL.BACKBONE.WITH_NL": True}
_GEM = {"MODEL.HEADS.POOL_LAYER": "GeneralizedMeanPooling"}
_GEM_P = {"MODEL.HEADS.POOL_LAYER": "GeneralizedMeanPoolingP"}
_REDUCED = {"MODEL.HEADS.EMBEDDING_DIM": 256}
_SMALL = {"MODEL.BACKBONE.FEAT_DIM": 512}

COMMON = {
    "MODEL.BACKBONE.DEPTH": "50x",
    "MODEL.BACKBONE.FEAT_DIM": 2048,
    "MODEL.BACKBONE.WITH_IBN": False,
    "MODEL.BACKBONE.WITH_SE": False,
    "MODEL.BACKBONE.WITH_NL": False,
    "MODEL.HEADS.BRANCHES": [[1]],
    "MODEL.HEADS.EMBEDDING_DIM": 0,
    "MODEL.HEADS.WITH_BNNECK": True,
    "MODEL.HEADS.POOL_LAYER": "GlobalAvgPool",
}
CONFIGS = {
    "bot_r50": COMMON,
    "bot_r50_ibn": COMMON | _IBN,
    "agw_r50": COMMON | _NL | _GEM,
    "sbs_r50": COMMON | _NL | _GEM_P,
    "mgn_r50": COMMON | _MGN | _GEM_P | _REDUCED,
    "mgn_r50_ibn": COMMON | _IBN | _MGN | _GEM_P | _REDUCED,
    "arbase": COMMON | _IBN | _MGN,
    "r18_se": COMMON | _SE | _SMALL | {"MODEL.BACKBONE.DEPTH": "18x"},
    "r34_ibn": COMMON | _IBN | _SMALL | {"MODEL.BACKBONE.DEPTH": "34x"},
    "r101_ibn_se_nl": COMMON | _IBN | _SE | _NL | _GEM_P | {"MODEL.BACKBONE.DEPTH": "101x"},
}
"""The keys that make ours of the same architecture."""

NAMES = tuple(CONFIGS)
SIZES = {"INPUT.SIZE_TRAIN": [80, 80], "INPUT.SIZE_TEST": [80, 80]}


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The recorded keys of a model and their shapes, in order."""
    found: dict[str, tuple[int, ...]] = {}
    for module, text in load_json("foreign_keys.json")[name].items():
        for tensor in text.split(", "):
            kind, _, size = tensor.partition(" ")
            shape = tuple(map(int, size.split("x")))
            if kind == "norm":
                found |= {f"{module}.{part}": shape for part in _BATCH_NORM}
                found[f"{module}.num_batches_tracked"] = ()
            else:
                found[f"{module}.{kind}"] = shape
    return found


def state(name: str) -> dict[str, torch.Tensor]:
    """A state dict in which each tensor is filled with a number of its own, and takes no space."""
    return {
        key: torch.tensor(mark(key), dtype=_dtype(key)).expand(shape)
        for key, shape in shapes(name).items()
    }


def filled(name: str) -> dict[str, torch.Tensor]:
    """The state dict that the recorded features were computed with."""
    return {
        key: torch.from_numpy(fill_value(key, shape, "unit")) for key, shape in shapes(name).items()
    }


def mark(key: str) -> int:
    """A number by which a tensor is known again; exact in float32."""
    return zlib.crc32(key.encode()) % 2**20


def _dtype(key: str) -> torch.dtype:
    return torch.int64 if key.endswith("num_batches_tracked") else torch.float32


def pairs(keys: dict) -> list:
    """``[KEY, VALUE, ...]`` of a dict."""
    return [part for pair in keys.items() for part in pair]


def yaml(keys: dict) -> str:
    """YAML text of dotted keys; the loader takes them as they are."""
    return "".join(f"{key}: {value}\n" for key, value in keys.items())
