"""Boxes that cannot be used: single ones, and columns of another form than x, y, width, height."""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from openanimals.data.catalogue import Catalogue, CatalogueError
from openanimals.data.image_io import ImageError, box_is_usable, image_size

Box = Sequence[float]

EDGE = 0.05  # share of the width or height that a box may leave its photograph by
RELATIVE = 1 / 2  # of the boxes: from here on, a column of shares is likely
OUTSIDE = 1 / 3  # of the boxes: so many do not leave their photographs by mistake
FEWEST = 3  # that leave them, too: of one or two boxes over the edge, nobody can tell
FITTING = 0.9  # of the boxes: so many lie inside if they are read as they were meant
NOWHERE = (math.inf, math.inf)  # the size of an image that no box is outside of

# What four numbers may be instead, and their x, y, width and height then.
READINGS: dict[str, Callable[[float, float, float, float], Box]] = {
    "left, top, right, bottom": lambda a, b, c, d: (a, b, c - a, d - b),
    "middle x, middle y, width, height": lambda a, b, c, d: (a - c / 2, b - d / 2, c, d),
}


def rows_with_bad_boxes(
    catalogue: Catalogue, sizes: Mapping[str, tuple[int, int]] | None = None
) -> list[int]:
    """Return the rows whose box cannot be used; see :func:`~.image_io.box_is_usable`.

    Such rows, in ascending order, are to be dropped after the partition, so that row positions do
    not shift. A row whose image cannot be read is not listed: reading it gives the better error.

    Args:
        catalogue: only the files of its rows with a box are opened, and only their headers read.
        sizes: (width, height) in pixels of upright images that are known already, by path.

    Raises:
        CatalogueError: not single boxes are wrong but most of them, as the numbers are shares of
            the photograph, or not x, y, width and height.
    """
    boxes = {row: box for row, box in enumerate(catalogue.column("bbox")) if box is not None}
    paths = {row: str(catalogue.path(row)) for row in boxes}
    real = {row: box for row, box in boxes.items() if math.isfinite(sum(box)) and min(box[2:]) > 0}
    _refuse_shares(catalogue, real)
    bad = {row for row, box in boxes.items() if not box_is_usable(box, NOWHERE)}
    sizes = dict(sizes or {})
    sizes |= _read_sizes({paths[row] for row in boxes.keys() - bad} - sizes.keys())
    known = {row: sizes[path] for row, path in paths.items() if path in sizes}
    judged = {row: box for row, box in real.items() if row in known and row not in bad}
    _refuse_other_forms(catalogue, judged, known)
    return sorted(bad | {row for row in known if not box_is_usable(boxes[row], known[row])})


def _refuse_shares(catalogue: Catalogue, boxes: Mapping[int, Box]) -> None:
    """Refuse numbers from 0 to 1: in pixels, such a box has one at most."""
    shares = [row for row, box in boxes.items() if min(box) > -1 and max(box) <= 1 + EDGE]
    if not shares or len(shares) < RELATIVE * len(boxes):
        return
    plain = {"x, y, width, height": lambda *box: box}
    every = dict.fromkeys(shares, (1, 1))
    fitting = _readings(plain | READINGS, {row: boxes[row] for row in shares}, every)
    as_what = f", as {' or '.join(fitting)}" if fitting else ""
    raise CatalogueError(
        f"{catalogue.name}: {len(shares)} of {len(boxes)} values of bbox look like shares of the "
        f"photograph (0 to 1){as_what}, for instance {_named(catalogue, shares[0])}; expected x, "
        "y, width, height in pixels: multiply by the photograph's width and height"
    )


def _refuse_other_forms(
    catalogue: Catalogue, boxes: Mapping[int, Box], sizes: Mapping[int, tuple[int, int]]
) -> None:
    """Refuse boxes that leave their photographs as x, y, width, height, but not otherwise read."""
    leaving = [row for row, box in boxes.items() if not _inside(box, sizes[row])]
    if len(leaving) < max(FEWEST, OUTSIDE * len(boxes)):
        return
    if fitting := _readings(READINGS, boxes, sizes):
        width, height = sizes[leaving[0]]
        raise CatalogueError(
            f"{catalogue.name}: {len(leaving)} of {len(boxes)} values of bbox leave their "
            f"photographs, but do not if read as {' or '.join(fitting)}; for instance "
            f"{_named(catalogue, leaving[0])} of {width} x {height} pixels; expected x, y, width, "
            "height in pixels, x and y of the left upper corner"
        )


def _readings(
    readings: Mapping[str, Callable], boxes: Mapping[int, Box], sizes: Mapping[int, tuple[int, int]]
) -> list[str]:
    """Return the readings by which most boxes lie inside of their images."""
    inside = {
        name: sum(_inside(read(*box), sizes[row]) for row, box in boxes.items())
        for name, read in readings.items()
    }
    return [name for name, count in inside.items() if count >= FITTING * len(boxes)]


def _inside(box: Box, size: tuple[int, int]) -> bool:
    """Tell whether a box has an inside, and lies in its image but for a little."""
    return all(
        length > 0 and start >= -EDGE * whole and start + length <= (1 + EDGE) * whole
        for start, length, whole in zip(box[:2], box[2:], size, strict=True)
    )


def _named(catalogue: Catalogue, row: int) -> str:
    return f"{catalogue.table['bbox'].iat[row]} of {catalogue.path(row)}"


def _read_sizes(paths: set[str]) -> dict[str, tuple[int, int]]:
    """Return (width, height) by path, without the files that cannot be read."""

    def size(path: str) -> tuple[int, int] | None:
        try:
            return image_size(path)
        except ImageError:
            return None

    with ThreadPoolExecutor() as pool:  # the time goes into waiting for the disk
        found = zip(paths, pool.map(size, paths), strict=True)
        return {path: own for path, own in found if own is not None}
