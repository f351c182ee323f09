"""One photograph from its file to upright RGB pixels: decode, rotate, mask, crop, resize.

Nothing here is random, so that what comes out can be cached. What is not exact is not used either
(no decoding at a reduced size, no filling up of truncated files), but for one thing that the caller
asks for: photographs that are much larger than the model wants them are read faster, see
:func:`read_image`.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from openanimals.data.masks import is_shape, shape_mask
from openanimals.utils.errors import UserError

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


class ImageError(UserError):
    """An image that cannot be read, or not be cropped; names the file and the cause."""


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
    channels, of 16-bit grey the high byte is kept (as Pillow does with 16-bit colour), alpha is
    dropped (what was stored beneath it shows), of an animation the first frame is taken. A broken
    EXIF block counts as none.

    Args:
        path: the file.
        bbox: (x, y, width, height) in pixels of the upright image. Its edges are rounded to whole
            pixels, as wildlife-datasets does; what lies outside of the image is black.
        mask: where the animal is, in the upright image: the path of an image that is not zero
            there (its alpha does not count), or a shape (see ``masks.py``). A mask of another size
            and the same ratio of sides is scaled (nearest pixel). None keeps the background.

    Raises:
        ImageError: the file is missing, truncated, no image, or has pixels without a defined
            range (float); the box is empty, not a number or wholly outside; or the mask cannot be
            read, is of another shape than the image or leaves nothing of it.
    """
    with _opened(path) as image:
        image.load()
        turn = _turn(image)
        upright = _rgb(image) if turn is None else _rgb(image).transpose(turn)
        if mask is not None:
            black = Image.new("RGB", upright.size)
            upright = Image.composite(upright, black, _animal(mask, upright.size))
        if bbox is not None:
            width, height = upright.size
            edges = _edges(bbox, upright.size)
            if edges is None:
                raise ImageError(
                    f"cannot crop {path} to the box {tuple(bbox)}; expected x, y, width, height "
                    f"that overlap the image of {width} x {height} pixels (width x height)"
                )
            upright = upright.crop(edges)
        if mask is not None and upright.getbbox() is None:
            raise ImageError(
                f"the mask of {path} leaves nothing of the image; to keep its background, leave "
                "the mask of its row empty"
            )
        return upright


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


def box_overlaps(path: str | os.PathLike[str], bbox: Sequence[float]) -> bool:
    """Tell whether a box has a pixel of its image; reads no more than the header.

    Raises:
        ImageError: the box is not empty, and the header cannot be read.
    """
    anywhere = (math.inf, math.inf)
    return bool(_edges(bbox, anywhere) and _edges(bbox, image_size(path)))


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open a file with Pillow; whatever goes wrong within the block becomes an ImageError."""
    try:
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
        else:
            cause = str(error) or type(error).__name__
        raise ImageError(f"cannot read image {path}: {cause}") from error


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return what makes an image upright by its EXIF; None if nothing is needed or known."""
    try:
        return UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # of many kinds; the pixels are none the worse for it
        return None


def _rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB where Pillow's own conversion would clip or warn, too."""
    if image.mode.startswith("I"):  # I;16 and its byte orders; I where 16 bits came in as 32
        high_byte = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        image = Image.fromarray(high_byte.astype(np.uint8))
    elif image.mode == "F":
        raise UserError("float pixels have no defined white; expected 8 or 16 bits a channel")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # else Pillow warns of the loss of the transparency
    return image.convert("RGB")


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
    """Return a box's left, top, right and bottom edge; None without a pixel of its image."""
    if not all(map(math.isfinite, bbox)):
        return None
    x, y, width, height = bbox
    left, top, right, bottom = round(x), round(y), round(x + width), round(y + height)
    overlaps = left < size[0] and top < size[1] and right > 0 and bottom > 0
    return (left, top, right, bottom) if overlaps and right > left and bottom > top else None


def _read_large(
    path: str | os.PathLike[str], size: tuple[int, int], bbox: Sequence[float] | None
) -> np.ndarray | None:
    """Read a photograph and shrink it by torch (``[H, W, 3]``); None if Pillow is to do it."""
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


def jpeg_pixels(data: Tensor) -> Tensor | None:
    """Decode the bytes of a JPEG to the same values as Pillow, RGB, uint8 ``[h, w, 3]``.

    None where libjpeg gives up. A file that is cut short is not filled up, as it is not by Pillow.
    """
    from torchvision.io import ImageReadMode, decode_jpeg

    try:
        return decode_jpeg(data, ImageReadMode.RGB).permute(1, 2, 0)
    except RuntimeError:
        return None
