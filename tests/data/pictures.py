"""Small image files for the tests of the data sources, and data sets of noise for the caches."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from openanimals.data.catalogue import Catalogue
from openanimals.data.dataset import ReIDDataset
from openanimals.data.image_io import ImageError, read_image

COUNT, ROW_BYTES = 10, 8 * 10 * 3
BYTES = COUNT * ROW_BYTES


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


def noise_dataset(folder: Path, size=(8, 10), *, exact=True, masked=False, **columns):
    """All photographs of a folder, to be read as Pillow does."""
    paths = sorted(path.name for path in folder.glob("*.png"))
    table = pd.DataFrame({"path": paths, "identity": "a", **columns}, dtype=object)
    return ReIDDataset(Catalogue("noise", folder, table), size, exact=exact, masked=masked)


def as_pillow_reads(dataset: ReIDDataset) -> np.ndarray:
    """Return the images ``[N, H, W, 3]``, black where Pillow cannot read them."""
    images = np.zeros((len(dataset), *dataset.size, 3), np.uint8)
    for row, path in enumerate(dataset.paths):
        try:
            images[row] = read_image(path, dataset.size, dataset.boxes[row], dataset.masks[row])
        except ImageError:
            continue
    return images


def assert_holds(cache, dataset, reads, *, again):
    """The next one to open gets the right images and reads all of them, or none."""
    reads.clear()
    found = cache().open(dataset)
    assert sorted(reads) == (list(range(COUNT)) if again else [])
    reads.clear()
    for images in (found, cache().open(dataset)):
        np.testing.assert_array_equal(images.images.numpy(), as_pillow_reads(dataset))
        assert images.unreadable == found.unreadable
    assert set(reads) == set(found.unreadable)  # which are tried each time
    assert len([name for name in os.listdir(cache().folder) if name != ".lock"]) == 1
    return found
