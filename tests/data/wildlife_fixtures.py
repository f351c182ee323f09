"""Tiny species in the layouts that the real classes of wildlife-datasets parse.

Each function writes ``<root>/<Class>/`` and returns that folder. Individuals have coats of their
own (two colours in a coarse pattern), so a network can learn to tell them apart.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

DAYS = 28  # images are dated day by day, from the first of a month


def coat(identity: int, image: int, pixels: int) -> Image.Image:
    """Draw an individual: its pattern and colours, shifted and lit anew in each image."""
    individual = np.random.default_rng([identity, 0])
    photograph = np.random.default_rng([identity, 1 + image])
    pattern = individual.integers(0, 2, (5, 5, 1))
    colours = individual.integers(0, 256, (2, 3))
    small = np.where(pattern, colours[0], colours[1]).astype(np.uint8)
    large = Image.fromarray(small).resize((pixels, pixels), Image.Resampling.NEAREST)
    shifted = np.roll(np.asarray(large, np.float32), photograph.integers(-3, 4, 2), (0, 1))
    noisy = shifted * photograph.uniform(0.8, 1.2) + photograph.normal(0, 8, shifted.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def make_seaturtle(root, identities=6, images=5, pixels=48) -> Path:
    """Write SeaTurtleIDHeads."""
    folder = Path(root) / "SeaTurtleIDHeads"
    annotations, pictures = [], []
    for number, (identity, image) in enumerate(_pairs(identities, images)):
        name, path = f"t{identity:03d}", f"photos/t{identity:03d}_{image}.jpg"
        file = folder / "images" / name / Path(path).name
        _save(coat(identity, image, pixels), file)
        side = ("left", "right", "top")[image % 3]
        annotations.append(
            {"id": number, "image_id": 1000 + number, "identity": name, "position": side}
        )
        date = f"2016:07:{1 + image % DAYS:02d}T10:00:00"
        pictures.append({"id": 1000 + number, "path": path, "date": date})
    _dump({"annotations": annotations, "images": pictures}, folder / "annotations.json")
    return folder


def make_nyala(root, identities=6, images=5, pixels=48) -> Path:
    """Write NyalaData: whole numbers as names, and half of the individuals in its test folder."""
    folder = Path(root) / "NyalaData"
    for identity, image in _pairs(identities, images):
        split, side = ("train", "test")[identity % 2], ("left", "right")[image % 2]
        place = folder / "wildlife_reidentification-main/Nyala_Data_Zero" / split / str(identity)
        _save(
            coat(identity, image, pixels), place / f"{10 * identity + image // 2}_{side}photo.jpg"
        )
    return folder


def _make_wildme(
    class_name, prefix, year, root, identities=6, images=5, pixels=48, unknown=0
) -> Path:
    """Write a species in the COCO layout of Wild Me: a box as a polygon, the animal in it.

    `unknown` adds images of nobody known.
    """
    folder = Path(root) / class_name
    animals = [(i, k, f"{prefix}-{i:02d}") for i, k in _pairs(identities, images)]
    animals += [(identities + k, 0, "____") for k in range(unknown)]
    pictures, annotations = [], []
    margin = pixels // 4
    for number, (identity, image, name) in enumerate(animals):
        scene = Image.new("RGB", (pixels + 2 * margin, pixels + 2 * margin), (90, 110, 70))
        scene.paste(coat(identity, image, pixels), (margin, margin))
        file_name = f"{number:012d}.jpg"
        _save(scene, folder / f"{prefix}.coco/images/train{year}/{file_name}")
        date = "NA" if image == 0 else f"2021-05-{1 + image % DAYS:02d} 12:00:00"
        pictures.append({"id": 500 + number, "file_name": file_name, "date_captured": date})
        low, high = margin, margin + pixels
        annotations.append(
            {
                "image_id": 500 + number,
                "category_id": 1,
                "name": name,
                "viewpoint": ("left", "right")[image % 2],
                "segmentation": [[low, low, high, low, high, high, low, high, low, low]],
            }
        )
    category = {"id": 1, "name": prefix, "supercategory": "animal"}
    content = {"categories": [category], "images": pictures, "annotations": annotations}
    _dump(content, folder / f"{prefix}.coco/annotations/instances_train{year}.json")
    return folder


make_hyena = partial(_make_wildme, "HyenaID2022", "hyena", 2022)
make_leopard = partial(_make_wildme, "LeopardID2022", "leopard", 2022)
make_whaleshark = partial(_make_wildme, "WhaleSharkID", "whaleshark", 2020)


def _pairs(identities, images) -> list[tuple[int, int]]:
    return [(identity, image) for identity in range(identities) for image in range(images)]


def _save(picture: Image.Image, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file, quality=92)


def _dump(content: dict, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
