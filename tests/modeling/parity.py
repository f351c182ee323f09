"""The release's models in our shape: same weights, same keys up to a change of names."""

import re

import torch

from openanimals.modeling import EmbeddingHead, ReIDModel
from openanimals.modeling.backbones.resnet import resnet
from tests.reference.fill_rule import fill_value

BRANCHES = {
    "bot_r50": [[1]],
    "bot_r50_ibn": [[1]],
    "arbase": [[1], [1, 2], [1, 3]],
}
_STEM = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3.0": 6}


def released_key(key: str, branches: int) -> str:
    """The release's name of one of our keys."""
    if match := re.fullmatch(r"heads\.(\w+)\.(classifier|neck)\.(.*)", key):
        head = "heads" if branches == 1 else f"{match[1]}_head"
        return f"{head}.{'weight' if match[2] == 'classifier' else f'bottleneck.0.{match[3]}'}"
    if branches == 1:
        return re.sub(r"^(stem|tails\.b1)\.", "backbone.", key)
    if match := re.fullmatch(r"stem\.(layer3\.0|\w+)\.(.*)", key):
        return f"backbone.{_STEM[match[1]]}.{match[2]}"
    match = re.fullmatch(r"tails\.(\w+)\.layer([34])\.(\d+)\.(.*)", key)
    assert match, key
    block = int(match[3]) - (match[2] == "3")  # layer3.0 is in the stem
    return f"{match[1]}.{int(match[2]) - 3}.{block}.{match[4]}"


def released_keys(model: ReIDModel) -> dict[str, str]:
    """Our keys to the release's."""
    return {key: released_key(key, len(model.tails)) for key in model.state_dict()}


def build(name: str, rule: str) -> ReIDModel:
    """One of the recorded models with the recorded weights, 5 classes."""
    model = ReIDModel(
        resnet("50x", ibn=name != "bot_r50"), BRANCHES[name], lambda c: EmbeddingHead(c, 5)
    )
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(
        {
            key: torch.from_numpy(fill_value(theirs, shapes[key], rule))
            for key, theirs in released_keys(model).items()
        }
    )
    return model
