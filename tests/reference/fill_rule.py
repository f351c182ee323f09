"""Weights and images that anyone can make again: the rule by which the reference was filled."""

import zlib

import numpy as np
import torch
from torch import nn


def fill_value(key: str, shape: tuple[int, ...], rule: str) -> np.ndarray:
    """The value of one entry of a state dict, a function of its key and shape.

    ``unit`` scales convolutions to keep the signal's size; ``brief`` makes them small.
    """
    normal = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    kind = key.rsplit(".", 1)[-1]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if kind == "weight" and len(shape) >= 2:
        value = 0.02 * normal if rule == "brief" else normal / np.sqrt(np.prod(shape[1:]))
    else:
        value = {
            "weight": 1 + 0.1 * normal,
            "bias": 0.1 * normal,
            "running_mean": 0.1 * normal,
            "running_var": 1 + 0.1 * np.abs(normal),
            "p": 3 + 0.1 * normal,
        }[kind]
    return np.asarray(value, np.float32)


def fill_module(module: nn.Module) -> None:
    """Give a module the values of its keys and shapes, by the rule ``unit``."""
    values = {k: fill_value(k, tuple(v.shape), "unit") for k, v in module.state_dict().items()}
    module.load_state_dict({key: torch.from_numpy(value) for key, value in values.items()})


def make_images(count: int, height: int, width: int, seed: int) -> np.ndarray:
    """Images of 8x8 coloured blocks and a little noise, whole numbers 0..255, ``[N, 3, H, W]``."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (count, 3, 8, 8))
    blocks = blocks.repeat(height // 8, axis=2).repeat(width // 8, axis=3)
    noise = random.integers(-20, 21, (count, 3, height, width))
    return np.clip(blocks + noise, 0, 255).astype(np.float32)
