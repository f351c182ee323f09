"""What a network would do with images, told without computing it: on torch's meta device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def on_meta(network: nn.Module) -> Iterator[None]:
    """Take the values of a network's weights away for the length of a block, in which it is tried.

    It is in eval mode then, takes tensors on the meta device, and gives such, of which only shape
    and type are real.
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    kept: list[tuple[dict[str, Any], str, Tensor]] = []
    for module in network.modules():
        places: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        kept += [(place, *item) for place in places for item in place.items()]
    for place, name, value in kept:
        place[name] = None if value is None else torch.empty_like(value, device="meta")
    try:
        with torch.no_grad():
            yield
    finally:
        for place, name, value in kept:
            place[name] = value
        for module, training in modes:
            module.training = training
