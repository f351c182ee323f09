"""Why two photographs match: spots, regions that a network finds alike, and on what they lie."""

from collections.abc import Sequence
from pathlib import Path

from openanimals.engine.matchers import CatalogueImages
from openanimals.engine.predictor import Predictor
from openanimals.engine.regions import alike_regions, share_inside
from openanimals.evaluation.visualize import draw_pair, draw_regions
from openanimals.identification.catalogue_file import (
    annotation_ids,
    as_catalogue,
    as_table,
    find_annotations,
)
from openanimals.identification.listing import Listing
from openanimals.matching.keypoints import extract_keypoints
from openanimals.matching.one_to_one import matched_spots
from openanimals.utils.files import expanded

SPOTS, REGIONS = "spots.jpg", "regions.jpg"


def explain(
    photographs: Sequence[str],
    to: str | Path,
    *,
    catalogue: str | None = None,
    model: str | None = None,
) -> str:
    """Draw what two photographs have in common, and say how much of it lies on the animal.

    Args:
        photographs: two files or, with a catalogue, two of its photographs, whose boxes and masks
            then count.
        to: the folder of the pictures, ``spots.jpg`` and with a model ``regions.jpg``.
        catalogue: its file.
        model: a run, a checkpoint or a YAML file.

    Returns:
        What was found, in words.

    Raises:
        UserError: a photograph is not in the catalogue, or cannot be read.
    """
    listing = _listing(photographs, catalogue)
    images = CatalogueImages(as_catalogue(*listing), masked=True)
    (first, ours), (second, theirs) = images[0], images[1]
    title = " and ".join(Path(each).name for each in photographs)
    spots = matched_spots(extract_keypoints(first), extract_keypoints(second))
    place = expanded(to)
    draw_pair(first, second, spots, place / SPOTS, title=title)
    lines = [f"{len(spots.weights)} spots match: {place / SPOTS}"]
    both = spots.query_xy, spots.gallery_xy
    for name, mask, xy in zip(photographs, (ours, theirs), both, strict=True):
        if mask is not None and len(xy):
            column, row = xy.round().astype(int).T
            inside = spots.weights @ mask[row, column] / spots.weights.sum()
            lines.append(f"  {inside:.0%} of their weight lies on the animal in {name}")
    if model:
        found = alike_regions(Predictor(model), first, second)
        draw_regions(first, second, found[:2], place / REGIONS, title=title)
        lines.append(f"network: similarity {found.similarity:.2f}: {place / REGIONS}")
        for name, mask, places in zip(photographs, (ours, theirs), found[:2], strict=True):
            if mask is not None:
                inside = share_inside(places, mask)
                lines.append(f"  {inside:.0%} of what speaks for it lies on the animal in {name}")
    if ours is None and theirs is None:
        lines.append("no mask says where the animal is: look whether coats match, or scenery")
    return "\n".join(lines)


def _listing(photographs: Sequence[str], catalogue: str | None) -> Listing:
    """Return two photographs as a table."""
    if catalogue is None:
        paths = [str(expanded(each).absolute()) for each in photographs]
        return Listing(as_table([{"path": path} for path in paths]), Path("/"))
    listing = Listing.read(catalogue)
    ids = annotation_ids(listing.table)
    rows = [ids.index(each) for each in find_annotations(photographs, ids, catalogue)]
    return Listing(listing.table.iloc[rows].reset_index(drop=True), listing.root)
