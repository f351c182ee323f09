"""Every species of wildlife-datasets, by its own parsers, as a :class:`Catalogue`.

Importing wildlife-datasets takes seconds and needs OpenCV with its system libraries, so a second
start reads the cached catalogue and imports neither.
"""

import ast
import contextlib
import hashlib
import importlib.util
import io
import logging
import os
import shlex
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from openanimals.data.catalogue import UNKNOWN, Catalogue, CatalogueError
from openanimals.data.masks import is_shape
from openanimals.data.datasets import catalogue_cache
from openanimals.data.datasets.wildlife_frame import to_table
from openanimals.utils.registry import did_you_mean

logger = logging.getLogger(__name__)

_REQUIREMENT = "wildlife-datasets>=1.0.7,<1.0.9"
_FORMAT = 3  # of our conversion; a change makes cached catalogues void


class MissingDataError(CatalogueError):
    """The data of a species is not on this machine, or not all of it."""


class Published(NamedTuple):
    """What the catalogue of a species was when its results were published."""

    images: int
    individuals: int  # without `unknown`
    digest: str = ""  # identity_digest, where it is known


# paper.md, section 4.
PUBLISHED = {
    "HyenaID2022": Published(
        3129, 256, "6cc22f08eab71aead351874b90818ab6d4fcf90c72a167e091a5ff401dc5b9ba"
    ),
    "LeopardID2022": Published(6825, 430),
    "SeaTurtleIDHeads": Published(7582, 400),
    "WhaleSharkID": Published(
        7693, 543, "e1ce8eea234d37e2917718a828f0f4ffe6719547369dcd44519f70c53f59f78a"
    ),
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

    Rows stand in the order of wildlife-datasets (by image_id), `unknown` individuals included.

    Args:
        class_name: a class of ``wildlife_datasets.datasets``, for instance ``HyenaID2022``.
        root: the data root; the data is in ``<root>/<class_name>/``, laid out as the class says.

    Raises:
        MissingDataError: there is no data, or only a part; the message says how to get it.
        CatalogueError: no such class, or wildlife-datasets cannot be used.
    """
    name, folder = f"Animals-{class_name}", Path(root) / class_name
    key = {"class": class_name, "version": _installed_version(), "format": _FORMAT}
    _check_name(class_name)
    command = f"python tools/prepare_data.py {name} --root {shlex.quote(str(root))}"
    if not folder.is_dir() or not any(folder.iterdir()):
        raise MissingDataError(
            f"{name}: no data in {os.path.abspath(folder)}\n"
            f"  to get it:            {command}\n"
            f"  if it lies elsewhere: set DATASETS.ROOT, or the environment variable "
            f"REID_DATASETS, to the folder that holds {class_name}/"
        )
    key["data"] = catalogue_cache.fingerprint(folder)
    catalogue = catalogue_cache.load(name, folder, key)
    if catalogue is None:
        try:
            catalogue = scan(class_name, folder)
        except MissingDataError as cause:
            raise MissingDataError(
                f"{cause}\n  to get it anew: move {os.path.abspath(folder)} away, then {command}"
            ) from cause
        catalogue_cache.save(catalogue, key)
    _warn_if_not_published(class_name, catalogue)
    return catalogue


def scan(class_name: str, folder: Path) -> Catalogue:
    """Let wildlife-datasets parse a folder, past the cache, and check that all files are there.

    Raises:
        MissingDataError: the folder cannot be parsed, or files are missing.
        CatalogueError: no such class, or wildlife-datasets cannot be used.
    """
    name = f"Animals-{class_name}"
    cls = dataset_class(class_name)
    try:
        # Its own check refuses names outside Latin-1 and prints every missing file.
        with contextlib.redirect_stdout(io.StringIO()):
            frame = cls(str(folder), check_files=False).df
        catalogue = Catalogue(
            name, folder, to_table(frame, cls.unknown_name), cameras_count=False
        )
    except Exception as cause:  # its parsers raise whatever a missing file or column leads to
        raise MissingDataError(
            f"{name}: wildlife-datasets cannot read {folder} ({type(cause).__name__}: {cause})"
        ) from cause
    files = [
        file
        for kind in ("path", "mask")
        for file in catalogue.column(kind)
        if file is not None and not is_shape(file)
    ]
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise MissingDataError(
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
    _installed_version()
    _check_name(class_name)
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


def _installed_version() -> str:
    try:
        return version("wildlife-datasets")
    except PackageNotFoundError as cause:
        raise CatalogueError(
            "data sets named Animals-<Class> are read by wildlife-datasets, which is not "
            f"installed; try: pip install {_REQUIREMENT!r}"
        ) from cause


def _check_name(class_name: str) -> None:
    known = class_names()
    if class_name not in known:
        hint = did_you_mean(class_name, known) or f"; it has {', '.join(known)}"
        raise CatalogueError(
            f"Animals-{class_name}: wildlife-datasets has no class {class_name!r}{hint}"
        )


def _warn_if_not_published(class_name: str, catalogue: Catalogue) -> None:
    published = PUBLISHED.get(class_name)
    if published is None:
        return
    individuals = len(set(catalogue.identities) - {UNKNOWN})
    if (len(catalogue), individuals) != (published.images, published.individuals):
        difference = (
            f"{len(catalogue)} images of {individuals} individuals, where the published set has "
            f"{published.images} of {published.individuals}"
        )
    elif published.digest and published.digest != identity_digest(catalogue):
        difference = "the individuals of its rows are not those of the published set, in its order"
    else:
        return
    logger.warning(
        "%s: %s; its partition is another one, and its results do not compare",
        catalogue.name,
        difference,
    )
