"""Boxes of any form to pixels; a form that is not plain x, y, width, height must be named."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openanimals.data.boxes import rows_with_bad_boxes
from openanimals.data.catalogue import Catalogue, CatalogueError
from openanimals.data.image_io import box_is_usable
from openanimals.identification.catalogue_file import as_catalogue, as_table, box_numbers
from openanimals.identification.table_file import refuse
from openanimals.utils.errors import UserError
from openanimals.utils.registry import check_name

FORMS = ("pixels", "relative", "corners")
EDGE = 1.05  # shares that rounding, and boxes a little over the edge, may have
Size = tuple[int, int]


def to_pixels(
    rows: list[dict[str, Any]],
    root: Path,
    sizes: Mapping[str, Size],
    form: str | None,
    corners_named: bool,
    report: list[str],
) -> None:
    """Write the boxes of rows as ``x y w h`` in pixels, in place.

    Args:
        rows: with four numbers as text in ``bbox`` where there is a box.
        root: folder that paths are relative to.
        sizes: (width, height) of the upright photograph by ``path``.
        form: ``pixels`` (left, top, width, height), ``relative`` (the same in shares of the
            photograph), ``corners`` (left, top, right, bottom, in pixels or shares); None for
            pixels where nothing speaks against it.
        corners_named: whether the columns' names say that these are corners.
        report: how boxes were read is added to it.

    Raises:
        UserError: boxes seem to have another form, are no four numbers, or lie outside.
    """
    if form is not None:
        check_name("boxes", form, FORMS)
    boxes: dict[int, tuple[float, ...]] = {}
    problems = []
    for number, row in enumerate(rows):
        if text := row.get("bbox"):
            try:
                box = tuple(map(float, box_numbers(text)))
                if len(box) != 4 or not math.isfinite(sum(box)):
                    raise ValueError(text)
                boxes[number] = box
            except ValueError:
                problems.append(f"{row['path']} has bbox {text!r}, expected four numbers")
    refuse("boxes", problems)
    if not boxes:
        return
    if corners_named and form != "corners":
        raise UserError(
            "the columns of boxes are called like corners (left, top, right, bottom); say "
            "--boxes corners"
        )
    if form is None:
        _check_pixels(rows, boxes, root, sizes)
        form = "pixels"
    small = max(map(max, boxes.values())) <= EDGE
    shares = form == "relative" or (form == "corners" and small)
    for number, (left, top, wide, high) in boxes.items():
        row = rows[number]
        width, height = sizes[row["path"]]
        if form == "corners":
            wide, high = wide - left, high - top
        if shares:
            left, wide, top, high = left * width, wide * width, top * height, high * height
        if (form == "relative" and max(boxes[number]) > EDGE) or not box_is_usable(
            (left, top, wide, high), (width, height)
        ):
            problems.append(
                f"{row['path']} has bbox {row['bbox']!r}, which as {form} is no box "
                f"in its {width} x {height} pixels"
            )
        row["bbox"] = box_text(left, top, wide, high)
    refuse("boxes", problems)
    meaning = "left, top, right, bottom" if form == "corners" else "left, top, width, height"
    unit = "shares of the photograph" if shares else "pixels"
    report.append(f"{len(boxes)} boxes read as {meaning} in {unit}")


def box_text(*box: float) -> str:
    """Return numbers as a catalogue has them, to a tenth of a pixel."""
    return " ".join(f"{round(number, 1):.9g}" for number in box)


def _check_pixels(
    rows: list[dict[str, Any]],
    boxes: Mapping[int, tuple[float, ...]],
    root: Path,
    sizes: Mapping[str, Size],
) -> None:
    """Refuse boxes that seem to be shares, or corners."""
    texts = [
        {"path": rows[number]["path"], "bbox": " ".join(map(repr, box))}
        for number, box in boxes.items()
    ]
    catalogue: Catalogue = as_catalogue(as_table(texts), root)
    known = {str(root / row["path"]): sizes[row["path"]] for row in texts}
    try:
        rows_with_bad_boxes(catalogue, known)
        _check_corners(rows, boxes, sizes)
    except CatalogueError as error:
        raise UserError(
            f"{error}. Or say --boxes relative (shares of the photograph), corners, or pixels"
        ) from None


def _check_corners(
    rows: list[dict[str, Any]], boxes: Mapping[int, tuple[float, ...]], sizes: Mapping[str, Size]
) -> None:
    """Refuse even a single box that leaves its photograph, if all would do as corners."""
    leaving = []
    for number, (left, top, third, fourth) in boxes.items():
        path = rows[number]["path"]
        width, height = (EDGE * length for length in sizes[path])
        if not (left < third <= width and top < fourth <= height):
            return
        if left + third > width or top + fourth > height:
            leaving.append(path)
    if leaving:
        raise CatalogueError(
            f"the box of {leaving[0]} leaves its photograph, and all {len(boxes)} boxes lie inside "
            "as left, top, right, bottom"
        )
