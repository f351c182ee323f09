"""Pixels of any mode that Pillow reads as RGB of 8 bits a channel."""

import re
import sys
from typing import Any

import numpy as np
from PIL import Image

from openanimals.utils.errors import UserError

DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras put into 16
DEEP = re.compile(r"(RGBA?;16)([LBN])")  # what Pillow calls colour of 16 bits, and its byte order
LOW = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB where Pillow's own conversion would clip or warn, too."""
    if image.mode.startswith("I"):  # I;16 and its byte orders; I where 16 bits came in as 32
        levels = np.asarray(image).astype(np.int64)
        if abs(levels).max() >= 2 << 16:
            raise UserError("pixels of 32 bits have no defined white; expected 8 or 16 bits")
        image = _eight_bits(levels.clip(0, 65535))
    elif image.mode == "F":
        raise UserError("float pixels have no defined white; expected 8 or 16 bits a channel")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # else Pillow warns of the loss of the transparency
    return image.convert("RGB")


def low_byte_tiles(image: Image.Image) -> list[Any]:
    """Return tiles that make Pillow decode the low bytes of a file of 16 bits a colour.

    Pillow keeps the high bytes alone; in the other byte order, it keeps the low ones. Nothing for
    files of another kind. The image is opened, but not loaded.
    """
    tiles = []
    for tile in getattr(image, "tile", []):
        first, *rest = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        deep = DEEP.fullmatch(str(first))
        if deep is None:
            return []
        mode = deep[1] + LOW[deep[2]]
        tiles.append(tile._replace(args=(mode, *rest) if isinstance(tile.args, tuple) else mode))
    return tiles


def is_dark(image: Image.Image) -> bool:
    """Tell whether high bytes, as RGB, may be those of 14 bits in 16, or of fewer."""
    return int(np.asarray(image).max()) < 1 << 14 - 8


def joined(high: Image.Image, low: Image.Image) -> Image.Image:
    """Return an image of 8 bits a colour from its high bytes (RGB) and its low bytes."""
    levels = np.asarray(high).astype(np.int64) << 8 | np.asarray(low.convert("RGB"))
    return _eight_bits(levels)


def _eight_bits(levels: np.ndarray) -> Image.Image:
    """Keep the highest eight bits of those in use; of 12 in 16, the high byte is all but black."""
    depth = next(bits for bits in DEPTHS if levels.max() < 1 << bits)
    return Image.fromarray((levels >> (depth - 8)).astype(np.uint8))
