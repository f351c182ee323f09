"""YAML files to keys and values: found, and read with their bases in the order of merging."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

from openanimals.config.strict_yaml import MOST_CHARACTERS, YamlError, parse
from openanimals.utils.errors import shown
from openanimals.utils.files import expanded
from openanimals.utils.registry import did_you_mean

logger = getLogger(__name__)

BASE_KEY = "_BASE_"
MOST_BASES = 100

SHIPPED = Path(__file__).parent.parent / "configs"
if not SHIPPED.is_dir():  # in a checkout they lie beside the package
    SHIPPED = SHIPPED.parent.parent / "configs"


Setting = tuple[str, str, Any] | str
"""Where it is set, a dotted key and its value; or a sentence on what is wrong there."""


def shipped() -> dict[str, str]:
    """Return the files that come with the package, each with the comment that says what it is."""
    names = {}
    for path in sorted(SHIPPED.rglob("*.yml")):
        opening, *_ = re.split(r"^[^#]", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        said = re.findall(r"^# (?!python |    )(.*)", opening, re.MULTILINE)
        names[path.relative_to(SHIPPED).as_posix()] = said[0] if said else ""
    return names


def read_file(
    path: str | Path,
    folder: Path = Path(),
    below: tuple[Path, ...] = (),
    read: list[Path] | None = None,
) -> list[Setting]:
    """Return the settings of a YAML file, those of its ``_BASE_`` files first.

    Args:
        path: the file; one that is not there is looked for among the shipped ones:
            ``configs/ARBase/demo.yml`` and ``ARBase/demo.yml`` name the same.
        folder: that a relative path starts from.
        below: the files that this one is a base of.
        read: all bases so far.
    """
    name, file = _shipped_name(Path(path)), folder / expanded(path)
    read = [] if read is None else read
    read.append(file)
    if len(read) > MOST_BASES:
        said = f"{[*below, file][0]}: its {BASE_KEY} leads to more than {MOST_BASES} files"
        return [said] * (len(read) == MOST_BASES + 1)  # once
    try:
        if not file.exists() and (SHIPPED / name).is_file():
            file = SHIPPED / name
            if not below:
                logger.info("%s is not here; the shipped one is taken: %s", path, file)
        real = Path(os.path.realpath(file))  # Path.resolve raises at links that lead to themselves
        if real in below:
            return [f"{file}: is its own {BASE_KEY}"]
        with file.open(encoding="utf-8") as opened:
            text = opened.read(MOST_CHARACTERS + 1)
    except FileNotFoundError as error:
        hint = did_you_mean(name, shipped()) or did_you_mean(Path(name).name, shipped())
        return [f"{file}: cannot be read ({error}){hint}"]
    except (OSError, ValueError, RuntimeError) as error:  # not UTF-8, or links in a circle
        return [f"{file}: cannot be read ({error})"]
    return read_text(text, str(file), (*below, real), read)


def read_text(
    text: str, where: str, files: tuple[Path, ...] = (), read: list[Path] | None = None
) -> list[Setting]:
    """Return the settings of YAML text.

    Args:
        text: keys and values.
        where: what the text is of.
        files: the file it is of, last, after those that it is a base of.
        read: all bases so far.
    """
    read = [] if read is None else read
    try:
        tree = parse(text)
    except YamlError as error:
        return [f"{where}: {error}"]
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        return [f"{where}: expected keys and values, found {type(tree).__name__}"]
    named = tree.pop(BASE_KEY, [])
    named = [named] if isinstance(named, str) else named
    if not isinstance(named, list) or not all(isinstance(base, str) for base in named):
        return [f"{where}: {BASE_KEY} must be a file or a list of files, not {shown(named)}"]
    if named and not files:
        return [f"{where}: {BASE_KEY} is for files; nothing else may have one read"]
    folder = files[-1].parent if files else Path()
    below = [setting for base in named for setting in read_file(base, folder, files, read)]
    return [*below, *((where, key, value) for key, value in leaves(tree))]


def read_overrides(overrides: Sequence[Any]) -> list[Setting]:
    """Return the settings of ``[KEY, VALUE, KEY, VALUE, ...]``."""
    where = "command line"
    misplaced = [str(key) for key in overrides[::2] if str(key).startswith("--")]
    if misplaced:
        return [f"{where}: {misplaced[0]} must stand before the KEY VALUE pairs"]
    stray = [str(key) for key in overrides[::2] if str(key).endswith((".pth", ".yml", ".yaml"))]
    if stray:
        return [
            f"{where}: {stray[0]} stands where a KEY is expected. Weights are MODEL.WEIGHTS FILE, "
            "a configuration is --config-file FILE; --resume takes no file: it goes on from the "
            "last checkpoint in OUTPUT_DIR"
        ]
    pairs = zip(map(str, overrides[::2]), overrides[1::2], strict=False)
    odd = overrides[-1:] if len(overrides) % 2 else []
    lacking = [f"{where}: {key!r} has no value (KEY VALUE pairs)" for key in odd]
    return [*lacking, *((where, key, value) for key, value in pairs)]


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each leaf of nested mappings."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shipped_name(path: Path) -> str:
    """Return what a file would be called among the shipped ones, also from a copy of one."""
    return re.sub(r"^(\.\./)*(configs/)?", "", path.as_posix())
