"""The release's models: recorded names and shapes, and ours of the same architecture."""

import re
import zlib

import torch

from openanimals.config import load
from openanimals.modeling import ReIDModel, build_model
from tests.reference import load_json
from tests.reference.fill_rule import fill_value

_STEM = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3.0": 6}
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
RECORDED = ["bot_r50", "bot_r50_ibn", "agw_r50", "arbase"]  # features and losses, not keys alone
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


def filled(name: str, rule: str = "unit") -> dict[str, torch.Tensor]:
    """The state dict that the recorded features were computed with."""
    return {
        key: torch.from_numpy(fill_value(key, shape, rule)) for key, shape in shapes(name).items()
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


def empty(name: str, classes: int = 5) -> ReIDModel:
    """One of the recorded models with weights of its own."""
    return build_model(load(None, pairs({**CONFIGS[name], **SIZES})), classes)


def build(name: str, rule: str) -> ReIDModel:
    """One of the recorded models with the recorded weights, 5 classes."""
    model, state = empty(name), filled(name, rule)
    model.load_state_dict({key: state[theirs] for key, theirs in their_names(model).items()})
    return model


def their_name(key: str, keys: list[str]) -> str:
    """The release's name of one of our keys, given all of them."""
    one_branch = not any(other.startswith("tails.b2.") for other in keys)
    if match := re.fullmatch(r"heads\.(\w+)\.(pool|reduction|neck|classifier)\.(.*)", key):
        name, part, rest = match.groups()
        head = "heads" if one_branch else f"{name}_head"
        after_reduction = int(f"heads.{name}.reduction.weight" in keys)
        return {
            "pool": f"{head}.pool_layer.{rest}",
            "reduction": f"{head}.bottleneck.0.{rest}",
            "neck": f"{head}.bottleneck.{after_reduction}.{rest}",
            "classifier": f"{head}.{rest}",
        }[part]
    if one_branch:
        if match := re.search(r"layer(\d)\.(\d+)_nl\.(.*)", key):
            pattern = rf".*layer{match[1]}\.(\d+)_nl\..*"
            found = {int(m[1]) for other in keys if (m := re.fullmatch(pattern, other))}
            return f"backbone.NL_{match[1]}.{sorted(found).index(int(match[2]))}.{match[3]}"
        return re.sub(r"^(stem|tails\.b1)\.", "backbone.", key)
    if match := re.fullmatch(r"stem\.(layer3\.0|\w+)\.(.*)", key):
        return f"backbone.{_STEM[match[1]]}.{match[2]}"
    match = re.fullmatch(r"tails\.(\w+)\.layer([34])\.(\d+)\.(.*)", key)
    assert match, key
    block = int(match[3]) - (match[2] == "3")  # layer3.0 is in the stem
    return f"{match[1]}.{int(match[2]) - 3}.{block}.{match[4]}"


def their_names(model: ReIDModel) -> dict[str, str]:
    """Our keys to the release's."""
    keys = list(model.state_dict())
    return {key: their_name(key, keys) for key in keys}
