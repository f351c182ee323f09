"""A herd that never lived, drawn on first use: data for demos and tests, without a download."""

import hashlib
import json
import logging
import os
import shutil
import uuid
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
from PIL import Image

from openanimals.data.catalogue import Catalogue
from openanimals.data.datasets.synthetic import animals, traps
from openanimals.utils.errors import UserError

NAME = "Animals-SyntheticHerd"
CODE = (Path(__file__), *sorted(Path(traps.__file__).parent.glob("*.py")))  # all that draws
ALLOWED = {  # whole numbers from, to
    "identities": (2, 9999),
    "images": (2, 999),
    "pixels": (32, 1024),
    "seed": (0, 2**31 - 1),
}
COLUMNS = ("path", "identity", "bbox", "camera", "date", "viewpoint", "species")
LONGEST_ENCOUNTER = 4  # photographs of one individual on one day at one camera
FIRST_DAY, DAYS = date(2024, 1, 1), 366

logger = logging.getLogger(__name__)


def read(
    root: str | Path, *, identities: int = 160, images: int = 10, pixels: int = 128, seed: int = 0
) -> Catalogue:
    """Return the catalogue of a synthetic herd; draw the herd if it was not drawn before.

    The same arguments always draw the same herd, and an individual looks the same in a herd of
    any size. Herds are kept in ``root/SyntheticHerd/<version>-<settings>``; the version is a digest
    of the code that draws, so a change of the drawing never meets an old herd.

    Args:
        root: folder of the data sets.
        identities: number of individuals.
        images: photographs of each individual.
        pixels: width of a photograph; it is three quarters as high.
        seed: another seed draws another herd.

    Returns:
        A catalogue with bbox, camera, date, viewpoint (left, right) and species.

    Raises:
        ValueError: a size is not a whole number or out of range.
        OSError: the folder cannot be written.
    """
    sizes = {"identities": identities, "images": images, "pixels": pixels}
    for name, value in {**sizes, "seed": seed}.items():
        low, high = ALLOWED[name]
        if type(value) is not int or not low <= value <= high:
            raise UserError(
                f"{NAME}: {name} is {value!r}; expected a whole number from {low} to {high}"
            )
    version = hashlib.sha256(b"".join(file.read_bytes() for file in CODE)).hexdigest()[:8]
    settings = f"{version}-{identities}x{images}-{pixels}px-seed{seed}"
    folder = Path(root) / "SyntheticHerd" / settings
    if not folder.is_dir():
        logger.info("Drawing a herd of %d x %d photographs into %s", identities, images, folder)
        _build(folder, seed=seed, **sizes)
    rows = json.loads((folder / "catalogue.json").read_text(encoding="utf-8"))
    return Catalogue(NAME, folder, pd.DataFrame(rows, columns=COLUMNS), cameras_count=False)


def _build(folder: Path, **settings: int) -> None:
    """Draw beside ``folder`` and rename: it is there whole or not at all, whoever else draws it."""
    draft = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    draft.mkdir(parents=True)
    try:
        rows = _draw(draft, **settings)
        (draft / "catalogue.json").write_text(json.dumps(rows, indent=0), encoding="utf-8")
        try:
            os.rename(draft, folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, and drew the same
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _draw(folder: Path, *, identities: int, images: int, pixels: int, seed: int) -> list[tuple]:
    """Draw all photographs into ``folder``; return the rows of the catalogue, see COLUMNS."""
    places = [traps.set_trap(seed, camera, pixels) for camera in range(traps.CAMERAS)]
    rows: list[tuple] = []
    for identity in range(identities):
        name = f"{identity:04d}"
        (folder / name).mkdir()
        coat = animals.coat(seed, identity)
        for image, (camera, day, light) in enumerate(_encounters(seed, identity, images)):
            stream = animals.rng(seed, "photograph", identity, image)
            facing = ("left", "right")[stream.integers(2)]
            picture, box = traps.photograph(coat, places[camera], light, facing, pixels, stream)
            path = f"{name}/{image:03d}.jpg"
            Image.fromarray(picture).save(folder / path, quality=90)
            place, taken = f"camera-{camera}", day.isoformat()
            rows.append((path, name, box, place, taken, facing, "synthetic"))
    return rows


def _encounters(seed: int, identity: int, images: int) -> list[tuple[int, date, traps.Light]]:
    """Return camera, day and light of each photograph: a few in a row share them."""
    stream = animals.rng(seed, "encounters", identity)
    photographs: list[tuple[int, date, traps.Light]] = []
    while len(photographs) < images:
        camera, day = int(stream.integers(traps.CAMERAS)), int(stream.integers(DAYS))
        encounter = (camera, FIRST_DAY + timedelta(days=day), traps.draw_light(stream))
        photographs += [encounter] * int(stream.integers(1, LONGEST_ENCOUNTER + 1))
    return photographs[:images]
