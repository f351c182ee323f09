"""The data check: what a catalogue holds and what is wrong with it, before hours of training."""

import math
import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from openanimals.data.catalogue import UNKNOWN, Catalogue
from openanimals.data.image_io import ImageError, box_overlaps, open_image
from openanimals.data.masks import is_shape
from openanimals.data.splits import PARTS, Split
from openanimals.utils.viewpoints import lateral_viewpoint

NEAR_EMPTY = 10  # a part of a split with fewer images than this says little
SHOWN = 3  # examples that a line of the table names; the rest are counted

Photo = tuple[Path, str | None]  # a file, and its mask


class Spread(NamedTuple):
    """Smallest, middle and largest of some numbers."""

    min: float
    median: float
    max: float

    def __str__(self) -> str:
        """Return the three numbers with their names."""
        return f"min {self.min:g}, median {self.median:g}, max {self.max:g}"


@dataclass(frozen=True)
class DataReport:
    """What :func:`check_data` found.

    Attributes:
        name: the catalogue's name.
        images: number of rows.
        individuals: number of identities, ``unknown`` not counted.
        unknown: number of rows whose identity is ``unknown``.
        images_each: images of an individual; None if there are no individuals.
        filled: number of rows that have a date, a time of day with it, a sequence, a known side of
            the animal, a mask.
        widths, heights: pixels of the readable photographs, upright; None if there are none.
        box_widths, box_heights: pixels of the boxes; None if there are none.
        missing: files of images and masks that are not there.
        broken: photographs that cannot be decoded to their end, or not with their mask, each with
            the cause.
        bad_boxes: paths and boxes that are empty, not a number or wholly outside of the image.
        cut_boxes: number of boxes that are partly outside (the rest is black).
        contradictions: paths that have, for the same box, more than one identity.
        repetitions: number of rows that repeat another's path, box and identity.
        single: individuals with one image: never both query and gallery.
        few: individuals with 2 or more, but fewer than ``min_images``.
        min_images: images of an individual in a batch, K of the sampler; None if it has no K.
        parts: images and individuals of train, query and gallery; empty without a split.
        unmatched: number of queries whose individual is not in the gallery.
    """

    name: str
    images: int
    individuals: int
    unknown: int
    images_each: Spread | None
    filled: dict[str, int]
    widths: Spread | None
    heights: Spread | None
    box_widths: Spread | None
    box_heights: Spread | None
    missing: list[str]
    broken: list[str]
    bad_boxes: list[str]
    cut_boxes: int
    contradictions: list[str]
    repetitions: int
    single: list[str]
    few: list[str]
    min_images: int | None
    parts: dict[str, tuple[int, int]]
    unmatched: int

    @property
    def faults(self) -> int:
        """Number of files, boxes and paths that are wrong, whatever the data is used for."""
        return sum(map(len, (self.missing, self.broken, self.bad_boxes, self.contradictions)))

    @property
    def near_empty(self) -> list[str]:
        """Names of the parts of the split with hardly an image, or with one individual."""
        return [
            name
            for name, (images, individuals) in self.parts.items()
            if images < NEAR_EMPTY or individuals < 2
        ]

    def as_table(self) -> str:
        """Return the report as lines of plain text for a console."""
        unknown = f" (and {self.unknown} images of unknown ones)" if self.unknown else ""
        lines = [
            ("images", str(self.images)),
            ("individuals", f"{self.individuals}{unknown}"),
            ("images each", str(self.images_each or "-")),
            *((f"with a {what}", str(count)) for what, count in self.filled.items()),
            ("image width", str(self.widths or "-")),
            ("image height", str(self.heights or "-")),
        ]
        if self.box_widths:
            lines += [("box width", str(self.box_widths)), ("box height", str(self.box_heights))]
        for part, (images, individuals) in self.parts.items():
            near = "  <- near empty" if part in self.near_empty else ""
            lines.append((part, f"{images} images of {individuals} individuals{near}"))
        lines += [
            ("missing files", _examples(self.missing)),
            ("broken files", _examples(self.broken)),
            ("boxes empty or outside", _examples(self.bad_boxes)),
            ("boxes partly outside", str(self.cut_boxes)),
            ("images of two individuals", _examples(self.contradictions)),
            ("rows repeated", str(self.repetitions)),
            ("individuals with 1 image", _examples(self.single)),
        ]
        if self.min_images is not None:
            lines.append((f"... with less than {self.min_images}", _examples(self.few)))
        if self.parts:
            lines.append(("queries without a match", str(self.unmatched)))
        width = max(len(label) for label, _ in lines)
        verdict = f"{self.faults} faults to mend" if self.faults else "no faults"
        return "\n".join(
            [self.name, *(f"  {label:<{width}}  {text}" for label, text in lines), f"  {verdict}"]
        )


def check_data(
    catalogue: Catalogue, split: Split | None = None, min_images: int | None = 4
) -> DataReport:
    """Look at every row of a catalogue and decode every file to its end.

    Files are decoded in a few threads, with a progress bar where there is a terminal.

    Args:
        catalogue: the images.
        split: its train, query and gallery rows, if they are to be looked at, too.
        min_images: images of an individual in a batch (``DATALOADER.NUM_INSTANCE``); None where
            the sampler takes images one by one.
    """
    paths = [catalogue.path(row) for row in range(len(catalogue))]
    masks = [catalogue.mask(row) for row in range(len(catalogue))]
    drawn = [Path(mask) for mask in masks if mask is not None and not is_shape(mask)]
    missing = [str(file) for file in dict.fromkeys([*paths, *drawn]) if not file.is_file()]
    found = _decode_all(zip(paths, masks, strict=True), set(missing), catalogue.name)
    sizes = {path: size for (path, _), size in found.items() if isinstance(size, tuple)}
    known = [identity for identity in catalogue.identities if identity != UNKNOWN]
    counts = Counter(known)
    boxes = catalogue.column("bbox")
    bad_rows = set(rows_with_bad_boxes(catalogue))
    good_boxes = [
        (sizes.get(paths[row]), box)
        for row, box in enumerate(boxes)
        if box is not None and row not in bad_rows
    ]
    contradictions, repetitions = _repeated(catalogue)
    return DataReport(
        name=catalogue.name,
        images=len(catalogue),
        individuals=len(counts),
        unknown=len(catalogue) - len(known),
        images_each=_spread(counts.values()),
        filled=_filled(catalogue),
        widths=_spread([width for width, _ in sizes.values()]),
        heights=_spread([height for _, height in sizes.values()]),
        box_widths=_spread([box[2] for _, box in good_boxes]),
        box_heights=_spread([box[3] for _, box in good_boxes]),
        missing=missing,
        broken=list(dict.fromkeys(cause for cause in found.values() if isinstance(cause, str))),
        bad_boxes=[f"{paths[row]} {boxes[row]}" for row in sorted(bad_rows)],
        cut_boxes=sum(_leaves(box, size) for size, box in good_boxes if size is not None),
        contradictions=contradictions,
        repetitions=repetitions,
        single=sorted(name for name, count in counts.items() if count == 1),
        few=sorted(name for name, count in counts.items() if 2 <= count < (min_images or 0)),
        min_images=min_images,
        **_split_facts(catalogue.identities, split),
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


def _filled(catalogue: Catalogue) -> dict[str, int]:
    """Return how many rows have what evaluation and training can make use of."""
    dates = catalogue.column("date")
    columns = {
        "date": dates,
        "time of day": [date and "T" in date for date in dates],
        "sequence": catalogue.column("sequence"),
        "known side": map(lateral_viewpoint, catalogue.column("viewpoint")),
        "mask": catalogue.column("mask"),
    }
    return {what: sum(map(bool, values)) for what, values in columns.items()}


def _decode_all(
    photos: Iterable[Photo], missing: Collection[str], name: str
) -> dict[Photo, tuple[int, int] | str]:
    """Return for each photograph its (width, height), or why it or its mask cannot be read.

    Those that are missing are left out, and a missing mask counts as none.
    """

    def decode(photo: Photo) -> tuple[int, int] | str:
        path, mask = photo
        try:
            return open_image(path, mask=None if mask in missing else mask).size
        except ImageError as error:
            return str(error)

    there = list(dict.fromkeys(photo for photo in photos if str(photo[0]) not in missing))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        sizes = tqdm(
            pool.map(decode, there), f"checking {name}", len(there), unit="file", disable=None
        )
        return dict(zip(there, sizes, strict=True))


def _repeated(catalogue: Catalogue) -> tuple[list[str], int]:
    """Return paths with two identities for the same box, and the number of repeated rows."""
    seen: dict[tuple, list[str]] = defaultdict(list)
    columns = [catalogue.column(column) for column in ("path", "bbox", "identity")]
    for path, box, identity in zip(*columns, strict=True):
        seen[path, box].append(identity)
    contradictions = [
        f"{path}: {', '.join(sorted(set(identities)))}"
        for (path, _), identities in seen.items()
        if len(set(identities)) > 1
    ]
    repetitions = sum(len(identities) - len(set(identities)) for identities in seen.values())
    return contradictions, repetitions


def _split_facts(identities: list[str], split: Split | None) -> dict:
    if split is None:
        return {"parts": {}, "unmatched": 0}
    names = {part: [identities[row] for row in getattr(split, part)] for part in PARTS}
    gallery = set(names["gallery"])
    return {
        "parts": {part: (len(of_part), len(set(of_part))) for part, of_part in names.items()},
        "unmatched": sum(identity not in gallery for identity in names["query"]),
    }


def _spread(values: Iterable[float]) -> Spread | None:
    numbers = sorted(value for value in values if math.isfinite(value))
    return Spread(numbers[0], statistics.median(numbers), numbers[-1]) if numbers else None


def _leaves(box: Sequence[float], size: tuple[int, int]) -> bool:
    """Tell whether a box reaches beyond its image once its edges are rounded to whole pixels."""
    x, y, width, height = box
    edges = round(x) >= 0, round(y) >= 0, round(x + width) <= size[0], round(y + height) <= size[1]
    return not all(edges)


def _examples(items: Sequence[str]) -> str:
    """Return ``5 (a; b; c; ...)``, or ``0``."""
    if not items:
        return "0"
    dots = "; ..." if len(items) > SHOWN else ""
    return f"{len(items)} ({'; '.join(items[:SHOWN])}{dots})"
