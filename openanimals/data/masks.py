"""The shape of an animal as data sets note it: polygons, or run lengths, in COCO's spelling.

A catalogue's column ``mask`` has the path of a picture or, as JSON text, one of these shapes:

================================  ============================================================
``[x, y, x, y, ...]``             a polygon, in pixels; pixel (0, 0) reaches from 0 to 1
``[[x, y, ...], [x, y, ...]]``    several polygons; the animal is all of them together
``{"size": [h, w],``              lengths of runs down the columns, left to right, background
``"counts": [n, n, ...]}``        and animal in turn, the background first
``{"size": [h, w],``              the same, packed into text
``"counts": "..."}``
================================  ============================================================
"""

import json
from typing import Any

import numpy as np

from openanimals.utils.errors import UserError

CORNERS = 3  # of a polygon that has an inside


def is_shape(mask: str) -> bool:
    """Tell whether a catalogue's mask is a shape, not a path."""
    return (mask[:1], mask[-1:]) in (("[", "]"), ("{", "}"))


def shape_text(segmentation: Any) -> str | None:
    """Return polygons or run lengths, made of lists or arrays, as a catalogue's mask.

    None if they are neither, or a polygon that has no inside.
    """
    if not isinstance(segmentation, dict | list | tuple | np.ndarray):
        return None
    shape = json.loads(json.dumps(segmentation, default=_plain))
    if isinstance(shape, dict):
        runs = {key: shape.get(key) for key in ("size", "counts")}
        return json.dumps(runs) if all(runs.values()) else None
    polygons = [polygon for polygon in _polygons(shape) if len(polygon) >= 2 * CORNERS]
    return json.dumps(polygons) if polygons else None


def shape_mask(text: str, size: tuple[int, int]) -> np.ndarray:
    """Draw one of the shapes at the top of this file.

    Polygons are drawn in an image of a size (width, height) in pixels; run lengths bring their own.

    Returns:
        bool ``[H, W]``, True on the animal: for a polygon, where the middle of a pixel is inside.

    Raises:
        ValueError: the text is no such shape.
    """
    try:
        shape = json.loads(text)
        return _runs(shape) if isinstance(shape, dict) else _drawn(_polygons(shape), size)
    except (KeyError, TypeError, ValueError) as error:
        start = text if len(text) <= 60 else f"{text[:60]}..."
        raise UserError(
            f"its mask {start} is not a shape ({error}); expected polygons [x, y, ...] or run "
            'lengths {"size": [h, w], "counts": ...}'
        ) from error


def _plain(value: Any) -> Any:
    """Return bytes, an array or one of numpy's numbers as JSON can hold it."""
    return value.decode() if isinstance(value, bytes) else value.tolist()


def _polygons(shape: list) -> list[list[float]]:
    return shape if shape and isinstance(shape[0], list) else [shape]


def _drawn(polygons: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    """Return the pixels whose middle lies inside of a polygon (by the even-odd rule)."""
    width, height = size
    middles = np.arange(height) + 0.5
    inside = np.zeros((height, width), dtype=bool)
    for polygon in polygons:
        corners = np.array(polygon, dtype=float).reshape(-1, 2)
        if not np.isfinite(corners).all():
            raise UserError("a corner is no number")
        # Every edge that passes a row of middles turns outside into inside, or back, from there on.
        turns = np.zeros((height, width + 1), dtype=bool)
        for (x, y), (next_x, next_y) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            rows = np.flatnonzero((y <= middles) != (next_y <= middles))
            passes = x + (middles[rows] - y) * (next_x - x) / (next_y - y)
            turns[rows, np.ceil(passes - 0.5).clip(0, width).astype(int)] ^= True
        inside |= np.logical_xor.accumulate(turns, axis=1)[:, :width]
    return inside


def _runs(shape: dict) -> np.ndarray:
    height, width = shape["size"]
    counts = shape["counts"]
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    if sum(runs) != height * width or min(runs) < 0:
        raise UserError(f"its runs cover {sum(runs)} of {height} x {width} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _unpacked(text: str) -> list[int]:
    """Read COCO's packed run lengths.

    A number takes one or more characters of 5 bits, low bits first, above ASCII 48; the bit of 32
    says that more follow, the highest bit of the last one is the sign. From the fourth on, numbers
    are differences to the one two places before.
    """
    runs: list[int] = []
    value = shift = 0
    for code in text.encode("ascii"):
        bits = code - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (bits & 16 and 1) << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs
