"""``folder:DIR``: photographs in one sub-folder for each individual."""

import logging
import os
from collections import Counter
from pathlib import Path

import pandas as pd

from openanimals.data.catalogue import Catalogue, CatalogueError
from openanimals.data.sources.dates import dates_from_names

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def read(folder: str | Path, date_pattern: str = "") -> Catalogue:
    """List the photographs below a folder that has one sub-folder for each individual.

    The identity is the name of the sub-folder; folders inside it belong to the same individual.
    Rows are in code-point order of the POSIX path relative to ``folder``. Hidden files and
    folders (``.name``) are skipped; so are, with a warning that counts them, files that are not
    images and images that lie beside the sub-folders.

    Args:
        folder: the folder, absolute or relative to the working directory; ``~`` is the home.
        date_pattern: regular expression that finds dates in file names, see
            :func:`openanimals.data.sources.dates.dates_from_names`; empty: no dates.

    Returns:
        A catalogue called ``folder:<folder>``, its root the folder; path, identity and, with a
        pattern, date are filled.

    Raises:
        CatalogueError: the folder is missing, holds no image or a folder that cannot be listed,
            or lies a level above or below the one that has a sub-folder for each individual.
        ValueError: the pattern is wrong.
    """
    name = f"folder:{folder}"
    root = Path(folder).expanduser()
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise CatalogueError(
            f"{name}: {root.absolute()} {what}; expected a folder with one sub-folder of images "
            "for each individual"
        )
    images, others = _walk(root)
    loose = [path for path in images if "/" not in path]
    paths = [path for path in images if "/" in path]
    if not paths:
        raise CatalogueError(f"{name}: {_why_nothing(root, loose, others)}")
    identities = [path.split("/", 1)[0] for path in paths]
    _check_level(name, paths, set(identities))
    _warn_of_skipped(name, loose, others)
    dates = dates_from_names(name, paths, date_pattern)
    table = pd.DataFrame({"path": paths, "identity": identities, "date": dates}, dtype=object)
    return Catalogue(name, root, table)


def _walk(root: Path) -> tuple[list[str], list[str]]:
    """Return the images and the other files below root, POSIX paths in code-point order."""
    images: list[str] = []
    others: list[str] = []
    for parent, folders, files in os.walk(root, onerror=_refuse, followlinks=True):
        folders[:] = [
            folder
            for folder in folders
            if not folder.startswith(".") and not _leads_back(parent, folder)
        ]
        inside = Path(parent).relative_to(root)
        for file in files:
            if not file.startswith("."):
                is_image = Path(file).suffix.lower() in IMAGE_SUFFIXES
                (images if is_image else others).append((inside / file).as_posix())
    return sorted(images), sorted(others)


def _refuse(error: OSError) -> None:
    """Stop at an unreadable folder, which ``os.walk`` would pass over in silence."""
    raise CatalogueError(f"cannot list {error.filename}: {error.strerror}") from error


def _leads_back(parent: str, folder: str) -> bool:
    """Tell whether a folder is a link to one that it lies in, which would repeat its images."""
    link = Path(parent, folder)
    return link.is_symlink() and Path(parent).resolve().is_relative_to(link.resolve())


def _why_nothing(root: Path, loose: list[str], others: list[str]) -> str:
    """Say why no individual was found, and what to do."""
    if loose:
        parent = os.path.normpath(root / "..")
        return (
            f"the {len(loose)} images of {root.absolute()} lie in no sub-folder; expected one "
            f"sub-folder for each individual (if this folder is one individual, name the folder "
            f"above it: folder:{parent})"
        )
    found = f"only {len(others)} other files ({_suffixes(others)})" if others else "no file"
    return (
        f"no image in {root.absolute()}, {found}; expected one sub-folder for each individual "
        f"with files {' '.join(IMAGE_SUFFIXES)}"
    )


def _check_level(name: str, paths: list[str], individuals: set[str]) -> None:
    """Refuse a folder one level too high; warn where it might be."""
    if any(path.count("/") == 1 for path in paths):
        return
    inner = {tuple(path.split("/")[:2]) for path in paths}
    if len(individuals) == 1 and len(inner) > 1:
        (only,) = individuals
        raise CatalogueError(
            f"{name}: its only sub-folder {only!r} holds no image itself but {len(inner)} "
            f"sub-folders of images; if those are the individuals, name {name}/{only}"
        )
    if len(inner) > len(individuals):
        logger.warning(
            "%s: images lie two or more levels deep; each of the %d top folders is taken as one "
            "individual, not each of the %d folders inside them",
            name,
            len(individuals),
            len(inner),
        )


def _warn_of_skipped(name: str, loose: list[str], others: list[str]) -> None:
    if loose:
        logger.warning(
            "%s: skipped %d images that lie in no individual's sub-folder, for instance %s",
            name,
            len(loose),
            loose[0],
        )
    if others:
        logger.warning(
            "%s: skipped %d files that are not images (%s)", name, len(others), _suffixes(others)
        )


def _suffixes(files: list[str]) -> str:
    """Return ``.heic 12, .txt 1`` for the five commonest suffixes."""
    counts = Counter(Path(file).suffix.lower() or "no suffix" for file in files)
    return ", ".join(f"{suffix} {count}" for suffix, count in counts.most_common(5))
