"""MegaDetector's results: where the animals are in a photograph."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openanimals.identification.importing.boxes import EDGE, box_text
from openanimals.identification.importing.report import tell
from openanimals.identification.table_file import refuse
from openanimals.utils.errors import UserError, naming

ANIMAL = "animal"
Row = dict[str, Any]


def read_detections(
    file: Path, confidence: float, report: list[str]
) -> dict[str, list[tuple[list[float], bool]] | None]:
    """Return the animals in each photograph of a MegaDetector file.

    Both layouts are read: version 1 (an object with ``images`` and ``detection_categories``; boxes
    are left, top, width, height in shares of the photograph), and the newer list (boxes are left,
    top, right, bottom in pixels).

    Args:
        file: JSON.
        confidence: detections below it do not count.
        report: what does not count is added to it.

    Returns:
        By the path in the file: for each animal four numbers (left, top, width, height) and whether
        they are shares; None for a photograph that the detector could not read.

    Raises:
        UserError: it is no such file.
    """
    if not 0 <= confidence <= 1:
        raise UserError(f"confidence is {confidence}; expected a number from 0 to 1")
    try:
        with naming(file, "cannot be read"):
            content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file}: not JSON: {error}") from None
    newer = isinstance(content, list)
    images = content if newer else content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise UserError(
            f"{file}: expected MegaDetector's results: an object with 'images', or a list"
        )
    categories = {} if newer else content.get("detection_categories", {"1": ANIMAL})
    animals: dict[str, list[tuple[list[float], bool]] | None] = {}
    others: Counter[str] = Counter()
    problems = []
    for number, image in enumerate(images):
        try:
            name = image["file"].replace("\\", "/")
            found = image.get("detections")
            if found is None or image.get("failure"):
                animals[name] = None
                continue
            kept = animals.setdefault(name, [])
            assert kept is not None
            for detection in found:
                category = str(detection["category"])
                kind = category if newer else categories.get(category, category)
                box = [float(value) for value in detection["bbox"]]
                share = float(detection["confidence" if newer else "conf"])
                # Shares are at most 1, but for rounding; in pixels, nobody would box so little.
                is_share = max(box) <= EDGE
                if len(box) != 4 or not math.isfinite(sum(box)) or is_share == newer:
                    raise ValueError(box)
                if not 0 <= share <= 1:
                    raise ValueError(share)
                if newer:
                    box[2:] = box[2] - box[0], box[3] - box[1]
                if kind != ANIMAL:
                    others[kind] += share >= confidence
                elif share >= confidence and min(box[2:]) > 0:
                    kept.append((box, not newer))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, AssertionError):
            problems.append(f"images[{number}] is {str(image)[:80]!r}")
    refuse(f"{file} (expected file, detections with category, confidence and bbox)", problems)
    if counts := ", ".join(f"{kind} {count}" for kind, count in others.items() if count):
        report.append(f"detections that are no animals do not count: {counts}")
    return animals


def add_boxes(
    rows: Sequence[Row],
    animals: Mapping[str, list[tuple[list[float], bool]] | None],
    sizes: Mapping[str, tuple[int, int]],
    report: list[str],
) -> list[Row]:
    """Return rows with boxes, one an animal.

    A photograph of several animals is as many rows. If it is of a named individual, nobody can
    tell which of them that is: then the rows have no identity, and a note.

    Args:
        rows: one a photograph, without boxes.
        animals: as :func:`read_detections` gives them.
        sizes: (width, height) of the upright photograph by ``path``.
        report: what is left out is added to it.

    Raises:
        UserError: not one photograph is in the detector's file, a photograph could be two in it, or
            a row has a box.
    """
    boxed = [row["path"] for row in rows if row.get("bbox")]
    if boxed:
        raise UserError(
            f"{boxed[0]}: the table has boxes of its own; leave out the column or detections"
        )
    by_end: dict[str, list[str]] = defaultdict(list)
    for name in animals:
        parts = name.split("/")
        for start in range(len(parts)):
            by_end["/".join(parts[start:])].append(name)
    result: list[Row] = []
    failed, empty = list[str](), list[str]()
    absent, several, ambiguous = [], [], []
    used: dict[str, str] = {}
    for row in rows:
        names = _named(row["path"], animals, by_end)
        if len(names) != 1:
            if names:
                ambiguous.append(f"{row['path']} could be {' or '.join(names[:3])}")
            else:
                absent.append(row["path"])
                result.append(row)
            continue
        if used.setdefault(names[0], row["path"]) != row["path"]:
            ambiguous.append(f"{names[0]} could be {used[names[0]]} or {row['path']}")
            continue
        found = animals[names[0]]
        if not found:
            (failed if found is None else empty).append(row["path"])
            continue
        if len(found) > 1 and row.get("identity"):
            several.append(row["path"])
            note = f"one of {len(found)} animals is {row['identity']}"
            row = row | {"identity": None, "note": "; ".join(filter(None, (row.get("note"), note)))}
        result += [row | {"bbox": _pixel_box(*animal, sizes[row["path"]])} for animal in found]
    refuse("detections", ambiguous)
    if rows and not used:
        raise UserError(
            f"none of the {len(rows)} photographs is among the {len(animals)} files of the "
            f"detections: {rows[0]['path']} and {next(iter(animals), 'no file')}, for instance"
        )
    tell(report, failed, "left out, photographs that the detector could not read")
    tell(report, empty, "left out, photographs without an animal")
    tell(report, several, "name left open, photographs of a named individual with several animals")
    tell(report, absent, "without a box, photographs that are not among the detections")
    unused = sorted(animals.keys() - used.keys())
    tell(report, unused, "unused, files of the detections that are not among the photographs")
    boxes = sum(1 for row in result if row.get("bbox"))
    report.append(
        f"{boxes} animals in {len(used) - len(failed) - len(empty)} photographs by detection"
    )
    return result


def _named(path: str, animals: Mapping[str, Any], by_end: Mapping[str, list[str]]) -> list[str]:
    """Return the detector's files that a path can be: it may have been run in another folder."""
    if path in animals:
        return [path]
    if longer := by_end.get(path):
        return longer
    parts = path.split("/")
    ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
    return next(([end] for end in ends if end in animals), [])


def _pixel_box(box: Sequence[float], relative: bool, size: tuple[int, int]) -> str:
    """Return a box in pixels as text, within its photograph."""
    width, height = size
    scale = (width, height) * 2 if relative else (1, 1, 1, 1)
    left, top, wide, high = (value * factor for value, factor in zip(box, scale, strict=True))
    right, bottom = min(left + wide, width), min(top + high, height)
    left, top = max(left, 0), max(top, 0)
    return box_text(left, top, right - left, bottom - top)
