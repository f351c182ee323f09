"""Small image files for the tests of the data sources, and what Pillow reads of some."""

from pathlib import Path

import numpy as np
from PIL import Image

from openanimals.data.image_io import ImageError, read_image
from openanimals.data.photographs import Photographs


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


def as_pillow_reads(photographs: Photographs) -> np.ndarray:
    """Return photographs as ``[N, H, W, 3]``, black where Pillow cannot read them."""
    images = np.zeros((len(photographs), *photographs.size, 3), np.uint8)
    for row, path in enumerate(photographs.paths):
        try:
            images[row] = read_image(path, photographs.size, photographs.boxes[row])
        except ImageError:
            continue
    return images
