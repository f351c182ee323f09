"""Which photographs are read, and how: all that decides on the pixels of an image."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import PIL
from PIL import Image
from torch import Tensor

from openanimals.data.catalogue import Catalogue
from openanimals.data.decode import read_pixels
from openanimals.data.image_io import open_image
from openanimals.data.masks import is_shape


@dataclass(frozen=True)
class Photographs:
    """Photographs by row: read, rotated, cropped and resized.

    Attributes:
        paths: of the files.
        boxes: what each is cropped to, or None (see :func:`~openanimals.data.image_io.open_image`).
        masks: where the animal of each is, or None (see the same).
        size: height and width that all are resized to, in pixels.
        exact: resize as Pillow does, bit for bit.
    """

    # Plain lists: worker processes share their memory, and reading them is quick.
    paths: list[str]
    boxes: list[tuple[float, ...] | None]
    masks: list[str | None]
    size: tuple[int, int]
    exact: bool

    @classmethod
    def of(
        cls, images: Catalogue, size: Sequence[int], *, exact: bool, masked: bool = False
    ) -> "Photographs":
        """Take the rows of a catalogue; ``masked`` makes backgrounds black where there are masks.

        Args:
            images: the rows.
            size: see the class; so for ``exact``.
            exact: see the class.
            masked: whether masks count.
        """
        rows = range(len(images))
        return cls(
            paths=[str(images.path(row)) for row in rows],
            boxes=images.column("bbox"),
            masks=[images.mask(row) if masked else None for row in rows],
            size=(size[0], size[1]),
            exact=exact,
        )

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def nbytes(self) -> int:
        """Bytes of all images when they are ready."""
        return len(self) * self.size[0] * self.size[1] * 3

    def read(self, row: int) -> Tensor:
        """Return an image, uint8 ``[3, H, W]`` in channels-last memory.

        Raises:
            ImageError: it cannot be read.
        """
        return read_pixels(
            self.paths[row], self.size, self.boxes[row], self.masks[row], exact=self.exact
        )

    def open(self, row: int) -> Image.Image:
        """Return an image cropped, but not resized yet.

        Raises:
            ImageError: it cannot be read.
        """
        return open_image(self.paths[row], self.boxes[row], self.masks[row])

    def files(self, row: int) -> list[str]:
        """Return the files that an image is made of: the photograph and, if in a file, its mask."""
        mask = self.masks[row]
        return [self.paths[row]] + ([] if mask is None or is_shape(mask) else [mask])

    def digest(self) -> str:
        """Return a hash of what is read and how, including the versions of what reads it."""
        versions = {"Pillow": PIL.__version__}
        if not self.exact:
            versions |= {name: version(name) for name in ("torch", "torchvision")}
        settings = [self.size, self.exact, versions]
        paths = [os.path.abspath(path) for path in self.paths]
        rows = list(zip(paths, self.boxes, self.masks, strict=True))
        return hashlib.sha256(json.dumps([settings, rows]).encode()).hexdigest()
