"""The contact sheet: a picture of many individuals, to see with one's own eyes what is trained on.

A row whose photographs show two animals, a box beside the animal, a photograph lying on its side:
no table shows them, a look does.
"""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps

from openanimals.data.catalogue import UNKNOWN, Catalogue, CatalogueError
from openanimals.data.image_io import ImageError, open_image
from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path, expanded

T = TypeVar("T")

FORMATS = (".png", ".jpg", ".jpeg")
PAPER, FAINT, UNREADABLE = (255, 255, 255), "0.4", (200, 40, 40)
GAP = 4  # pixels between photographs
LABEL = 150  # pixels in width that an individual's name has
TEXT = 13  # size of the font, in pixels
DPI = 72  # so that a point is a pixel


def contact_sheet(
    catalogue: Catalogue, path: str | Path, *, columns: int = 8, rows: int = 12, thumb: int = 112
) -> None:
    """Draw one row of photographs for each individual, cropped to their boxes, and save it.

    Where there are more individuals or photographs than places, they are taken at even distances
    from the sorted individuals and from the rows of one. A photograph that cannot be read is a
    red cross. Nothing is drawn at random.

    Args:
        catalogue: the images; those of unknown individuals are left out.
        path: file to save it in, ``.png`` or ``.jpg``; its folder is made.
        columns: photographs of each individual.
        rows: individuals.
        thumb: width and height of a photograph's place in pixels; it keeps its shape inside.

    Raises:
        ValueError: the file is to be of another format.
        CatalogueError: there is no individual.
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"contact sheet {path}: expected a file name in {', '.join(FORMATS)}")
    members = catalogue.table.groupby("identity").indices
    members.pop(UNKNOWN, None)
    if not members:
        raise CatalogueError(f"{catalogue.name}: no individual to draw a contact sheet of")
    shown = _evenly(sorted(members), rows)
    pitch = thumb + GAP
    width, height = LABEL + columns * pitch + GAP, 2 * TEXT + GAP + len(shown) * pitch
    sheet = Figure((width / DPI, height / DPI), dpi=DPI, facecolor="white")
    with ThreadPoolExecutor() as pool, warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes; DejaVu has Latin, Greek, Cyrillic...
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        title = f"{catalogue.name}: {len(shown)} of {len(members)} individuals"
        _write(sheet, GAP, height - TEXT, title, width - 2 * GAP)
        for line, identity in enumerate(shown):
            bottom = (len(shown) - 1 - line) * pitch + GAP
            _write(sheet, GAP, bottom + thumb / 2 + TEXT / 2, identity, LABEL - 2 * GAP)
            count = f"{len(members[identity])} images"
            _write(sheet, GAP, bottom + thumb / 2 - TEXT / 2, count, LABEL - 2 * GAP, color=FAINT)
            chosen = _evenly(members[identity], columns)
            pictures = pool.map(lambda row: _thumbnail(catalogue, row, thumb), chosen)
            for column, picture in enumerate(pictures):
                sheet.figimage(picture, LABEL + column * pitch, bottom, origin="upper")
        with atomic_path(expanded(path)) as temporary:
            sheet.savefig(temporary, format=suffix[1:], dpi=DPI)


def _thumbnail(catalogue: Catalogue, row: int, size: int) -> np.ndarray:
    """Return one photograph in its square place ``[size, size, 3]``, or a red cross."""
    try:
        image = open_image(catalogue.path(row), catalogue.table["bbox"].iat[row])
    except ImageError:
        cross = np.eye(size, dtype=bool) | np.eye(size, dtype=bool)[::-1]
        return np.where(cross[..., None], UNREADABLE, PAPER).astype(np.uint8)
    padded = ImageOps.pad(image, (size, size), Image.Resampling.BICUBIC, color=PAPER)
    return np.asarray(padded)


def _evenly(items: Sequence[T], count: int) -> list[T]:
    """Return at most ``count`` of the items, at even distances, the first among them."""
    shown = min(count, len(items))
    return [items[index * len(items) // shown] for index in range(shown)]


def _write(sheet: Any, x: float, y: float, text: str, width: float, color: str = "black") -> None:
    """Write a line of text on a figure, its middle at a height, cut to a width (in pixels)."""
    place = x / sheet.bbox.width, y / sheet.bbox.height
    artist = sheet.text(*place, text, fontsize=TEXT, color=color, va="center", parse_math=False)
    while artist.get_window_extent().width > width:
        text = text[:-1]
        artist.set_text(f"{text}...")
