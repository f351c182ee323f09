"""The data check: what a catalogue holds and what is wrong with it, before hours of training."""

import os
import statistics
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from openanimals.data.boxes import rows_with_bad_boxes
from openanimals.data.catalogue import UNKNOWN, Catalogue, CatalogueError
from openanimals.data.files import find_copies, unusable_files
from openanimals.data.image_io import ImageError, Look, look_at
from openanimals.data.masks import is_shape
from openanimals.data.names import is_nobody, near_equal
from openanimals.data.splits import Split
from openanimals.utils.progress import Progress
from openanimals.utils.viewpoints import lateral_viewpoint

NEAR_EMPTY = 10  # a part of a split with fewer images than this says little
LEAST_DEVIATION = 1.0  # of 255 levels of grey: a picture of less shows nothing
SHOWN = 3  # examples that a line of the table names; the rest are counted


def check_data(
    catalogue: Catalogue, split: Split | None = None, min_images: int = 4
) -> tuple[str, int]:
    """Look at every row of a catalogue and decode every file to its end.

    Files are decoded in a few threads, with a progress bar where there is a terminal.

    Args:
        catalogue: the images.
        split: its train, query and gallery rows, if they are to be looked at, too.
        min_images: images of an individual in a batch (``DATALOADER.NUM_INSTANCE``).

    Returns:
        Lines of plain text for a console, and the number of faults, which the last line tells: what
        is wrong whatever the data is used for. These are files that are not there or cannot be
        decoded, pictures of a single grey, masks without effect, boxes that cannot be used, and
        images that have two identities for the same box or are there twice, if under two names.
    """
    table, rows = catalogue.table, range(len(catalogue))
    paths = [str(catalogue.path(row)) for row in rows]
    masks = [catalogue.mask(row) for row in rows]
    files = dict.fromkeys([*paths, *(mask for mask in masks if mask and not is_shape(mask))])
    missing = unusable_files(files)
    found = _look_at_all(paths, masks, missing, catalogue.name)
    broken = list(dict.fromkeys(cause for cause in found.values() if isinstance(cause, str)))
    looks = {photo: look for photo, look in found.items() if isinstance(look, Look)}
    sizes = {path: look.size for (path, _), look in looks.items()}
    flat = {path: None for (path, _), look in looks.items() if look.deviation < LEAST_DEVIATION}
    idle = [path for (path, _), look in looks.items() if look.idle]
    try:
        misread, bad = "", rows_with_bad_boxes(catalogue, sizes)
    except CatalogueError as error:
        misread, bad = str(error), [*table.index[table["bbox"].notna()]]
    boxes = table["bbox"].drop(bad).dropna()
    cut = sum(_leaves(box, sizes[paths[row]]) for row, box in boxes.items() if paths[row] in sizes)
    contradictions, copies = [], []
    for group in find_copies(paths, catalogue.column("bbox")):
        same = dict.fromkeys(table["path"].iloc[group])
        names = sorted(set(table["identity"].iloc[group]))
        if len(names) > 1:
            contradictions.append(f"{' = '.join(same)}: {', '.join(names)}")
        elif len(same) > 1 and names != [UNKNOWN]:
            copies.append(f"{' = '.join(same)}: {names[0]}")
    repeated = table.duplicated(["path", "bbox", "mask", "identity"])
    repeated &= table["identity"] != UNKNOWN
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
        ("missing files", _examples([*missing.values()])),
        ("broken files", _examples(broken)),
        ("nearly constant pictures", _examples([*flat])),
        ("masks that remove nothing", _examples(idle)),
        (
            "unusable boxes",
            misread or _examples([f"{paths[row]} {table['bbox'][row]}" for row in bad]),
        ),
        ("boxes partly outside", str(cut)),
        ("images of two individuals", _examples(contradictions)),
        ("copies of images", _examples(copies, shown=10)),
        ("rows repeated", str(repeated.sum())),
        ("names nearly equal", _examples(near_equal(counts.index))),
        ("names of nobody", _examples([*filter(is_nobody, counts.index)])),
        ("individuals with 1 image", _examples(counts.index[counts == 1])),
        (
            f"... with less than {min_images}",
            _examples(counts.index[counts.between(2, min_images - 1)]),
        ),
    ]
    if split:
        nobody, camera = unmatched(catalogue.select(split.query), catalogue.select(split.gallery))
        by = f" ({camera} of them as their match is by their own camera)" if camera else ""
        lines.append(("queries without a match", f"{nobody + camera}{by}"))
    wrong = (missing, broken, flat, idle, bad, contradictions, copies)
    faults = sum(map(len, wrong)) + int(repeated.sum())
    width = max(len(label) for label, _ in lines)
    report = [
        catalogue.name,
        *(f"  {label:<{width}}  {text}" for label, text in lines),
        f"  {faults} faults to mend" if faults else "  no faults",
    ]
    return "\n".join(report), faults


def unmatched(query: Catalogue, gallery: Catalogue) -> tuple[int, int]:
    """Return how many queries have no image of their individual in the gallery, and how many have.

    Those others have only images that do not count, as they are by the query's own camera.
    """
    cameras: dict[str, set] = {}
    for identity, camera in zip(gallery.identities, gallery.column("counted_camera"), strict=True):
        cameras.setdefault(identity, set()).add(camera)
    asked = zip(query.identities, query.column("counted_camera"), strict=True)
    left = [(cameras.get(identity, set()), camera) for identity, camera in asked]
    nobody = sum(not known for known, _ in left)
    return nobody, sum(camera is not None and known == {camera} for known, camera in left)


def _look_at_all(
    paths: Sequence[str], masks: Sequence[str | None], missing: Collection[str], name: str
) -> dict[tuple[str, str | None], Look | str]:
    """Return by photograph and mask what they look like, or why they cannot be read.

    Photographs that are missing are left out, and a missing mask counts as none.
    """

    def look(photo: tuple[str, str | None]) -> Look | str:
        path, mask = photo
        try:
            return look_at(path, mask=None if mask in missing else mask)
        except ImageError as error:
            return str(error)

    photos = [photo for photo in zip(paths, masks, strict=True) if photo[0] not in missing]
    photos = list(dict.fromkeys(photos))
    found: dict[tuple[str, str | None], Look | str] = {}
    threads = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    with threads as pool, Progress(f"checking {name}", len(photos), "file") as progress:
        for photo, outcome in zip(photos, pool.map(look, photos), strict=True):
            found[photo] = outcome
            progress.update()
    return found


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


def _examples(items: Sequence[str], shown: int = SHOWN) -> str:
    """Return ``5 (a; b; c; ...)``, or ``0``."""
    dots = "; ..." if len(items) > shown else ""
    return f"{len(items)} ({'; '.join(items[:shown])}{dots})" if len(items) else "0"
