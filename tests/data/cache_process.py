"""The photographs of the tests of the cache, and a script that caches them.

The script caches a folder on disk. Usage: cache_process.py PHOTOGRAPHS CACHE LOG. Each photograph
that it decodes becomes a line of LOG, and the CRC-32 of all images becomes its output. With
KILL_AT n, it is killed when it has decoded so many or more and stored some of them.
"""

import os
import signal
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from openanimals.data import cache
from openanimals.data.catalogue import Catalogue
from openanimals.data.dataset import ReIDDataset
from openanimals.data.image_io import ImageError, read_image

COUNT, ROW_BYTES = 10, 8 * 10 * 3
BYTES = COUNT * ROW_BYTES


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


def main(folder: str, target: str, log: str) -> None:
    read, kill_at = ReIDDataset.read, int(os.environ.get("KILL_AT", "0"))

    def watched(self, row):
        with open(log, "a+") as file:
            file.write(f"{row}\n")
            file.seek(0)
            if 0 < kill_at <= len(file.readlines()):  # two threads may write before one counts
                os.kill(os.getpid(), signal.SIGKILL)
        return read(self, row)

    ReIDDataset.read = watched
    cache.CHUNK = 4
    own = cache.ImageCache("disk", 1e9, Path(target), torch.device("cpu"))
    found = own.open(noise_dataset(Path(folder)))
    print(zlib.crc32(found.images.numpy().tobytes()))


if __name__ == "__main__":
    main(*sys.argv[1:])
