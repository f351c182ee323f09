"""The release's models in our shape: same weights, same keys up to a change of names."""

import re

import torch

from openanimals.config import load
from openanimals.modeling import ReIDModel, build_model
from tests.modeling import released
from tests.reference.fill_rule import fill_value

RECORDED = ["bot_r50", "bot_r50_ibn", "agw_r50", "arbase"]  # features and losses, not keys alone

_STEM = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3.0": 6}


def released_key(key: str, keys: list[str]) -> str:
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


def released_keys(model: ReIDModel) -> dict[str, str]:
    """Our keys to the release's."""
    keys = list(model.state_dict())
    return {key: released_key(key, keys) for key in keys}


def empty(name: str, classes: int = 5) -> ReIDModel:
    """One of the recorded models with weights of its own."""
    keys = {**released.CONFIGS[name], **released.SIZES}
    return build_model(load(None, released.pairs(keys)), classes)


def build(name: str, rule: str) -> ReIDModel:
    """One of the recorded models with the recorded weights, 5 classes."""
    model = empty(name)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(
        {
            key: torch.from_numpy(fill_value(theirs, shapes[key], rule))
            for key, theirs in released_keys(model).items()
        }
    )
    return model
