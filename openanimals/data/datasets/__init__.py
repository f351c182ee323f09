"""Where catalogues come from: one file a source, and the names under which a config asks for them.

==============================  ==========================================================
``folder:DIR``                  one sub-folder of photographs for each individual
``csv:FILE``                    a table with the columns path and identity
``Animals-SyntheticHerd``       drawn on the fly; ``Animals-SyntheticHerd:identities=8,images=6``
``Animals-<Class>``             a class of wildlife-datasets, for instance Animals-HyenaID2022
a name in DATASET_REGISTRY      Market1501, DukeMTMC, MSMT17, and those that user code registers
==============================  ==========================================================
"""

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from openanimals.data.catalogue import UNKNOWN, Catalogue, CatalogueError
from openanimals.data.datasets import csv_table, folder, person, synthetic, wildlife
from openanimals.data.names import dates_from_names, leave_out_nobody
from openanimals.utils.errors import naming
from openanimals.utils.files import expanded
from openanimals.utils.registry import Registry, did_you_mean

DATASET_REGISTRY: Registry[Callable[[Path], Catalogue]] = Registry("data set")
for _name, _folders in (
    ("Market1501", ("Market-1501-v15.09.15", "Market1501")),
    ("DukeMTMC", ("DukeMTMC-reID", "DukeMTMC")),
):
    DATASET_REGISTRY.register(_name)(partial(person.three_folders, _name, _folders))
DATASET_REGISTRY.register("MSMT17")(person.msmt17)

HERD = "Animals-SyntheticHerd"
FORMS = f"{HERD}[:identities=N,...], Animals-<Class of wildlife-datasets>, folder:DIR, csv:FILE"


def load_catalogue(
    name: str,
    root: str | Path = "datasets",
    *,
    date_pattern: str = "",
    keep_unknown: bool = False,
) -> Catalogue:
    """Return the catalogue that a config calls ``name``.

    Args:
        name: one of the forms at the top of this file.
        root: the data root (the key ``DATASETS.ROOT``); ``folder:`` and ``csv:`` do not use it.
        date_pattern: the key ``DATASETS.DATE_PATTERN``, for rows of ``folder:`` and ``csv:``
            without a date, see :func:`openanimals.data.names.dates_from_names`.
        keep_unknown: the key ``DATASETS.KEEP_UNKNOWN``: take names like Unknown_2 or NaN for
            individuals. Those of ``Animals-<Class>`` always are: wildlife-datasets knows better.

    Returns:
        The catalogue, at least one row, its name the one that was asked for.

    Raises:
        CatalogueError: no such source, its data is missing or wrong, it has no image, or it has a
            row twice.
        ValueError: an option of the synthetic herd or the date pattern is wrong.

    Example:
        >>> load_catalogue("Animals-SyntheticHerd:identities=2,images=3")  # doctest: +SKIP
        Catalogue('Animals-SyntheticHerd:identities=2,images=3', 6 images, 2 identities)
    """
    with naming(name, "cannot be read"):
        catalogue = _read(name, expanded(root))
    if not isinstance(catalogue, Catalogue):
        raise CatalogueError(
            f"{name}: its function returned a {type(catalogue).__name__}; expected a Catalogue"
        )
    if not len(catalogue):
        raise CatalogueError(f"{name}: no image in {catalogue.root.absolute()}")
    catalogue.name = name
    if name.startswith(("folder:", "csv:")):
        dates_from_names(catalogue, date_pattern)
    if not name.startswith("Animals-"):
        if not keep_unknown:
            leave_out_nobody(catalogue)
        _check_rows(catalogue)
    return catalogue


def _check_rows(catalogue: Catalogue) -> None:
    """Refuse a row that is there twice: same file, box, mask and name."""
    first: dict[tuple, int] = {}
    columns = (catalogue.column(name) for name in ("path", "bbox", "mask", "identity"))
    for row, (path, box, mask, identity) in enumerate(zip(*columns, strict=True)):
        earlier = first.setdefault((os.path.normpath(path), box, mask, identity), row)
        if earlier != row and identity != UNKNOWN:
            raise CatalogueError(
                f"{catalogue.name}: rows {earlier} and {row}, counted from 0, are the same: {path} "
                f"of {identity}{f' with the box {box}' if box else ''}; remove one of them"
            )


def _read(name: str, root: Path) -> Catalogue:
    form, _, argument = name.partition(":")
    if name in DATASET_REGISTRY:
        return DATASET_REGISTRY.get(name)(root)
    if form == "folder" and argument:
        return folder.read(argument)
    if form == "csv" and argument:
        return csv_table.read(argument)
    if form == HERD:
        return synthetic.read(root, **_options(name, argument))
    class_name = name.removeprefix("Animals-")
    if class_name != name and not did_you_mean(class_name, ["SyntheticHerd"]):
        return wildlife.read(class_name, root)
    raise CatalogueError(
        f"unknown data set {name!r}{_closest(name)}; known: {', '.join(DATASET_REGISTRY)}, {FORMS}"
    )


def _closest(name: str) -> str:
    """Guess what an unknown name was meant to be; see :func:`did_you_mean`."""
    if expanded(name).exists():
        prefix = "folder" if expanded(name).is_dir() else "csv"
        return f" (did you mean '{prefix}:{name}'?)"
    animals = {each.casefold(): f"Animals-{each}" for each in wildlife.class_names()}
    if name.casefold() in animals:
        return f" (did you mean {animals[name.casefold()]!r}?)"
    known = [*DATASET_REGISTRY, HERD, *animals.values(), "folder:DIR", "csv:FILE"]
    return did_you_mean(name, known) or did_you_mean(name.partition(":")[0], known)


def _options(name: str, text: str) -> dict[str, Any]:
    """Read the ``key=value,key=value`` of a herd, values that are no number as text."""
    options: dict[str, Any] = {}
    for part in text.split(",") if text else []:
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in synthetic.ALLOWED:
            raise CatalogueError(
                f"{name}: unknown option {key!r}{did_you_mean(key, synthetic.ALLOWED)}; "
                f"known: {', '.join(synthetic.ALLOWED)}"
            )
        options[key] = value
        with contextlib.suppress(ValueError):
            options[key] = int(value)
    return options
