"""Rows of a catalogue to images: which photographs are read, and how."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from importlib.metadata import version

import numpy as np
import PIL
import torch
from torch import Tensor
from torch.utils.data import Dataset

from openanimals.data.catalogue import Catalogue
from openanimals.data.image_io import ImageError, open_image, read_image, resize
from openanimals.data.masks import is_shape
from openanimals.data.transforms import auto_augment
from openanimals.utils.reproducibility import derive_seed


class ReIDDataset(Dataset):
    """The images of a catalogue in batches: read, rotated, cropped and resized.

    Args:
        images: the catalogue.
        size: height and width that all are resized to, in pixels.
        exact: resize as Pillow does, bit for bit.
        masked: make backgrounds black where there are masks.
        substitute: let another image of the same identity stand in for one that cannot be read.
        auto_augment_prob: share of the images that AutoAugment changes, before the resize.
        seed: of AutoAugment.

    Attributes:
        files: that the images are made of: photographs, and masks that are files.
        shape: of all images once they are decoded, ``(N, H, W, 3)``; ``nbytes`` are their bytes.
        cached: messages on the unreadable images, by row, where a cache has all images; then only
            what AutoAugment changes is read here. None: all are read here.
    """

    def __init__(
        self,
        images: Catalogue,
        size: Sequence[int],
        *,
        exact: bool,
        masked: bool = False,
        substitute: bool = False,
        auto_augment_prob: float = 0.0,
        seed: int = 0,
    ) -> None:
        # Plain lists: worker processes share their memory, and reading them is quick.
        self.paths = [str(images.root / path) for path in images.table["path"]]
        self.boxes = images.table["bbox"].tolist()
        self.masks = [images.mask(row) if masked else None for row in range(len(self.paths))]
        drawn = [mask for mask in self.masks if mask is not None and not is_shape(mask)]
        self.files = list(dict.fromkeys([*self.paths, *drawn]))
        self.identities = images.table["identity"].tolist()
        self.size = (size[0], size[1])
        self.shape = (len(self.paths), *self.size, 3)
        self.nbytes = math.prod(self.shape)
        self.exact, self.substitute = exact, substitute
        self.auto_augment_prob, self.seed = auto_augment_prob, seed
        self.cached: dict[int, str] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(
        self, places: list[tuple[int, int]]
    ) -> tuple[Tensor, list[int], Tensor, dict[int, str], dict[int, str]]:
        """Return a batch; never raise, as out of a worker process errors come with a traceback.

        Args:
            places: for each image its row, and how many images of the whole training come before
                it; on the second depends what AutoAugment does.

        Returns:
            The images that no cache has, uint8 ``[n, H, W, 3]``, RGB, and their places in the
            batch; the rows of all images, ``[B]``; and by row, messages on those that cannot be
            read: that others stand in for, and that nothing stands in for, which are black.
        """
        images, positions, rows = [], [], []
        unreadable: dict[int, str] = {}
        lost: dict[int, str] = {}
        for position, (first, number) in enumerate(places):
            told: dict[int, str] = {}
            for row in self._candidates(first):
                try:
                    image = self._image(row, number)
                    unreadable |= told
                    break
                except ImageError as error:
                    told[row] = str(error)
            else:
                row, image = first, np.zeros(self.shape[1:], np.uint8)
                lost |= told
            rows.append(row)
            if image is not None:
                images.append(torch.from_numpy(image))
                positions.append(position)
        read = torch.stack(images) if images else torch.empty(0)
        return read, positions, torch.tensor(rows), unreadable, lost

    def _candidates(self, row: int) -> Iterator[int]:
        """Yield the row, then (to substitute) the identity's other rows, cyclically."""
        yield row
        if self.substitute:
            own = np.flatnonzero(np.array(self.identities, dtype=object) == self.identities[row])
            yield from (*own[own > row].tolist(), *own[own < row].tolist())

    def _image(self, row: int, number: int) -> np.ndarray | None:
        if self.auto_augment_prob:
            seed = derive_seed(self.seed, "autoaugment", number)
            if seed % 10**9 < self.auto_augment_prob * 10**9:
                image = open_image(self.paths[row], self.boxes[row], self.masks[row])
                return np.array(resize(auto_augment(image, seed), self.size))
        if self.cached is None:
            return self.read(row)
        if row in self.cached:
            raise ImageError(self.cached[row])
        return None

    def read(self, row: int) -> np.ndarray:
        """Return the image of a row from its file (``[H, W, 3]``), or raise an ImageError."""
        place = self.boxes[row], self.masks[row]
        return read_image(self.paths[row], self.size, *place, exact=self.exact)

    def digest(self) -> str:
        """Return a hash of what is read and how, including the versions of what reads it."""
        versions = {"Pillow": PIL.__version__}
        if not self.exact:
            versions |= {name: version(name) for name in ("torch", "torchvision")}
        settings = [self.size, self.exact, versions]
        paths = [os.path.abspath(path) for path in self.paths]
        rows = list(zip(paths, self.boxes, self.masks, strict=True))
        return hashlib.sha256(json.dumps([settings, rows]).encode()).hexdigest()
