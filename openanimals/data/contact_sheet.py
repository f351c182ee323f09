"""The contact sheet: a picture of many individuals, to see with one's own eyes what is trained on.

A row whose photographs show two animals, a box beside the animal, a photograph lying on its side:
no table shows them, a look does.
"""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageDraw, ImageFont, ImageOps

from openanimals.data.catalogue import UNKNOWN, Catalogue, CatalogueError
from openanimals.data.image_io import ImageError, open_image
from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path

T = TypeVar("T")

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
PAPER, INK, FAINT, UNREADABLE = (255, 255, 255), (20, 20, 20), (110, 110, 110), (200, 40, 40)
GAP = 4  # pixels between photographs
LABEL = 150  # pixels in width that an individual's name has
TEXT = 13  # size of the font, in pixels


def contact_sheet(
    catalogue: Catalogue, path: str | Path, *, columns: int = 8, rows: int = 12, thumb: int = 112
) -> Image.Image:
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

    Returns:
        The picture, RGB.

    Raises:
        ValueError: the file is to be of another format, or a number is below 1.
        CatalogueError: there is no individual.
        OSError: the file cannot be written.
    """
    file_format = FORMATS.get(Path(path).suffix.lower())
    if file_format is None:
        raise UserError(f"contact sheet {path}: expected a file name in {', '.join(FORMATS)}")
    if min(columns, rows, thumb) < 1:
        raise UserError(
            f"contact sheet of {columns} columns and {rows} rows of {thumb} pixels; "
            "expected numbers from 1"
        )
    members = defaultdict(list)
    for row, identity in enumerate(catalogue.identities):
        if identity != UNKNOWN:
            members[identity].append(row)
    if not members:
        raise CatalogueError(f"{catalogue.name}: no individual to draw a contact sheet of")
    shown = _evenly(sorted(members), rows)
    step = thumb + GAP
    top = 2 * TEXT + GAP
    sheet = Image.new("RGB", (LABEL + columns * step + GAP, top + len(shown) * step), PAPER)
    draw = ImageDraw.Draw(sheet)
    title = f"{catalogue.name}: {len(shown)} of {len(members)} individuals"
    _write(draw, (GAP, TEXT // 2), title, INK, sheet.width - 2 * GAP)
    with ThreadPoolExecutor() as pool:
        for line, identity in enumerate(shown):
            y = top + line * step
            _write(draw, (GAP, y + thumb // 2 - TEXT), identity, INK, LABEL - 2 * GAP)
            count = f"{len(members[identity])} images"
            _write(draw, (GAP, y + thumb // 2 + GAP), count, FAINT, LABEL - 2 * GAP)
            chosen = _evenly(members[identity], columns)
            tiles = pool.map(lambda row: _tile(catalogue, row, thumb), chosen)
            for column, tile in enumerate(tiles):
                sheet.paste(tile, (LABEL + column * step, y))
    with atomic_path(path) as temporary:
        sheet.save(temporary, format=file_format)
    return sheet


def _tile(catalogue: Catalogue, row: int, thumb: int) -> Image.Image:
    """Return one photograph in its square place, or a red cross."""
    try:
        image = open_image(catalogue.path(row), catalogue.table["bbox"].iat[row])
    except ImageError:
        tile = Image.new("RGB", (thumb, thumb), PAPER)
        draw = ImageDraw.Draw(tile)
        draw.line((0, 0, thumb - 1, thumb - 1), fill=UNREADABLE, width=2)
        draw.line((0, thumb - 1, thumb - 1, 0), fill=UNREADABLE, width=2)
        return tile
    return ImageOps.pad(image, (thumb, thumb), Image.Resampling.BICUBIC, color=PAPER)


def _evenly(items: Sequence[T], count: int) -> list[T]:
    """Return at most ``count`` of the items, at even distances, the first among them."""
    if len(items) <= count:
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    colour: tuple[int, int, int],
    width: int,
) -> None:
    """Write a line of text, cut to the width in pixels."""
    font = ImageFont.load_default(TEXT)
    if draw.textlength(text, font) > width:
        while text and draw.textlength(f"{text}...", font) > width:
            text = text[:-1]
        text = f"{text}..."
    draw.text(place, text, colour, font)
