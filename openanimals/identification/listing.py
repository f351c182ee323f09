"""What commands read: a catalogue with the decisions about it, and new photographs."""

from logging import getLogger
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from openanimals.identification.catalogue_file import annotation_ids, read_catalogue, rebase
from openanimals.identification.decisions.evidence import Evidence
from openanimals.identification.decisions.individuals import annotate, resolve_table
from openanimals.identification.importing import import_catalogue
from openanimals.utils.files import expanded
from openanimals.utils.viewpoints import lateral_viewpoint

logger = getLogger(__name__)

DECISIONS = ".decisions.sqlite"  # after the name of the catalogue's file


class Listing(NamedTuple):
    """A catalogue's table (see ``catalogue_file``) and the folder that its paths start from."""

    table: pd.DataFrame
    root: Path

    @classmethod
    def read(cls, file: str | Path) -> "Listing":
        """Read a catalogue's file; see :func:`read_catalogue`."""
        return cls(read_catalogue(file), expanded(file).absolute().parent)

    def known(self) -> "Listing":
        """Return the photographs whose individual has a name."""
        return self.select(self.table["identity"].notna())

    def unknown(self) -> "Listing":
        """Return those that are to be identified."""
        return self.select(self.table["identity"].isna())

    def select(self, rows: Any) -> "Listing":
        """Return the photographs of a mask `[N]`."""
        return Listing(self.table[rows].reset_index(drop=True), self.root)


def current(catalogue: str | Path) -> Listing:
    """Read a catalogue as it is after all decisions about it; a warning counts conflicts."""
    listing = Listing.read(catalogue)
    file = decisions_of(catalogue)
    if not file.is_file():
        return listing
    with Evidence(file) as evidence:
        found = resolve_table(listing.table, evidence.decisions())
    if found.conflicts:
        logger.warning(
            "%d conflicts in %s, the first: %s",
            len(found.conflicts),
            file,
            found.conflicts[0],
        )
    return Listing(annotate(listing.table, found), listing.root)


def left_to_identify(catalogue: str | Path) -> Listing:
    """Read the same, without photographs of which somebody said that nobody can tell who it is."""
    whole, file = current(catalogue), decisions_of(catalogue)
    if not file.is_file():
        return whole
    with Evidence(file) as evidence:
        told = {
            each.first
            for each in evidence.decisions()
            if (each.kind, each.second, each.undone_by) == ("incomparable", None, None)
        }
    out = whole.table["identity"].isna() & np.isin(annotation_ids(whole.table), [*told])
    if out.any():
        logger.info("left out, as nobody can tell who it is: %d photographs", out.sum())
    return whole.select(~out)


def decisions_of(catalogue: str | Path) -> Path:
    """Return the file of the decisions about a catalogue, which lies beside it."""
    place = expanded(catalogue)
    return place.with_name(place.name + DECISIONS)


def read_new(new: str, root: Path) -> Listing:
    """Read new photographs, their paths made to start from the catalogue's folder.

    Folders in a folder of new photographs say where these were taken, if the photographs do not.
    """
    if expanded(new).is_dir():
        found = import_catalogue(new)
        for line in found.report:
            logger.info("%s", line)
        table, own = found.table, found.root
        folders = [
            [part for part in Path(path).parent.parts if not lateral_viewpoint(part)]
            for path in table["path"]
        ]
        named = [parts[-1] if parts else None for parts in folders]
        places = pd.Series(named, table.index, dtype=object)
        table["camera"] = table["camera"].where(table["camera"].notna(), places)
    else:
        table, own = Listing.read(new)
    return Listing(rebase(table, own, root), root)
