"""The person data sets Market1501, DukeMTMC and MSMT17, in the layouts of their archives.

They come with a split and with cameras, which the animals' protocol ignores and theirs uses.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from openanimals.data.catalogue import Catalogue, CatalogueError
from openanimals.data.datasets.folder import IMAGE_SUFFIXES

SPLIT_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
MSMT_LISTS = {
    "list_train.txt": "train",
    "list_val.txt": "train",  # the benchmark trains on both: 32,621 images of 1,041 people
    "list_query.txt": "query",
    "list_gallery.txt": "gallery",
}
MSMT_FOLDERS = {"MSMT17_V2": "mask_{}_v2", "MSMT17_V1": "{}"}  # {} is train or test
JUNK = "-1"  # Market1501's detections of no one in particular; not to be ranked at all


def three_folders(name: str, folders: Sequence[str], root: Path) -> Catalogue:
    """Read the layout that Market1501 introduced: a folder each for train, query and gallery.

    Files are called ``<identity>_c<camera>...``. Junk (identity -1) is dropped; Market1501's
    distractors (identity 0000) stay in the gallery.

    Args:
        name: of the data set.
        folders: what its folder below the root may be called.
        root: the data root.

    Raises:
        CatalogueError: a folder is missing, or an image is called otherwise.
    """
    base = _find(name, root, folders)
    rows: list[tuple] = []
    for split, folder in SPLIT_FOLDERS.items():
        if not (base / folder).is_dir():
            raise CatalogueError(f"{name}: no folder {(base / folder).absolute()}")
        files = (base / folder).iterdir()
        images = [path.name for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
        for file in sorted(images):
            match = re.match(r"(-1|\d+)_c(\d+)", file)
            if match is None:
                raise CatalogueError(
                    f"{name}: {folder}/{file} should be called <identity>_c<camera>..., "
                    "like 0002_c1s1_000451_03.jpg or 0001_c2_f0046182.jpg"
                )
            if match[1] != JUNK:
                rows.append((f"{folder}/{file}", match[1], match[2], split))
    return _catalogue(name, base, rows)


def msmt17(root: Path) -> Catalogue:
    """Read MSMT17 from ``root/MSMT17_V2`` (or ``root/MSMT17_V1``).

    The lists name an image and its label on each line; the camera is the third field of the file
    name. Training and test labels both start from 0 but are different people, so the identities
    are called ``train-<label>`` and ``test-<label>``.

    Raises:
        CatalogueError: a list is missing or empty, or a line or file name is not as described.
    """
    base = _find("MSMT17", root, list(MSMT_FOLDERS))
    rows: list[tuple] = []
    for file, split in MSMT_LISTS.items():
        part = "train" if split == "train" else "test"
        folder = MSMT_FOLDERS[base.name].format(part)
        if not (base / file).is_file():
            raise CatalogueError(f"MSMT17: no list {(base / file).absolute()}")
        text = (base / file).read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), start=1):
            match = re.fullmatch(r"(\S+/\d+_\d+_(\d+)_\S+) (\d+)", line.strip())
            if match is None:
                raise CatalogueError(
                    f"MSMT17: {file}, line {number} is {line!r}; expected a path and a label like "
                    "'0000/0000_000_01_0303morning_0015_1.jpg 0'"
                )
            path, camera, label = match.groups()
            rows.append((f"{folder}/{path}", f"{part}-{label}", camera, split))
    return _catalogue("MSMT17", base, rows)


def _find(name: str, root: Path, folders: Sequence[str]) -> Path:
    """Return the first of the folders that exists below the root."""
    for folder in folders:
        if (root / folder).is_dir():
            return root / folder
    places = " and ".join(str((root / folder).absolute()) for folder in folders)
    raise CatalogueError(
        f"{name}: not found; looked for {places}. Unpack the archive that its authors hand out "
        f"there, or set DATASETS.ROOT to the folder that has {folders[0]}"
    )


def _catalogue(name: str, base: Path, rows: list[tuple]) -> Catalogue:
    columns = ["path", "identity", "camera", "split"]
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    for split in SPLIT_FOLDERS:
        if split not in table["split"].values:
            raise CatalogueError(f"{name}: {base.absolute()} has no {split} image")
    return Catalogue(name, base, table)
