"""The data check: what a catalogue holds and what is wrong with it, before hours of training."""

import os
import statistics
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from openanimals.data.catalogue import UNKNOWN, Catalogue
from openanimals.data.image_io import ImageError, box_overlaps, open_image
from openanimals.data.masks import is_shape
from openanimals.data.splits import Split
from openanimals.utils.progress import Progress
from openanimals.utils.viewpoints import lateral_viewpoint

NEAR_EMPTY = 10  # a part of a split with fewer images than this says little
SHOWN = 3  # examples that a line of the table names; the rest are counted


def check_data(catalogue: Catalogue, split: Split | None = None, min_images: int | None = 4) -> str:
    """Look at every row of a catalogue and decode every file to its end.

    Files are decoded in a few threads, with a progress bar where there is a terminal.

    Args:
        catalogue: the images.
        split: its train, query and gallery rows, if they are to be looked at, too.
        min_images: images of an individual in a batch (``DATALOADER.NUM_INSTANCE``); None where
            the sampler takes images one by one.

    Returns:
        Lines of plain text for a console. The last one counts what is wrong whatever the data is
        used for: files that are not there or cannot be decoded, boxes that are empty or wholly
        outside, images that have two identities for the same box.
    """
    table, rows = catalogue.table, range(len(catalogue))
    paths = [str(catalogue.path(row)) for row in rows]
    masks = [catalogue.mask(row) for row in rows]
    files = dict.fromkeys([*paths, *(mask for mask in masks if mask and not is_shape(mask))])
    missing = [file for file in files if not Path(file).is_file()]
    sizes, broken = _decode_all(paths, masks, missing, catalogue.name)
    bad = rows_with_bad_boxes(catalogue)
    boxes = table["bbox"].drop(bad).dropna()
    cut = sum(_leaves(box, sizes[paths[row]]) for row, box in boxes.items() if paths[row] in sizes)
    named = table.groupby(["path", "bbox"], sort=False, dropna=False)["identity"].unique()
    contradictions = [
        f"{path}: {', '.join(sorted(names))}"
        for (path, _), names in named.items()
        if len(names) > 1
    ]
    counts = table["identity"].value_counts().sort_index()
    unknown = counts.get(UNKNOWN, 0)
    counts = counts.drop(UNKNOWN, errors="ignore")

    others = f" (and {unknown} images of unknown ones)" if unknown else ""
    lines = [
        ("images", str(len(table))),
        ("individuals", f"{len(counts)}{others}"),
        ("images each", _spread(counts)),
        ("with a date", str(table["date"].count())),
        ("with a time of day", str(sum("T" in date for date in table["date"].dropna()))),
        ("with a sequence", str(table["sequence"].count())),
        ("with a known side", str(table["viewpoint"].map(lateral_viewpoint).count())),
        ("with a mask", str(table["mask"].count())),
        ("image width", _spread(width for width, _ in sizes.values())),
        ("image height", _spread(height for _, height in sizes.values())),
    ]
    if len(boxes):
        lines += [("box width", _spread(boxes.str[2])), ("box height", _spread(boxes.str[3]))]
    parts = asdict(split) if split else {}
    parts = {part: table["identity"].iloc[own] for part, own in parts.items()}
    for part, own in parts.items():
        near = "  <- near empty" if len(own) < NEAR_EMPTY or own.nunique() < 2 else ""
        lines.append((part, f"{len(own)} images of {own.nunique()} individuals{near}"))
    lines += [
        ("missing files", _examples(missing)),
        ("broken files", _examples(broken)),
        (
            "boxes empty or outside",
            _examples([f"{paths[row]} {table['bbox'][row]}" for row in bad]),
        ),
        ("boxes partly outside", str(cut)),
        ("images of two individuals", _examples(contradictions)),
        ("rows repeated", str(table.duplicated(["path", "bbox", "identity"]).sum())),
        ("individuals with 1 image", _examples(counts.index[counts == 1])),
    ]
    if min_images is not None:
        few = counts.index[counts.between(2, min_images - 1)]
        lines.append((f"... with less than {min_images}", _examples(few)))
    if parts:
        unmatched = ~parts["query"].isin(parts["gallery"])
        lines.append(("queries without a match", str(unmatched.sum())))
    faults = len(missing) + len(broken) + len(bad) + len(contradictions)
    width = max(len(label) for label, _ in lines)
    return "\n".join(
        [
            catalogue.name,
            *(f"  {label:<{width}}  {text}" for label, text in lines),
            f"  {faults} faults to mend" if faults else "  no faults",
        ]
    )


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
        try:
            return not box_overlaps(catalogue.path(row), boxes[row])
        except ImageError:
            return False

    rows = [row for row, box in enumerate(boxes) if box is not None]
    with ThreadPoolExecutor() as pool:  # the time goes into waiting for the disk
        return [row for row, bad in zip(rows, pool.map(is_bad, rows), strict=True) if bad]


def _decode_all(
    paths: Sequence[str], masks: Sequence[str | None], missing: Sequence[str], name: str
) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """Return (width, height) by photograph, and why others or their masks cannot be read.

    Those that are missing are left out, and a missing mask counts as none.
    """

    def decode(photo: tuple[str, str | None]) -> tuple[int, int] | str:
        path, mask = photo
        try:
            return open_image(path, mask=None if mask in gone else mask).size
        except ImageError as error:
            return str(error)

    gone = set(missing)
    photos = [photo for photo in zip(paths, masks, strict=True) if photo[0] not in gone]
    photos = list(dict.fromkeys(photos))
    found: dict[tuple[str, str | None], tuple[int, int] | str] = {}
    threads = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    with threads as pool, Progress(f"checking {name}", len(photos), "file") as progress:
        for photo, outcome in zip(photos, pool.map(decode, photos), strict=True):
            found[photo] = outcome
            progress.update()
    sizes = {path: size for (path, _), size in found.items() if isinstance(size, tuple)}
    return sizes, list(dict.fromkeys(cause for cause in found.values() if isinstance(cause, str)))


def _leaves(box: Sequence[float], size: tuple[int, int]) -> bool:
    """Tell whether a box reaches beyond its image once its edges are rounded to whole pixels."""
    x, y, width, height = box
    edges = round(x) >= 0, round(y) >= 0, round(x + width) <= size[0], round(y + height) <= size[1]
    return not all(edges)


def _spread(values: Iterable[float]) -> str:
    """Return smallest, middle and largest of some numbers, or ``-``."""
    low_to_high = sorted(values)
    if not low_to_high:
        return "-"
    low, middle, high = low_to_high[0], statistics.median(low_to_high), low_to_high[-1]
    return f"min {low:g}, median {middle:g}, max {high:g}"


def _examples(items: Sequence[str]) -> str:
    """Return ``5 (a; b; c; ...)``, or ``0``."""
    dots = "; ..." if len(items) > SHOWN else ""
    return f"{len(items)} ({'; '.join(items[:SHOWN])}{dots})" if len(items) else "0"
