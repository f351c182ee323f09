"""One photograph from its file to upright RGB pixels: decode, rotate, mask, crop, resize.

Nothing here is random, so that what comes out can be cached. What is not exact is not used either:
no decoding at a reduced size, and no filling up of truncated files.
"""

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from openanimals.data.catalogue import Catalogue
from openanimals.data.masks import is_shape, shape_mask
from openanimals.utils.errors import UserError

# What makes an image upright, by its EXIF orientation (1, upright already, is left out).
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LYING = (5, 6, 7, 8)  # orientations whose upright image has width and height exchanged


class ImageError(UserError):
    """An image that cannot be read, or not be cropped; names the file and the cause."""


def read_image(
    path: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    bbox: Sequence[float] | None = None,
    mask: str | None = None,
) -> np.ndarray:
    """Read an image as the model gets to see it, all by Pillow (see ``decode.py`` for less of it).

    Args:
        path: the file.
        size: (height, width) in pixels to resize to; None keeps the size of the file or box.
        bbox: as in :func:`open_image`.
        mask: as in :func:`open_image`.

    Returns:
        uint8 ``[H, W, 3]``, RGB, writable.

    Raises:
        ImageError: see :func:`open_image`.
    """
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
    with opened(path) as image:
        image.load()
        orientation = exif_orientation(image)
        upright = _rgb(image)
        if orientation in UPRIGHT:
            upright = upright.transpose(UPRIGHT[orientation])
        if mask is not None:
            black = Image.new("RGB", upright.size)
            upright = Image.composite(upright, black, _animal(mask, upright.size))
        if bbox is not None:
            edges = box_edges(bbox)
            if edges is None or not _overlaps(edges, upright.size):
                width, height = upright.size
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
    with opened(path) as image:
        width, height = image.size
        if image.format == "TIFF":  # Pillow gives the size of a TIFF upright
            return width, height
        if image.format == "PNG" and "exif" not in image.info:
            image.load()
        return (height, width) if exif_orientation(image) in LYING else (width, height)


def rows_with_bad_boxes(catalogue: Catalogue) -> list[int]:
    """Return the rows whose box is empty, not a number or wholly outside of its image.

    Such rows are to be dropped after the partition, so that row positions do not shift. A row
    whose image cannot be read is not listed: reading it gives the better error.

    Args:
        catalogue: only the files of its rows with a box are opened, and only their headers read.

    Returns:
        Row positions, ascending.
    """
    boxes = catalogue.column("bbox")

    def is_bad(row: int) -> bool:
        edges = box_edges(boxes[row])
        if edges is None:
            return True
        try:
            return not _overlaps(edges, image_size(catalogue.path(row)))
        except ImageError:
            return False

    rows = [row for row, box in enumerate(boxes) if box is not None]
    with ThreadPoolExecutor() as pool:  # the time goes into waiting for the disk
        return [row for row, bad in zip(rows, pool.map(is_bad, rows), strict=True) if bad]


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open a file with Pillow; whatever goes wrong within the block becomes an ImageError."""
    try:
        with Image.open(path) as image:
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


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if there is none or it cannot be read."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # of many kinds; the pixels are none the worse for it
        return 1


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
        with opened(mask) as image:
            image.load()
            orientation = exif_orientation(image)
            animal = _nonzero(image)
        if orientation in UPRIGHT:
            animal = np.array(Image.fromarray(animal).transpose(UPRIGHT[orientation]))
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


def box_edges(bbox: Sequence[float]) -> tuple[int, int, int, int] | None:
    """Return a box's left, top, right and bottom edge; None if it is empty or not a number."""
    if not all(map(math.isfinite, bbox)):
        return None
    x, y, width, height = bbox
    left, top, right, bottom = round(x), round(y), round(x + width), round(y + height)
    return (left, top, right, bottom) if right > left and bottom > top else None


def _overlaps(edges: tuple[int, int, int, int], size: tuple[int, int]) -> bool:
    left, top, right, bottom = edges
    return left < size[0] and top < size[1] and right > 0 and bottom > 0
