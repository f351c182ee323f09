"""Small image files for the tests of the data sources."""

from pathlib import Path

import numpy as np
from PIL import Image


def save_picture(path: Path, size: tuple[int, int] = (8, 6)) -> Path:
    """Save a grey picture of (width, height) pixels; its folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (120, 120, 120)).save(path)
    return path


def save_noise(path: Path, seed: int, shape: tuple[int, int] = (12, 9)) -> Path:
    """Save a picture of (height, width) random pixels; its folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path
