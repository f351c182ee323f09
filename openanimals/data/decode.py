"""One photograph from its file to the tensor that the model gets: as Pillow reads it, or faster.

The fast way is for photographs that are much larger than the model wants them, where the time
goes. libjpeg decodes both ways, to the same pixels. The resize is the same filter in the same
order, but torch rounds its weights to 16 bits: a few values in a thousand come out one level off,
and of drawings with hard edges, not of photographs, a few in a million two.
"""

import os
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from openanimals.data.image_io import UPRIGHT, box_edges, exif_orientation, opened, read_image

# Below it rounding adds up: of photographs, too, one value in 200 differs, some by two levels.
LEAST_SHRINK = 2


def read_pixels(
    path: str | os.PathLike[str],
    size: tuple[int, int],
    bbox: Sequence[float] | None = None,
    mask: str | None = None,
    *,
    exact: bool,
) -> Tensor:
    """Read an image for a batch.

    The fast way is taken by a JPEG of 8-bit colour or grey that EXIF does not turn, that has no
    mask, and whose box lies within it and is to shrink to half or less; all others are read by
    :func:`~openanimals.data.image_io.read_image`.

    Args:
        path: the file.
        size: (height, width) in pixels to resize to.
        bbox: as in :func:`~openanimals.data.image_io.open_image`.
        mask: as in :func:`~openanimals.data.image_io.open_image`.
        exact: return what ``read_image`` does, bit for bit.

    Returns:
        uint8 ``[3, H, W]``, RGB, in channels-last memory (a permuted ``[H, W, 3]``).

    Raises:
        ImageError: see :func:`~openanimals.data.image_io.open_image`.
    """
    crop = None if exact or mask is not None else _large_crop(path, size, bbox)
    if crop is None:
        pixels = torch.from_numpy(read_image(path, size, bbox, mask))
    else:
        pixels = _shrunk(crop, size)
    return pixels.permute(2, 0, 1)


def _large_crop(
    path: str | os.PathLike[str], size: tuple[int, int], bbox: Sequence[float] | None
) -> Tensor | None:
    """Return what lies within the box (``[h, w, 3]``); None if Pillow is to read it."""
    with opened(path) as image:
        edges = _plain_edges(image, bbox)
        if edges is None:
            return None
        left, top, right, bottom = edges
        if not _shrinks(bottom - top, right - left, size):
            return None
        data = np.fromfile(path, np.uint8)
    pixels = jpeg_pixels(torch.from_numpy(data))
    return None if pixels is None else pixels[top:bottom, left:right]


def _plain_edges(
    image: Image.Image, bbox: Sequence[float] | None
) -> tuple[int, int, int, int] | None:
    """Return the edges of the box if it lies within an upright JPEG of colour or grey, or None."""
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L"):
        return None
    if exif_orientation(image) in UPRIGHT:
        return None
    edges = (0, 0, *image.size) if bbox is None else box_edges(bbox)
    if edges is None:
        return None
    left, top, right, bottom = edges
    inside = left >= 0 and top >= 0 and right <= image.width and bottom <= image.height
    return edges if inside else None


def _shrinks(height: int, width: int, size: tuple[int, int]) -> bool:
    """Tell whether torch resizes a box as Pillow does, but for rounding."""
    if height < LEAST_SHRINK * size[0] or width < LEAST_SHRINK * size[1]:
        return False
    # Else Pillow (from version 13 on) resizes the height first, and torch always the width.
    return height - size[0] <= 2 * (width - size[1])


def jpeg_pixels(data: Tensor) -> Tensor | None:
    """Decode a JPEG by torchvision.

    Args:
        data: the bytes of the file, uint8.

    Returns:
        uint8 ``[h, w, 3]``, RGB, the same values as Pillow's; None where libjpeg gives up. A file
        that is cut short is not filled up, as it is not by Pillow.
    """
    from torchvision.io import ImageReadMode, decode_jpeg

    try:
        return decode_jpeg(data, ImageReadMode.RGB).permute(1, 2, 0)
    except RuntimeError:
        return None


def _shrunk(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``[h, w, 3]`` to ``[H, W, 3]``, contiguous."""
    # Permuted with its batch, not before: else torch takes it for planes, and is slower.
    batch = pixels[None].permute(0, 3, 1, 2)
    batch = functional.interpolate(batch, size, mode="bicubic", antialias=True)
    return batch[0].permute(1, 2, 0).contiguous()
