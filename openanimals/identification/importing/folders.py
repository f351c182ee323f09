"""Photographs from folders: one an individual, with or without viewpoints inside; or flat ones."""

import itertools
import os
import re
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

from openanimals.data.datasets.folder import IMAGE_SUFFIXES, walk
from openanimals.identification.importing.report import tell
from openanimals.utils.errors import UserError

WORDS = "left|right|front|back|rear|face|head|top|dorsal|ventral"
FILLING = {*("side", "sides", "flank", "view", "viewpoint", "profile", "photo", "photos", "image")}
FILLING |= {"images", "pictures", "facing"}
SHORT = {"l": "left", "r": "right", "lhs": "left", "rhs": "right"}
# Folders that cameras and people put photographs into, whoever is on them.
CONTAINER = re.compile(
    r"dcim|\d{3}[a-z0-9_]{5}|(all|my|new)?[ _-]*(photo|photograph|image|picture|pic|jpe?g)s?"
    r"|unsorted|sd[ _-]?card[ _-]?\d*|camera[ _-]?uploads"
)


def viewpoint_of(text: str) -> str | None:
    """Return the viewpoint that a folder's name, or a value in a table, means; None if none.

    ``left`` and ``right`` are known in any case, by a first letter alone, beside words such as
    side or flank, and with one letter left out, added, or two exchanged.

    Example:
        >>> [viewpoint_of(name) for name in ("RIght", "lft", "Left flank", "R", "Bright", "loft")]
        ['right', 'left', 'left', 'right', None, None]
    """
    words = [word for word in re.findall(r"[a-z]+", text.casefold()) if word not in FILLING]
    if len(words) != 1 or re.search(r"\d", text):
        joined = "".join(words)
        return joined if len(words) == 2 and re.fullmatch(f"({WORDS}){{2}}", joined) else None
    (word,) = words
    if re.fullmatch(f"({WORDS}){{1,2}}", word):
        return word
    near = [side for side in ("left", "right") if _is_slip(word, side)]
    return SHORT.get(word) or (near[0] if near else None)


def _is_slip(word: str, right: str) -> bool:
    """Tell whether a word is another with one letter less, one more, or two exchanged."""
    if word[0] != right[0]:
        return False
    shorter, longer = sorted((word, right), key=len)
    if len(shorter) == len(longer):
        wrong = [n for n, pair in enumerate(zip(word, right, strict=True)) if len({*pair}) == 2]
        return len(wrong) == 2 and sorted(word) == sorted(right)
    return any(longer[:n] + longer[n + 1 :] == shorter for n in range(len(longer)))


def read_folder(root: Path, flat: bool, report: list[str]) -> list[dict[str, Any]]:
    """Return a row for each photograph below a folder.

    Args:
        root: a folder.
        flat: whether the names of folders are no individuals.
        report: what was guessed is added to it.

    Returns:
        Rows with ``path`` and, where folders say them, ``identity`` and ``viewpoint``.

    Raises:
        UserError: there is no photograph.
    """
    images, others, again, system = walk(root)
    kinds = Counter(PurePosixPath(file).suffix.lower() or "no suffix" for file in others)
    counts = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common(5))
    if not images:
        raise UserError(
            f"{root}: no photograph in it{counts and f', only other files ({counts})'}; expected "
            f"files {' '.join(IMAGE_SUFFIXES)}"
        )
    tell(report, others, "skipped, files that are no photographs", counts)
    tell(report, again, "skipped, folders that links reach a second time")
    tell(report, system, "skipped, junk folders of systems")
    folders = _inside_containers([PurePosixPath(path).parts[:-1] for path in images], report)
    tops = {parts[0] for parts in folders if parts}
    # L and R may be individuals, too, beside K and M.
    viewpoints_first = bool(tops) and all(map(viewpoint_of, tops))
    spelt: dict[str, Counter[str]] = defaultdict(Counter)
    rows: list[dict[str, Any]] = []
    for path, parts in zip(images, folders, strict=True):
        views = [part for part in parts[not viewpoints_first :] if viewpoint_of(part)]
        names = [part for part in parts if part not in views]
        viewpoint = viewpoint_of(views[-1]) if views else None
        if viewpoint:
            spelt[viewpoint][views[-1]] += 1
        identity = names[0] if names and not flat else None
        rows.append({"path": path, "identity": identity, "viewpoint": viewpoint})
    for viewpoint, by_name in sorted(spelt.items()):
        folder_names = ", ".join(f"{name} ({count})" for name, count in by_name.items())
        report.append(f"viewpoint {viewpoint} from folders {folder_names}")
    _tell_individuals(rows, folders, flat, report)
    return rows


def _inside_containers(folders: list[tuple[str, ...]], report: list[str]) -> list[tuple[str, ...]]:
    """Leave off the folders that hold all photographs but are no individual."""
    common = len(os.path.commonprefix(folders))
    inside = {parts[common:][:1] for parts in folders}
    # Below an individual are its photographs, viewpoints, or one folder more.
    branches = len({parts for parts in inside if parts and not viewpoint_of(parts[0])})
    if branches < 2 or () in inside:
        above = itertools.takewhile(lambda part: CONTAINER.fullmatch(part.casefold()), folders[0])
        common = min(common, len([*above]))
    if common:
        name = "/".join(folders[0][:common])
        report.append(f"the folder {name}, in which all photographs are, is no individual's")
    return [parts[common:] for parts in folders]


def _tell_individuals(
    rows: list[dict[str, Any]], folders: list[tuple[str, ...]], flat: bool, report: list[str]
) -> None:
    """Say what the folders were taken for; folders of cameras are no individuals after all."""
    names = {row["identity"] for row in rows if row["identity"]}
    if names and all(CONTAINER.fullmatch(name.casefold()) for name in names):
        tell(report, sorted(names), "taken for a camera's folders, not for individuals")
        for row in rows:
            row["identity"] = None
    elif names:
        loose = [row["path"] for row in rows if not row["identity"]]
        number = len(rows) - len(loose)
        report.append(
            f"{number} photographs in {len(names)} folders, each taken for one individual"
        )
        tell(report, loose, "to be identified, photographs in no individual's folder")
        inner = {parts[:2] for parts in folders if len(parts) > 1 and not viewpoint_of(parts[1])}
        if len(inner) > len(names):
            report.append(f"folders inside those, not taken for individuals: {len(inner)}")
        return
    how = "the names of folders are not used" if flat else "a flat folder"
    report.append(f"{len(rows)} photographs, {how}: no folder says who they show")
