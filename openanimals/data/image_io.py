"""One photograph from its file to upright RGB pixels: decode, rotate, mask, crop, resize.

Nothing here is random, so that what comes out can be cached. What is not exact is not used either
(no decoding at a reduced size, no filling up of truncated files), but for one thing that the caller
asks for: photographs that are much larger than the model wants them are read faster, see
:func:`read_image`.
"""

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, ImageStat, UnidentifiedImageError

from openanimals.data.masks import is_shape, shape_mask
from openanimals.data.rgb import is_dark, joined, low_byte_tiles, to_rgb
from openanimals.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

# What makes an image upright, by the number in its EXIF block (1, upright already, is left out).
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LYING = {UPRIGHT[number] for number in (5, 6, 7, 8)}  # these exchange width and height

# Below it rounding adds up: of photographs, too, one value in 200 differs, some by two levels.
LEAST_SHRINK = 2

SAMPLE = 1000  # pixels of a side that are enough to tell contrast by
LEAST_REMOVED = 0.01  # of an image's pixels: a mask that makes fewer black is of no use
LARGEST_BOX = 100  # times the area of its image; all but a hundredth of such a crop is black


class ImageError(UserError):
    """An image that cannot be read, or not be cropped; names the file and the cause."""


def limit_megapixels(limit: float) -> None:
    """Set how many millions of pixels an image, or a box, may have: in this process, for all."""
    # Pillow refuses from twice its own limit on; of that it warns, which is no news here.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = int(limit * 1e6 / 2)


def read_image(
    path: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    bbox: Sequence[float] | None = None,
    mask: str | None = None,
    *,
    exact: bool = True,
) -> np.ndarray:
    """Read an image as the model gets to see it.

    Args:
        path: the file.
        size: (height, width) in pixels to resize to; None keeps the size of the file or box.
        bbox: as in :func:`open_image`, like mask.
        mask: see bbox.
        exact: read and resize by Pillow alone. Else a JPEG of 8-bit colour or grey that EXIF does
            not turn, that has no mask, and whose box lies within it and is to shrink to half or
            less, is resized by torch: the same filter in the same order, but with weights of 16
            bits. A few values in a thousand come out one level off, and of drawings with hard
            edges, not of photographs, a few in a million two.

    Returns:
        uint8 ``[H, W, 3]``, RGB, writable.

    Raises:
        ImageError: see :func:`open_image`.
    """
    if size is not None and mask is None and not exact:
        pixels = _read_large(path, size, bbox)
        if pixels is not None:
            return pixels
    image = open_image(path, bbox, mask)
    return np.array(image if size is None else resize(image, size))


def open_image(
    path: str | os.PathLike[str], bbox: Sequence[float] | None = None, mask: str | None = None
) -> Image.Image:
    """Open an image upright, in RGB, its background black, cropped to its box.

    Any format and mode that Pillow reads: palettes are looked up, grey becomes three equal
    channels, of 16 bits the high byte is kept (of 10, 12 or 14 bits in 16, the highest eight),
    alpha is dropped (what was stored beneath it shows), of an animation the first frame is taken.
    A broken EXIF block counts as none.

    Args:
        path: the file.
        bbox: (x, y, width, height) in pixels of the upright image. Its edges are rounded to whole
            pixels, as wildlife-datasets does; what lies outside of the image is black.
        mask: where the animal is, in the upright image: the path of an image that is not zero
            there (its alpha does not count), or a shape (see ``masks.py``). A mask of another size
            and the same ratio of sides is scaled (nearest pixel). None keeps the background.

    Raises:
        ImageError: the file is missing, truncated, no image, or has pixels without a defined
            range (float); the box is one that :func:`box_is_usable` refuses; or the mask cannot be
            read, is of another shape than the image or leaves nothing of it.
    """
    return _read(path, bbox, mask)[-1]


@dataclass(frozen=True)
class Look:
    """What the data check wants to know of a photograph.

    Attributes:
        size: (width, height) of the upright image, in pixels.
        deviation: of its levels of grey (0 to 255) from their mean.
        idle: whether it has a mask that makes next to nothing black.
    """

    size: tuple[int, int]
    deviation: float
    idle: bool


def look_at(path: str | os.PathLike[str], mask: str | None = None) -> Look:
    """Decode a photograph, and its mask, to their ends.

    Raises:
        ImageError: see :func:`open_image`.
    """
    upright, animal, _ = _read(path, None, mask)
    width, height = upright.size
    sample = min(width, SAMPLE), min(height, SAMPLE)  # single pixels: a mean would lose contrast
    grey = upright.resize(sample, Image.Resampling.NEAREST).convert("L")
    deviation = ImageStat.Stat(grey).stddev[0]
    removed = animal.histogram()[0] / (width * height) if animal else 1.0
    return Look(upright.size, deviation, removed < LEAST_REMOVED)


def _read(
    path: str | os.PathLike[str], bbox: Sequence[float] | None, mask: str | None
) -> tuple[Image.Image, Image.Image | None, Image.Image]:
    """Return an image upright, its mask of the same size, and what both and a box make of it."""
    with _opened(path) as image:
        upright = result = _upright(path, image)
        animal = None
        if mask is not None:
            animal = _animal(mask, upright.size)
            result = Image.composite(upright, Image.new("RGB", upright.size), animal)
        if bbox is not None:
            width, height = upright.size
            edges = _edges(bbox, upright.size)
            if edges is None:
                raise ImageError(
                    f"cannot crop {path} to the box {tuple(bbox)}; expected x, y, width, height "
                    f"that overlap the image of {width} x {height} pixels (width x height), more "
                    f"than one pixel, and not {LARGEST_BOX} times as large"
                )
            result = result.crop(edges)
        if mask is not None and result.getbbox() is None:
            raise ImageError(
                f"the mask of {path} leaves nothing of the image; to keep its background, leave "
                "the mask of its row empty"
            )
        return upright, animal, result


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize an image to (height, width) by Pillow's bicubic filter."""
    height, width = size
    return image.resize((width, height), Image.Resampling.BICUBIC)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (width, height) of the upright image, in pixels, without decoding it.

    Only a PNG whose header has no EXIF is decoded, since in a PNG it may follow the pixels.

    Raises:
        ImageError: the file is missing or its header cannot be read.
    """
    with _opened(path) as image:
        width, height = image.size
        if image.format == "TIFF":  # Pillow gives the size of a TIFF upright
            return width, height
        if image.format == "PNG" and "exif" not in image.info:
            image.load()
        return (height, width) if _turn(image) in LYING else (width, height)


def box_is_usable(bbox: Sequence[float], size: tuple[float, float]) -> bool:
    """Tell whether :func:`open_image` can crop an upright image of (width, height) to a box.

    It cannot if the box is not a number, empty, of one pixel, wholly outside of the image, more
    than 100 times as large, or above the limit for images.
    """
    edges = _edges(bbox, size)
    limit = math.inf if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS
    return edges is not None and _area(edges) <= limit


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open a file with Pillow; whatever goes wrong within the block becomes an ImageError."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # a FIFO would wait for ever
            raise ImageError(f"cannot read image {path}: a directory, FIFO or device, not a file")
        # By its name, Pillow maps a TIFF into memory, and mixes up the pixels if EXIF turns it.
        with open(path, "rb") as file, Image.open(file) as image:
            yield image
    except ImageError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, IndexError...
        if isinstance(error, FileNotFoundError):
            cause = "no such file"
        elif isinstance(error, UnidentifiedImageError):
            empty = os.path.getsize(path) == 0
            cause = "the file is empty" if empty else "not an image in a format that Pillow knows"
        elif isinstance(error, Image.DecompressionBombError):
            cause = f"{str(error).partition(', could')[0]}; to read it, raise INPUT.MAX_MEGAPIXELS"
        else:
            cause = str(error) or type(error).__name__
        raise ImageError(f"cannot read image {path}: {cause}") from error


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return what makes an image upright by its EXIF; None if nothing is needed or known."""
    try:
        return UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # of many kinds; the pixels are none the worse for it
        return None


def _upright(path: str | os.PathLike[str], image: Image.Image) -> Image.Image:
    """Decode a file that is open already, and make it RGB and upright."""
    deep = image.format != "JPEG"  # which has 8 bits
    low = low_byte_tiles(image) if deep else []
    image.load()
    turn = _turn(image)
    pixels = image.copy() if image.mode == "RGB" else to_rgb(image)
    if low and is_dark(pixels):  # 12 bits in 16, perhaps: then most of them are in the other bytes
        with _opened(path) as again:
            again.tile = low  # type: ignore[attr-defined]
            pixels = joined(pixels, again)
    return pixels if turn is None else pixels.transpose(turn)


def _animal(mask: str, size: tuple[int, int]) -> Image.Image:
    """Return a mask as an image of (width, height) pixels, 255 on the animal, else 0."""
    if is_shape(mask):
        animal = shape_mask(mask, size)
    else:
        with _opened(mask) as image:
            image.load()
            turn = _turn(image)
            animal = _nonzero(image)
        if turn is not None:
            animal = np.array(Image.fromarray(animal).transpose(turn))
    height, width = animal.shape
    # Scaled as a whole, but for what rounding to whole pixels takes or adds.
    if not animal.size or abs(width * size[1] - height * size[0]) > max(size):
        raise UserError(
            f"its mask of {width} x {height} pixels does not fit the image of {size[0]} x {size[1]}"
        )
    picture = Image.fromarray(animal.astype(np.uint8) * 255)
    return picture.resize(size, Image.Resampling.NEAREST)


def _nonzero(image: Image.Image) -> np.ndarray:
    """Return where an image of any mode has a colour that is not black (``[H, W]``, bool)."""
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    pixels = np.atleast_3d(np.asarray(image))
    return np.any(pixels[..., :-1] if image.mode in ("LA", "RGBA") else pixels, axis=2)


def _edges(bbox: Sequence[float], size: tuple[float, float]) -> tuple[int, int, int, int] | None:
    """Return a box's left, top, right and bottom edge; None if no animal can be in it."""
    x, y, width, height = bbox
    if not all(map(math.isfinite, (*bbox, x + width, y + height))):
        return None
    edges = left, top, right, bottom = round(x), round(y), round(x + width), round(y + height)
    overlaps = left < size[0] and top < size[1] and right > 0 and bottom > 0
    area = _area(edges) if right > left and bottom > top else 0
    return edges if overlaps and 1 < area <= LARGEST_BOX * size[0] * size[1] else None


def _area(edges: tuple[int, int, int, int]) -> int:
    left, top, right, bottom = edges
    return (right - left) * (bottom - top)


def _read_large(
    path: str | os.PathLike[str], size: tuple[int, int], bbox: Sequence[float] | None
) -> np.ndarray | None:
    """Read a photograph and shrink it by torch (``[H, W, 3]``); None if Pillow is to do it."""
    import torch
    from torch.nn import functional

    with _opened(path) as image:
        plain = image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L")
        edges = (0, 0, *image.size) if bbox is None else _edges(bbox, image.size)
        if not plain or _turn(image) is not None or edges is None:
            return None
        left, top, right, bottom = edges
        inside = left >= 0 and top >= 0 and right <= image.width and bottom <= image.height
        height, width = bottom - top, right - left
        shrinks = height >= LEAST_SHRINK * size[0] and width >= LEAST_SHRINK * size[1]
        # Else Pillow (from version 13 on) resizes the height first, and torch always the width.
        in_order = height - size[0] <= 2 * (width - size[1])
        if not (inside and shrinks and in_order):
            return None
        pixels = jpeg_pixels(torch.from_numpy(np.fromfile(path, np.uint8)))
    if pixels is None:
        return None
    # Permuted with its batch, not before: else torch takes it for planes, and is slower.
    batch = pixels[top:bottom, left:right][None].permute(0, 3, 1, 2)
    batch = functional.interpolate(batch, size, mode="bicubic", antialias=True)
    return batch[0].permute(1, 2, 0).contiguous().numpy()


def jpeg_pixels(data: "Tensor") -> "Tensor | None":
    """Decode the bytes of a JPEG to the same values as Pillow, RGB, uint8 ``[h, w, 3]``.

    None where libjpeg gives up, or torchvision decodes no more: it has said since 0.29 that it will
    not. A file that is cut short is not filled up, as it is not by Pillow.
    """
    try:
        from torchvision.io import ImageReadMode, decode_jpeg

        return decode_jpeg(data, ImageReadMode.RGB).permute(1, 2, 0)
    except (ImportError, RuntimeError):
        return None
