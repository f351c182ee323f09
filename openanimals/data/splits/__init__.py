"""Which rows of a catalogue train, which are queries and which are the gallery."""

import logging
from pathlib import Path

from openanimals.data.catalogue import UNKNOWN, Catalogue
from openanimals.data.splits.closed_set import closed_split, has_halves, original_split, time_split
from openanimals.data.splits.io import PARTS, Split, read_split, write_split
from openanimals.data.splits.paper import hold_out, paper_partition
from openanimals.utils.errors import UserError
from openanimals.utils.registry import did_you_mean

__all__ = ["Split", "hold_out", "make_split", "paper_partition", "read_split", "write_split"]

logger = logging.getLogger(__name__)

WAYS = ("auto", "source", "paper", "closed", "time", "original", "file")  # of DATASETS.SPLIT


def make_split(catalogue: Catalogue, how: str = "auto", file: str | Path = "") -> Split:
    """Split a catalogue in the way that a config names.

    Args:
        catalogue: the images.
        how: ``paper``: the paper's partition; ``source``: the source's own train, query and
            gallery; ``auto``: those if it has them, else the paper's; ``closed``, ``time`` and
            ``original``: see ``closed_set.py`` (where the source has train, query and
            gallery, those are its original split); ``file``: the split in ``file``.
        file: a split file (see :func:`read_split`), only read if ``how`` is ``file``.

    Raises:
        ValueError: ``how`` is none of these, the source has no split of this kind, or the file is
            unusable.
    """
    if how not in WAYS:
        raise UserError(f"DATASETS.SPLIT is {how!r}; expected {', '.join(WAYS)}")
    if how == "file":
        return read_split(file, catalogue)
    if how == "closed":
        return closed_split(catalogue)
    if how == "time":
        return time_split(catalogue)
    split = None if how == "paper" else source_split(catalogue)
    if split is None and how == "original":
        return original_split(catalogue)
    if split is None and how == "source":
        raise UserError(
            f"DATASETS.SPLIT is 'source', but {catalogue.name} has no split of its own into "
            "train, query and gallery; expected auto, paper or file"
        )
    if how == "auto" and has_halves(catalogue):
        logger.warning(
            "%s: its own train and test leave open which images are queries and are not used; "
            "DATASETS.SPLIT original divides by them",
            catalogue.name,
        )
    return split or Split(*paper_partition(catalogue.identities))


def source_split(catalogue: Catalogue) -> Split | None:
    """Return the split of a catalogue's ``split`` column.

    None if the column is empty, or has no more than train and test: that leaves open which images
    are the queries, so only DATASETS.SPLIT original takes it. Rows of ``unknown`` are in no list.

    Raises:
        ValueError: a row's value is not train, query or gallery.
    """
    values = catalogue.column("split")
    if not any(values) or has_halves(catalogue):
        return None
    rows: dict[str | None, list[int]] = {part: [] for part in PARTS}
    for row, (part, identity) in enumerate(zip(values, catalogue.identities, strict=True)):
        if part not in rows:
            found = f"split {part!r}{did_you_mean(part, PARTS)}" if part else "no split"
            raise UserError(
                f"{catalogue.name}: row {row} ({catalogue.column('path')[row]}) has {found}; "
                f"expected {', '.join(PARTS)} in every row, or in none"
            )
        if identity != UNKNOWN:
            rows[part].append(row)
    return Split(*rows.values())
