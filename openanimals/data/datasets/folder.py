"""``folder:DIR``: photographs in one sub-folder for each individual."""

import logging
import os
from collections import Counter
from pathlib import Path

import pandas as pd

from openanimals.data.catalogue import Catalogue, CatalogueError
from openanimals.utils.files import expanded

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Where storage servers and systems keep thumbnails and what was deleted.
SYSTEM_FOLDERS = {
    *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "$recycle.bin"),
    *("recycler", "system volume information", "lost+found", "__macosx", "temporary items"),
}


def read(folder: str | Path) -> Catalogue:
    """List the photographs below a folder that has one sub-folder for each individual.

    The identity is the name of the sub-folder; folders inside it belong to the same individual.
    Rows are in code-point order of the POSIX path relative to ``folder``. Links to folders are
    followed. Hidden files and folders (``.name``) are skipped; so are, with a warning that counts
    them, files that are not images, images that lie beside the sub-folders, folders that a link
    reaches a second time, and those of systems (``@eaDir``, ``$RECYCLE.BIN``).

    Args:
        folder: the folder, absolute or relative to the working directory; ``~`` is the home.

    Returns:
        A catalogue called ``folder:<folder>``, its root the folder; path and identity are filled.

    Raises:
        CatalogueError: the folder is missing, holds no image or a folder that cannot be listed,
            or lies a level above or below the one that has a sub-folder for each individual.
    """
    name = f"folder:{folder}"
    root = expanded(folder)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise CatalogueError(
            f"{name}: {root.absolute()} {what}; expected a folder with one sub-folder of images "
            "for each individual"
        )
    images, others, again, system = walk(root)
    loose = [path for path in images if "/" not in path]
    paths = [path for path in images if "/" in path]
    kinds = Counter(Path(file).suffix.lower() or "no suffix" for file in others).most_common(5)
    suffixes = ", ".join(f"{suffix} {count}" for suffix, count in kinds)
    if loose and not paths:
        raise CatalogueError(
            f"{name}: the {len(loose)} images of {root.absolute()} lie in no sub-folder, so "
            "nothing says who they show; expected one sub-folder for each individual, or a table "
            "(csv:FILE) with the columns path and identity (if this folder is one individual, name "
            f"the folder above it: folder:{os.path.normpath(root / '..')})"
        )
    if not paths:
        found = f"only {len(others)} other files ({suffixes})" if others else "no file"
        raise CatalogueError(
            f"{name}: no image in {root.absolute()}, {found}; expected one sub-folder for each "
            f"individual with files {' '.join(IMAGE_SUFFIXES)}"
        )
    identities = [path.split("/", 1)[0] for path in paths]
    _check_level(name, paths, set(identities))
    for skipped, what, example in (
        (
            loose,
            "images that lie in no individual's sub-folder",
            f", for instance {''.join(loose[:1])}",
        ),
        (others, "files that are not images", f" ({suffixes})"),
        (again, "folders that links reach a second time", f", for instance {''.join(again[:1])}"),
        (system, "folders of a system", f", for instance {''.join(system[:1])}"),
    ):
        if skipped:
            logger.warning("%s: skipped %d %s%s", name, len(skipped), what, example)
    table = pd.DataFrame({"path": paths, "identity": identities}, dtype=object)
    return Catalogue(name, root, table, cameras_count=False)


def walk(root: Path) -> tuple[list[str], list[str], list[str], list[str]]:
    """Return images, other files, folders met again and of systems, as POSIX paths below root.

    Each is in code-point order. No folder is listed twice, else its photographs would be two
    rows, perhaps of two individuals. Links wait until all else is listed, so that a photograph
    has the path, and the individual, of the folder that it really lies in.
    """
    images: list[str] = []
    others: list[str] = []
    again: list[str] = []
    system: list[str] = []
    listed: set[str] = set()
    starts = [root]
    for start in starts:  # grows by the links that are found
        for parent, folders, files in os.walk(start, onerror=_refuse):
            inside = Path(parent).relative_to(root)
            real = os.path.realpath(parent)
            if Path(parent).name.casefold() in SYSTEM_FOLDERS and inside.parts:
                system.append(inside.as_posix())
                folders.clear()
                continue
            if real in listed or (inside.parts and _leads_back(Path(parent))):
                again.append(inside.as_posix())
                folders.clear()
                continue
            listed.add(real)
            folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
            starts += [
                Path(parent, folder) for folder in folders if Path(parent, folder).is_symlink()
            ]
            for file in files:
                if not file.startswith("."):
                    is_image = Path(file).suffix.lower() in IMAGE_SUFFIXES
                    (images if is_image else others).append((inside / file).as_posix())
    return sorted(images), sorted(others), sorted(again), sorted(system)


def _refuse(error: OSError) -> None:
    """Stop at an unreadable folder, which ``os.walk`` would pass over in silence."""
    raise CatalogueError(f"cannot list {error.filename}: {error.strerror}") from error


def _leads_back(folder: Path) -> bool:
    """Tell whether a folder is a link to one that it lies in, perhaps far above the root."""
    above = Path(os.path.realpath(folder.parent))
    return folder.is_symlink() and above.is_relative_to(os.path.realpath(folder))


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
