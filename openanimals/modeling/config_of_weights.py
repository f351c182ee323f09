"""What the weights of a ReIDModel tell about the keys of the configuration that they fit."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor

from openanimals.modeling.layers.pools import POOLS
from openanimals.modeling.weights import HEAD_CLASSIFIERS, fits_any

_DEPTHS = {(False, 2): "18x", (False, 6): "34x", (True, 6): "50x", (True, 23): "101x"}
"""ResNets by whether their blocks are bottlenecks, and the number of blocks of the third stage."""

NOT_TOLD = (
    "MODEL.BACKBONE.LAST_STRIDE",
    "MODEL.HEADS.POOL_LAYER",
    "MODEL.HEADS.STRIPES",
    "MODEL.PIXEL_MEAN",
    "MODEL.PIXEL_STD",
    "INPUT.SIZE_TEST",
)
"""What changes the features of a model and cannot be seen from its weights alone."""


def fitting_values(state: Mapping[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    """Return the keys that weights tell, each with the values that fit, the likeliest first.

    The keys of the backbone are told by a ResNet's weights only.

    Args:
        state: the state dict of a :class:`~openanimals.modeling.model.ReIDModel`, whole.
    """
    return {**_backbone(state), **_heads(state)}


def count_classes(
    state: Mapping[str, Tensor], classifiers: Collection[str] = HEAD_CLASSIFIERS
) -> int:
    """Return how many identities the classifiers tell apart, 0 without classifiers."""
    weights = (value for key, value in state.items() if fits_any(key, classifiers))
    return next((len(weight) for weight in weights if weight.ndim), 0)


def _backbone(state: Mapping[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    bottleneck = "stem.layer1.0.conv3.weight" in state
    blocks = 1 + len({key.split(".")[3] for key in state if _is_block(key)})
    depth = _DEPTHS.get((bottleneck, blocks))
    if "stem.layer1.0.conv1.weight" not in state or depth is None:
        return {}
    return {
        "MODEL.BACKBONE.NAME": ("build_resnet_backbone",),
        "MODEL.BACKBONE.DEPTH": (depth,),
        "MODEL.BACKBONE.FEAT_DIM": (2048 if bottleneck else 512,),
        "MODEL.BACKBONE.NORM": _norms(state, "stem.bn1"),
        "MODEL.BACKBONE.WITH_IBN": ("stem.layer1.0.bn1.IN.weight" in state,),
        "MODEL.BACKBONE.WITH_SE": ("stem.layer1.0.se.fc.0.weight" in state,),
        "MODEL.BACKBONE.WITH_NL": (_has_attention(state),),
    }


def _is_block(key: str) -> bool:
    """Tell whether a key is of a block of the third stage's part in the first branch's tail."""
    return key.startswith("tails.b1.layer3.") and key.split(".")[3].isdigit()


def _has_attention(state: Mapping[str, Tensor]) -> bool:
    return any("_nl." in key for key in state)


def _norms(state: Mapping[str, Tensor], name: str) -> tuple[str, ...]:
    if f"{name}.running_mean" not in state:
        return ("GN",)
    if f"{name}.num_batches_tracked" not in state:
        return ("FrozenBN",)
    return ("BN", "syncBN", "GhostBN")


def _heads(state: Mapping[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    heads = {found[1] for key in state if (found := re.match(r"heads\.(b\d\d?)\.", key))}
    if not heads:
        return {}
    first = f"heads.{min(heads)}"
    reduction = state.get(f"{first}.reduction.weight")
    neck = f"{first}.neck.weight" in state
    told: dict[str, tuple[Any, ...]] = {
        "MODEL.HEADS.BRANCHES": (_branches(heads),),
        "MODEL.HEADS.EMBEDDING_DIM": (0 if reduction is None else len(reduction),),
        "MODEL.HEADS.WITH_BNNECK": (neck,),
        "MODEL.HEADS.POOL_LAYER": _pools(state, f"{first}.pool.p"),
    }
    if neck:
        told["MODEL.HEADS.NORM"] = _norms(state, f"{first}.neck")
    return told


def _branches(heads: set[str]) -> list[list[int]]:
    """Read ``[[1], [1, 2]]`` from b1, b2, b21, b22."""
    branches = []
    for number in sorted({head[1] for head in heads}):
        stripes = sum(head.startswith(f"b{number}") and len(head) == 3 for head in heads)
        branches.append([1] * (f"b{number}" in heads) + [stripes] * (stripes > 0))
    return branches


def _pools(state: Mapping[str, Tensor], exponent: str) -> tuple[str, ...]:
    if exponent in state:
        return ("GeneralizedMeanPoolingP",)
    others: Sequence[str] = [name for name in POOLS if name != "GeneralizedMeanPoolingP"]
    # Of FastReID's methods, AGW has non-local blocks and GeM with a fixed exponent.
    likely = "GeneralizedMeanPooling" if _has_attention(state) else "GlobalAvgPool"
    return (likely, *(name for name in others if name != likely))
