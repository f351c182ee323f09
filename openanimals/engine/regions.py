"""Which regions of two photographs a network finds alike."""

from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from openanimals.data.image_io import resize
from openanimals.engine.predictor import Predictor


class Regions(NamedTuple):
    """What each place of two photographs adds to their similarity.

    Attributes:
        first: `[h, w]`, of the places of the first photograph, float64; h and w as in the network's
            last map, about a sixteenth of what it looks at. Negative: what speaks against it.
        second: the same of the second photograph.
        similarity: cosine of the two features, -1 to 1. With average pooling each map's sum is this
            but for a part that does not depend on the places.
    """

    first: np.ndarray
    second: np.ndarray
    similarity: float


def alike_regions(predictor: Predictor, first: np.ndarray, second: np.ndarray) -> Regions:
    """Take the similarity of two photographs apart by place.

    A place adds, over all branches, the product of its map with the slope of the similarity by it,
    the lengths of the features held fixed: for features that are averages over places, as ARBase's
    are, exactly what would be lacking if the place were empty (gradient times input; Shrikumar et
    al., arXiv 1605.01713).

    Args:
        predictor: the network.
        first: a photograph, cut to the animal as the network is used to see it, uint8 `[H, W, 3]`.
        second: the other one, of any size.
    """
    size = tuple(predictor.cfg.INPUT.SIZE_TEST)
    pixels = [np.asarray(resize(Image.fromarray(each), size)) for each in (first, second)]
    batch = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).to(predictor.device)
    maps: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        maps.append(output)

    hooks = [tail.register_forward_hook(keep) for tail in predictor.model.tails.values()]
    try:
        with torch.enable_grad():
            features = predictor.model(batch.float().requires_grad_())
            fixed = features.detach()
            lengths = fixed.norm(dim=1).prod()
            # Each photograph's own slope: the other one's feature stays as it is.
            ((features * fixed.flip(0)).sum() / lengths).backward()
    finally:
        for hook in hooks:
            hook.remove()
        predictor.model.zero_grad(set_to_none=True)
    parts = [(each * each.grad).sum(dim=1).detach().double().cpu() for each in maps]  # [2, h, w]
    both = torch.stack(parts).sum(dim=0).numpy()
    return Regions(both[0], both[1], float((fixed[0] @ fixed[1]) / lengths))


def share_inside(places: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of what speaks for a similarity that lies on the animal.

    Args:
        places: `[h, w]`, see :class:`Regions`.
        mask: bool `[H, W]`, True on the animal, of any size.

    Returns:
        0 to 1; NaN where nothing speaks for it.
    """
    height, width = places.shape
    image = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    positive = np.maximum(places, 0)
    total = positive.sum()
    return float((positive * np.asarray(image)).sum() / total) if total else float("nan")
