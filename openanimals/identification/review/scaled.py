"""Photographs for the review page: scaled here, not by the browser, and without what EXIF says."""

import io
import math
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from openanimals.data.catalogue import Catalogue
from openanimals.data.image_io import image_size, limit_megapixels, open_image
from openanimals.matching.keypoints import Keypoints, extract_keypoints
from openanimals.matching.one_to_one import matched_spots

LARGEST = 600  # megapixels of a photograph: more than cameras have, and two of them in 4 GiB
SIZES = {"thumb": 240, "card": 480, "full": 1600}  # pixels of the longer side
QUALITY = 85
KEPT = 256  # encoded pictures in memory, some 100 MiB; the browser keeps them, too
MARKED = 20  # matched spots of a pair, the heaviest


class ScaledPhotographs:
    """The photographs of a catalogue by number of row, cut to their boxes.

    Args:
        images: the catalogue.
    """

    def __init__(self, images: Catalogue) -> None:
        self._images, self._boxes = images, images.column("bbox")
        self.jpeg = lru_cache(KEPT)(self._jpeg)
        self._keypoints = lru_cache(64)(self._extract)
        self.spots = lru_cache(512)(self._spots)
        limit_megapixels(LARGEST)

    def __len__(self) -> int:
        return len(self._images)

    def _jpeg(self, row: int, size: str) -> bytes:
        """Return a photograph as JPEG.

        Args:
            row: of the catalogue.
            size: of :data:`SIZES`.

        Raises:
            ImageError: it cannot be read.
        """
        memory = io.BytesIO()
        self._read(row, SIZES[size]).save(memory, "JPEG", quality=QUALITY)
        return memory.getvalue()

    def _spots(self, first: int, second: int) -> list[list[list[float]]]:
        """Return what matches in two photographs: of each its x, y and radius, in shares.

        Args:
            first: row of the catalogue.
            second: the other.
        """
        pair = self._keypoints(first), self._keypoints(second)
        circles = matched_spots(*pair).circles(MARKED)
        sizes = [(width, height, width) for width, height in (each.size for each in pair)]
        return [(each / size).round(4).tolist() for each, size in zip(circles, sizes, strict=True)]

    def _extract(self, row: int) -> Keypoints:
        return extract_keypoints(np.asarray(self._read(row, 640)), longest=480, points=800)

    def _read(self, row: int, longest: int) -> Image.Image:
        """Return pixels alone, so that nothing else of the file goes along.

        Raises:
            ImageError: it cannot be read.
        """
        path, box = self._images.path(row), self._boxes[row]
        image = _drafted(path, box, longest) or open_image(path, box)
        image.thumbnail((longest, longest))
        return Image.fromarray(np.asarray(image.convert("RGB")))


def _drafted(path: Any, box: Any, longest: int) -> Image.Image | None:
    """Read a JPEG in the least of the sizes that it can be decoded to; None of other files.

    It takes a hundredth of the memory, where 200 megapixels are to become one.
    """
    try:
        with open(path, "rb") as file, Image.open(file) as image:
            if image.format != "JPEG" or image.mode not in ("RGB", "L"):
                return None
            width, height = image.size
            share = min(1.0, longest / max(box[2:] if box else (width, height)))
            image.draft(image.mode, (math.ceil(width * share), math.ceil(height * share)))
            upright = ImageOps.exif_transpose(image)
        if box is None:
            return upright
        full = image_size(path)
    except Exception:  # of many kinds; open_image says what is wrong
        return None
    across, down = upright.width / full[0], upright.height / full[1]
    x, y, w, h = box
    edges = x * across, y * down, (x + w) * across, (y + h) * down
    left, top, right, bottom = (round(edge) for edge in edges)
    if right <= max(left, 0) or bottom <= max(top, 0):
        return None
    return upright.crop((left, top, right, bottom))
