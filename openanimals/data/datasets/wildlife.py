"""Every species of wildlife-datasets, by its own parsers, as a :class:`Catalogue`.

Importing wildlife-datasets takes seconds and needs OpenCV with its system libraries, so a second
start reads the catalogue from a cache and imports neither. The cache is JSON, beside the data as
``<root>/.openanimals/<Class>.json``, or in the user's cache folder where the data is
write-protected, and holds as long as the data and the versions are the same.
"""

import ast
import contextlib
import hashlib
import importlib.util
import io
import json
import logging
import os
import re
import shlex
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd

from openanimals.data.catalogue import UNKNOWN, Catalogue, CatalogueError
from openanimals.data.datasets.folder import IMAGE_SUFFIXES
from openanimals.data.masks import is_shape, shape_text
from openanimals.utils.files import atomic_path
from openanimals.utils.machine import user_cache
from openanimals.utils.registry import did_you_mean

logger = logging.getLogger(__name__)

_REQUIREMENT = "wildlife-datasets>=1.0.8,<1.0.9"
_FORMAT = 5  # of our conversion; a change makes cached catalogues void

# What its classes call photographs taken together, the narrower name first.
_SEQUENCES = ("sequence", "sequence_id", "encounter", "encounter_id", "video")
# Where the name of a file tells photographs taken together. NyalaData numbers its encounters, most
# of which have both flanks of one animal at one spot (16_leftphoto.jpg, 16_rightphoto.jpg).
_SEQUENCE_IN_NAME = {"NyalaData": r"(\d+)_"}
# What they call the division of their publication; SealID's other one is of segmentation.
_DIVISIONS = ("original_split_reid", "original_split", "split")
_HALVES = {"train": "train", "database": "train", "test": "test", "query": "test"}

# What the sets of the paper were when its results were published (paper.md, section 4): images,
# individuals without `unknown`, and identity_digest where it is known.
_HYENAS = "6cc22f08eab71aead351874b90818ab6d4fcf90c72a167e091a5ff401dc5b9ba"
_SHARKS = "e1ce8eea234d37e2917718a828f0f4ffe6719547369dcd44519f70c53f59f78a"
PUBLISHED = {
    "HyenaID2022": (3129, 256, _HYENAS),
    "LeopardID2022": (6825, 430, ""),
    "SeaTurtleIDHeads": (7582, 400, ""),
    "WhaleSharkID": (7693, 543, _SHARKS),
}


def class_names() -> list[str]:
    """Return the names of all data sets of wildlife-datasets, read from its source, not imported.

    The list is empty if wildlife-datasets is not installed.
    """
    spec = importlib.util.find_spec("wildlife_datasets")
    if spec is None or spec.origin is None:
        return []
    source = Path(spec.origin).with_name("datasets") / "__init__.py"
    return sorted(
        alias.name
        for node in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        and node.module not in ("datasets", "downloads", "utils")  # base classes and helpers
        for alias in node.names
    )


def read(class_name: str, root: str | Path) -> Catalogue:
    """Read the catalogue of a species, from the cache if the data has not changed since.

    Rows stand in the order of wildlife-datasets (by image_id), `unknown` individuals included. The
    data is in ``<root>/<class_name>/``, laid out as the class says.

    Raises:
        CatalogueError: no such class, wildlife-datasets cannot be used, or there is no data, or
            only a part; the message says how to get it.
    """
    name, folder = f"Animals-{class_name}", Path(root) / class_name
    key = {"class": class_name, "version": _version_with(class_name), "format": _FORMAT}
    command = f"python tools/prepare_data.py {name} --root {shlex.quote(str(root))}"
    if not folder.is_dir() or not any(folder.iterdir()):
        raise CatalogueError(
            f"{name}: no data in {os.path.abspath(folder)}\n"
            f"  to get it:            {command}\n"
            f"  if it lies elsewhere: set DATASETS.ROOT, or the environment variable "
            f"REID_DATASETS, to the folder that holds {class_name}/"
        )
    key["data"] = _fingerprint(folder)
    catalogue = _cached(name, folder, key)
    if catalogue is None:
        cls = dataset_class(class_name)
        try:
            catalogue = scan(cls, folder)
        except CatalogueError as cause:
            raise CatalogueError(
                f"{cause}\n  to get it anew: move {os.path.abspath(folder)} away, then {command}"
            ) from cause
        _save(catalogue, key)
    _warn_if_not_published(class_name, catalogue)
    return catalogue


def scan(cls: Any, folder: Path) -> Catalogue:
    """Let a class parse a folder, past the cache, and check that all files are there.

    Raises:
        CatalogueError: the folder cannot be parsed, or files are missing.
    """
    name = f"Animals-{cls.__name__}"
    try:
        # Its own check refuses names outside Latin-1 and prints every missing file.
        with contextlib.redirect_stdout(io.StringIO()):
            frame = cls(str(folder), check_files=False).df
        table = to_table(frame, cls.unknown_name)
        if pattern := _SEQUENCE_IN_NAME.get(cls.__name__):
            numbers = [re.match(pattern, PurePath(path).name) for path in table["path"]]
            table["sequence"] = [number and number[1] for number in numbers]
        catalogue = Catalogue(name, folder, table, cameras_count=False)
    except Exception as cause:  # its parsers raise whatever a missing file or column leads to
        raise CatalogueError(
            f"{name}: wildlife-datasets cannot read {folder} ({type(cause).__name__}: {cause})"
        ) from cause
    files = [*catalogue.column("path"), *catalogue.table["mask"].dropna()]
    files = [file for file in files if not is_shape(file)]
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise CatalogueError(
            f"{name}: {len(missing)} of {len(files)} files are missing in {folder}, "
            f"for instance {missing[0]}"
        )
    return catalogue


def dataset_class(class_name: str) -> Any:
    """Import wildlife-datasets and return its class of that name.

    Raises:
        CatalogueError: there is no such class (with the closest name), it keeps no files, or
            wildlife-datasets cannot be imported (with the command that mends the installation).
    """
    _version_with(class_name)
    try:
        from wildlife_datasets import datasets
    except ImportError as cause:
        remedy = f"pip install --upgrade {_REQUIREMENT!r}"
        if "cannot open shared object file" in str(cause):  # OpenCV's windows want libGL
            remedy = "pip uninstall -y opencv-python && pip install opencv-python-headless"
        raise CatalogueError(
            f"Animals-{class_name}: wildlife-datasets cannot be imported ({cause}); try: {remedy}"
        ) from cause
    cls = getattr(datasets, class_name)
    if cls.saved_to_system_folder:
        raise CatalogueError(
            f"Animals-{class_name}: wildlife-datasets keeps its pictures in the cache of Hugging "
            "Face, not in files; save them as one folder for each individual and use folder:DIR"
        )
    return cls


def identity_digest(catalogue: Catalogue) -> str:
    """Return the SHA-256 of the identities in row order, one a line."""
    return hashlib.sha256("\n".join(catalogue.identities).encode()).hexdigest()


def _version_with(class_name: str) -> str:
    """Return the version of wildlife-datasets, which must be installed and have the class."""
    try:
        installed = version("wildlife-datasets")
    except PackageNotFoundError as cause:
        raise CatalogueError(
            "data sets named Animals-<Class> are read by wildlife-datasets, which is not "
            f"installed; try: pip install {_REQUIREMENT!r}"
        ) from cause
    known = class_names()
    if class_name not in known:
        hint = did_you_mean(class_name, known) or f"; it has {', '.join(known)}"
        raise CatalogueError(
            f"Animals-{class_name}: wildlife-datasets has no class {class_name!r}{hint}"
        )
    return installed


def _warn_if_not_published(class_name: str, catalogue: Catalogue) -> None:
    if class_name not in PUBLISHED:
        return
    images, individuals, digest = PUBLISHED[class_name]
    found = len(catalogue), len(set(catalogue.identities) - {UNKNOWN})
    if found != (images, individuals):
        difference = (
            f"{found[0]} images of {found[1]} individuals, where the published set has {images} "
            f"of {individuals}"
        )
    elif digest and digest != identity_digest(catalogue):
        difference = "the individuals of its rows are not those of the published set, in its order"
    else:
        return
    message = "%s: %s; its partition is another one, and its results do not compare"
    logger.warning(message, catalogue.name, difference)


def to_table(frame: pd.DataFrame, unknown_name: str) -> pd.DataFrame:
    """Return the columns of a Catalogue, rows in the order of the frame.

    Args:
        frame: of a class of wildlife-datasets.
        unknown_name: what the class calls individuals that nobody has named.
    """

    def column(*names: str) -> list:
        """Return the first of the columns that is there, as Python's own objects."""
        present = [frame[name].tolist() for name in names if name in frame]
        return present[0] if present else [None] * len(frame)

    names = [UNKNOWN if name == unknown_name else _label(name) for name in column("identity")]
    table: dict[str, list] = {
        "path": [_posix(value) for value in column("path")],
        "identity": [name or UNKNOWN for name in names],
        "bbox": [_bbox(value) for value in column("bbox")],
        "date": _dates(column("date")),
        "sequence": [_label(value) for value in column(*_SEQUENCES)],
        "viewpoint": column("orientation"),
        "species": [
            ", ".join(map(str, value)) if isinstance(value, list) else value
            for value in column("species")
        ],
        "mask": [_posix(value) or shape_text(value) for value in column("segmentation")],
        "split": _split(column(*_DIVISIONS)),
    }
    return pd.DataFrame(table, dtype=object)


def _split(division: list) -> list[str | None]:
    """Return the parts of a division into three; or its halves, leaving other rows in neither.

    One with other words beside the three leaves rows without a part, so it is no split.
    """
    if set(division) == {"train", "query", "gallery"}:
        return division
    halves = [_HALVES.get(value) if isinstance(value, str) else None for value in division]
    is_division = "gallery" not in division and {"train", "test"} <= set(halves)
    return halves if is_division else [None] * len(division)


def _posix(value: object) -> str | None:
    return PurePath(value).as_posix() if isinstance(value, str) else None


def _label(value: Any) -> str | None:
    """Return a name as text; 7 and 7.0 (integers in a column with gaps) are both "7"."""
    if pd.isna(value):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _bbox(value: Any) -> object:
    box = json.loads(value) if isinstance(value, str) else value
    # Classes that put four columns together give [NaN] * 4 where the table has empty cells: no box.
    return None if np.all(pd.isna(box)) else box


def _dates(values: list) -> list[str | None]:
    """Return dates of any kind as text. A column of moments that are all midnight knows only days.

    Args:
        values: text, dates of Python, numpy or pandas, or missing. What names no day is missing:
            a year or a month alone, a number (-1: the header of an image is unreadable).
    """
    no_day = re.compile(r"\d{4}(-\d\d?)?")
    moments: list[Any] = [
        pd.NaT
        if isinstance(value, int | float) or no_day.fullmatch(str(value))
        else pd.to_datetime(value, errors="coerce")
        for value in values
    ]
    known = [moment for moment in moments if not pd.isna(moment)]
    has_clock = any(moment != moment.normalize() for moment in known)
    dates: list[str | None] = []
    for value, moment in zip(values, moments, strict=True):
        is_day = not has_clock or (isinstance(value, str) and ":" not in value)
        length = 10 if is_day else 19  # without fraction and zone
        dates.append(None if pd.isna(moment) else moment.isoformat()[:length])
    return dates


def _fingerprint(folder: Path) -> str:
    """Return a hash of a folder's file names, and of size and time of what is not an image.

    Image files are not looked at one by one: that would cost more than it protects, since parsers
    do not depend on pixels. So a change of an image under its old name goes unseen.
    """
    digest = hashlib.sha256()
    for parent, folders, files in os.walk(folder):
        folders.sort()
        lines = [os.path.relpath(parent, folder)]
        for name in sorted(files):
            lines.append(name)
            if os.path.splitext(name)[1].lower() not in (*IMAGE_SUFFIXES, ".gif", ".heic"):
                status = os.lstat(os.path.join(parent, name))
                lines.append(f"{status.st_size} {status.st_mtime_ns}")
        digest.update("\0".join([*lines, ""]).encode(errors="surrogateescape"))
    return digest.hexdigest()


def _cached(name: str, folder: Path, key: dict) -> Catalogue | None:
    """Return the cached catalogue of a folder, or None if there is none under this key."""
    for file in _cache_files(folder):
        # Not there, or damaged.
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            cached = json.loads(file.read_text(encoding="utf-8"))
            if cached["key"] == key:
                table = pd.DataFrame(cached["table"], dtype=object)
                return Catalogue(name, folder, table, cameras_count=False)
    return None


def _save(catalogue: Catalogue, key: dict) -> None:
    """Cache a catalogue in the first place that can be written; warn if none can."""
    content = json.dumps({"key": key, "table": catalogue.table.to_dict("list")})
    for file in _cache_files(catalogue.root):
        with contextlib.suppress(OSError), atomic_path(file) as temporary:
            temporary.write_text(content, encoding="utf-8")
            return
    logger.warning("%s: its catalogue could not be cached", catalogue.name)


def _cache_files(folder: Path) -> list[Path]:
    """Return the files in which a folder's catalogue may be cached, the best first."""
    folder = folder.absolute()
    where = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    places = [user_cache() / "catalogues" / f"{folder.name}-{where}.json"]
    # The permission bits and not os.access, to which everything is writable for root.
    if folder.parent.stat().st_mode & 0o222:
        places.insert(0, folder.parent / ".openanimals" / f"{folder.name}.json")
    return places
