"""What the commands do with files: read a catalogue and photographs, identify, write."""

from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from openanimals.data.image_io import read_image
from openanimals.identification.build import build_held_out, build_matchers, trained_on
from openanimals.identification.catalogue_file import annotation_ids, as_catalogue
from openanimals.identification.identify import Identifier
from openanimals.identification.learning import Settings
from openanimals.identification.listing import Listing, left_to_identify, read_new
from openanimals.identification.page import write_page
from openanimals.identification.table_file import some
from openanimals.utils.errors import UserError
from openanimals.utils.files import expanded
from openanimals.utils.registry import did_you_mean

logger = getLogger(__name__)


def identify_files(
    catalogue: Path,
    new: str | None,
    to: Path,
    settings: Settings,
    *,
    only: Mapping[str, Sequence[str]] = {},
    page: bool = True,
    **matcher: Any,
) -> str:
    """Identify the photographs of a file or folder, and write what was found.

    Args:
        catalogue: its file.
        new: a catalogue's file or a folder of photographs; None: those of the catalogue that have
            no name.
        to: the folder that is written into.
        settings: of the identification.
        only: values of columns (camera, species, viewpoint) that count.
        page: also write a page with pictures.
        **matcher: see :func:`build_matchers`.

    Returns:
        What was decided, in words.

    Raises:
        UserError: a file cannot be used, or nothing is left to identify.
    """
    whole = left_to_identify(catalogue)
    asked = whole.unknown() if new is None else read_new(new, whole.root)
    if new is None and not len(asked.table):
        raise UserError(
            f"{catalogue}: no photograph is left without a name; name new ones by --new, or leave "
            "the cell identity empty"
        )
    known = Listing(_limited(whole.known().table, only, catalogue), whole.root)
    asked = Listing(_limited(asked.table, only, new or catalogue), asked.root)
    matchers, fingerprint = build_matchers(catalogue=expanded(catalogue).absolute(), **matcher)
    held_out = build_held_out(**matcher)
    seen = 0 if held_out else trained_on(matcher["model"], as_catalogue(*known))
    if seen:
        logger.warning(
            "%s was trained on %d of the %d photographs of the catalogue, so it is surer of them "
            "than of new ones, and gives names too readily; openanimals train --for-identification "
            "holds some out",
            matcher["model"],
            seen,
            len(known.table),
        )
    identifier = Identifier(known, matchers, settings, fingerprint=fingerprint, held_out=held_out)
    matches = identifier.identify(asked)
    # Both start from the catalogue's folder, so an id means one photograph.
    everything = pd.concat([known.table, asked.table], ignore_index=True)
    places = {name: row for row, name in enumerate(ids_of_both(known, asked))}
    images = as_catalogue(everything, whole.root)

    def open_photograph(annotation: str) -> Image.Image:
        row = places[annotation]
        box = images.column("bbox")[row]
        return Image.fromarray(read_image(images.path(row), bbox=box))

    def describe(annotation: str) -> str:
        row = everything.iloc[places[annotation]]
        return ", ".join(str(row[name]) for name in ("date", "camera", "viewpoint") if row[name])

    def pages(found: Any, folder: Path) -> list[Path]:
        return write_page(found, folder, open_photograph, identifier.spots, describe=describe)

    written = matches.write(to, pages if page else None)
    return "\n".join([*(f"{name}: {text}" for name, text in matches.about()), *map(str, written)])


def ids_of_both(known: Listing, asked: Listing) -> list[str]:
    """Return the annotation ids of a catalogue and then those of new photographs.

    Raises:
        UserError: one is in both.
    """
    first, second = annotation_ids(known.table), annotation_ids(asked.table)
    if twice := sorted({*first} & {*second}):
        raise UserError(
            f"{len(twice)} photographs to identify are in the catalogue already, with a name: "
            f"{some(twice)}"
        )
    return first + second


def _limited(table: pd.DataFrame, only: Mapping[str, Sequence[str]], file: object) -> pd.DataFrame:
    """Return the rows that have the wanted values.

    Of an individual that a camera has met all photographs count, those by other cameras too.
    """
    for name, values in only.items():
        there = sorted({str(value) for value in table[name] if value})
        if not set(values) & set(there):
            raise UserError(
                f"{file} has no photograph with {name} {values[0]!r}"
                f"{did_you_mean(values[0], there)}; it has: {', '.join(there[:10]) or 'none'}"
            )
        wanted = table[name].isin(values)
        if name == "camera":
            wanted |= table["identity"].isin(table["identity"][wanted].dropna())
        table = table[wanted]
    return table.reset_index(drop=True)
