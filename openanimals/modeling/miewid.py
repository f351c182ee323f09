"""The names of MiewID's weights and ours: from one to the other.

MiewID (Otarashvili et al. 2024, arXiv 2412.05602) is timm's EfficientNetV2 with GeM and a batch
norm, so a :class:`~openanimals.modeling.model.ReIDModel` with one branch can hold it.
"""

import re
from collections.abc import Collection, Mapping

from torch import Tensor

_OURS = (
    (r"backbone\.((conv_stem|bn1|blocks\.[012]|blocks\.3\.0)\..+)", r"stem.\1"),
    (r"backbone\.(.+)", r"tails.b1.\1"),
    (r"pooling\.p", "heads.b1.pool.p"),
    (r"bn\.(.+)", r"heads.b1.neck.\1"),
)
_CLASSIFIER = "final."


def is_miewid(keys: Collection[str]) -> bool:
    """Tell whether these are the names of MiewID's weights."""
    return {"backbone.conv_stem.weight", "pooling.p", "bn.weight"} <= set(keys)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under our names, but for the classifier, which is of other animals."""
    kept = {key: value for key, value in state.items() if not key.startswith(_CLASSIFIER)}
    return {_our_name(key): value for key, value in kept.items()}


def _our_name(key: str) -> str:
    for pattern, ours in _OURS:
        if found := re.fullmatch(pattern, key):
            return found.expand(ours)
    return key
