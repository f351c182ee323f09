"""Mutilated photographs: of all formats, modes and EXIF blocks, then cut, flipped, zeroed, renamed.

The oracle: a photograph is refused in words, or it is what Pillow reads of it, turned and made RGB
by a naive reference below, and in that case

- its size is told the same without decoding it;
- no quarter of it at one side is of one colour, but of formats that may say so (the pictures
  drawn here have none such);
- read in a hurry (``exact=False``), it is off by two levels at most;
- the check finds no fault in it, and a fault in each that is refused.
"""

import io
import itertools
import re

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from PIL import Image

from openanimals.data.catalogue import Catalogue
from openanimals.data.image_io import image_size, open_image, read_image
from openanimals.data.validate import check_data
from tests.robustness.fuzz import REFUSED, answer, damage, few_and_many, fuzz

FORMATS = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "L", "P", "RGBA", "LA", "I;16", "1"),
    "TIFF": ("RGB", "L", "P", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr", "LAB"),
    "GIF": ("RGB", "L", "P"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("RGB", "L", "P"),
    "PPM": ("RGB", "L", "I"),
    "JPEG2000": ("RGB", "L"),
}
KINDS = [(kind, mode) for kind, modes in FORMATS.items() for mode in modes]
# Of these formats zeros are black pixels, and what a GIF does not draw on its screen is black.
MAY_BE_BLANK = (b"P5", b"P6", b"BM", b"II*", b"MM", b"GIF")
ORIENTATIONS = st.sampled_from((None, None, 1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 65535))
SIZES = st.sampled_from(((40, 30), (30, 40), (64, 64), (1, 1), (1, 50), (50, 1), (9, 7)))


def picture(mode: str, size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Random pixels, none of them dark."""
    draws, shape = np.random.default_rng(seed), size[::-1]
    if mode in ("I;16", "I", "F"):
        wide = draws.integers(60 * 256, 65536, shape)
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        return Image.fromarray(wide.astype(kind))
    colours = Image.fromarray(draws.integers(60, 250, (*shape, 3), np.uint8))
    if mode == "LAB":
        return Image.frombytes("LAB", size, colours.tobytes())
    if mode in ("RGBA", "LA"):
        colours.putalpha(Image.fromarray(draws.integers(0, 256, shape, np.uint8)))
    return colours.convert(mode)


@st.composite
def photographs(draw) -> tuple[str, bytes]:
    """The name and content of a file, two in three of them damaged."""
    kind, mode = draw(st.sampled_from(KINDS))
    size, orientation = draw(SIZES), draw(ORIENTATIONS)
    options = {}
    if orientation is not None and kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif.tobytes() if draw(st.booleans()) else exif
    if kind == "JPEG":
        options |= {"quality": 90, "progressive": draw(st.booleans())}
    if (kind, mode) in (("PNG", "RGB"), ("PNG", "P"), ("GIF", "P")) and draw(st.booleans()):
        options["transparency"] = 3 if mode == "P" else (100, 100, 100)
    if kind == "TIFF" and orientation in (None, *range(1, 9)):
        options["compression"] = draw(st.sampled_from((None, "tiff_lzw", "tiff_adobe_deflate")))
    if kind in ("GIF", "WEBP", "PNG", "TIFF") and draw(st.integers(0, 4)) == 0:
        others = [picture(mode, size, seed) for seed in (1, 2)]
        options |= {"save_all": True, "append_images": others}
    file = io.BytesIO()
    picture(mode, size).save(file, kind, **options)
    content = file.getvalue()
    if draw(st.integers(0, 2)):
        content = draw(damage(content))
    suffix = draw(st.sampled_from((".jpg", ".png", ".JPG", ".tif", "")))
    return f"photo{suffix}", content


def naive(content: bytes) -> np.ndarray:
    """What Pillow reads, upright, in three colours of 8 bits (``[H, W, 3]``); or any error."""
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        try:
            orientation = image.getexif().get(0x0112, 1)
        except Exception:
            orientation = 1
        assert image.mode != "F", "float pixels have no white"
        if image.mode.startswith("I"):
            grey = np.asarray(image).astype(np.int64).clip(0, 65535) // 256
            pixels = np.stack([grey] * 3, axis=2).astype(np.uint8)
        else:
            wide = "RGBA" if "transparency" in image.info and image.mode == "P" else "RGB"
            pixels = np.asarray(image.convert(wide))[:, :, :3]
    turned = {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(pixels),
    }
    return turned.get(orientation, pixels)


def blank(pixels: np.ndarray) -> bool:
    """Whether the upper, lower, left or right quarter is of one colour, but in tiny pictures."""
    high, wide = (length // 4 for length in pixels.shape[:2])
    sides = pixels[:high], pixels[-high:], pixels[:, :wide], pixels[:, -wide:]
    return min(high, wide) > 1 and not all(np.ptp(side, axis=(0, 1)).any() for side in sides)


@few_and_many(60, 500)
def test_what_is_read_is_what_pillow_reads(count, tmp_path):
    numbers = itertools.count()

    def holds(case):
        name, content = case
        path = tmp_path / f"{next(numbers)}{name}"
        path.write_bytes(content)
        try:
            expected = naive(content)
        except Exception:
            expected = None
        found = answer(read_image, path)
        size = answer(image_size, path)
        row = pd.DataFrame({"path": [path.name], "identity": "a"})
        table = check_data(Catalogue("x", tmp_path, row))[0]
        if found is REFUSED:
            assert answer(open_image, path) is answer(read_image, path, (8, 8)) is REFUSED
            assert table.endswith("1 faults to mend"), table
            return False
        assert expected is not None, "read, though Pillow cannot"
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(found, np.asarray(open_image(path)))
        assert size == found.shape[1::-1]
        assert re.search("broken files +0\n", table), table
        assert content.startswith(MAY_BE_BLANK) or not blank(found), "one side is of one colour"
        exact, quick = read_image(path, (12, 12)), read_image(path, (12, 12), exact=False)
        assert abs(exact.astype(int) - quick).max() <= 2
        return True

    fuzz(count, photographs(), holds)
