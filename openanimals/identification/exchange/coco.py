"""A catalogue as COCO JSON: images, and a box with the individual as its category."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from openanimals.data.catalogue import UNKNOWN
from openanimals.data.image_io import image_size
from openanimals.identification.catalogue_file import as_catalogue
from openanimals.utils.files import expanded, write_text

ATTRIBUTES = ("viewpoint", "camera", "sequence", "latitude", "longitude", "note")


def write_coco(
    table: pd.DataFrame,
    root: str | os.PathLike[str],
    file: str | os.PathLike[str],
    decimals: int | None = None,
) -> Path:
    """Write a catalogue as COCO JSON.

    An image is a photograph, with its size upright (as EXIF says); an annotation is one animal,
    without a box the whole photograph; a category is an individual, its ``supercategory`` the
    species. Animals of nobody known are of the category ``unknown``, id 0.

    Args:
        table: a catalogue (see ``catalogue_file``).
        root: folder that its paths are relative to.
        file: to write; the paths in it are the table's.
        decimals: of latitude and longitude; None: all.

    Returns:
        The file.

    Raises:
        UserError: a photograph cannot be read.
        FileError: the file cannot be written.
    """
    catalogue = as_catalogue(table, expanded(root))
    names = sorted({*catalogue.identities} - {UNKNOWN})
    numbers = {UNKNOWN: 0} | {name: number for number, name in enumerate(names, 1)}
    species = dict(zip(catalogue.identities, catalogue.column("species"), strict=True))
    categories = [
        {"id": number, "name": name, "supercategory": species.get(name) or "animal"}
        for name, number in numbers.items()
        if name in species
    ]
    images: dict[str, dict[str, Any]] = {}
    annotations = []
    for row, path in enumerate(catalogue.column("path")):
        if path not in images:
            width, height = image_size(catalogue.path(row))
            images[path] = {"id": len(images) + 1, "file_name": path}
            images[path] |= {"width": width, "height": height}
            images[path] |= _known({"date_captured": catalogue.table["date"].iat[row]})
        image = images[path]
        x, y, width, height = catalogue.table["bbox"].iat[row] or (
            *(0.0, 0.0, image["width"], image["height"]),
        )
        annotations.append(
            {
                "id": row + 1,
                "image_id": image["id"],
                "category_id": numbers[catalogue.identities[row]],
                "bbox": [x, y, width, height],
                "area": width * height,
                "iscrowd": 0,
                "attributes": _attributes(table.iloc[row], decimals),
            }
        )
    content = {
        "info": {"description": "individual animals, written by OpenAnimals"},
        "images": [*images.values()],
        "annotations": annotations,
        "categories": categories,
    }
    text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)
    write_text(expanded(file), text)
    return expanded(file)


def _attributes(row: pd.Series, decimals: int | None) -> dict[str, Any]:
    found = _known({name: row.get(name) for name in ATTRIBUTES})
    for name in ("latitude", "longitude"):
        if name in found:
            number = float(found[name])
            found[name] = number if decimals is None else round(number, decimals)
    return found


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not pd.isna(value)}
