"""YAML files to keys and values: found, and read with their bases in the order of merging."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from openanimals.utils.registry import did_you_mean

BASE_KEY = "_BASE_"

SHIPPED = Path(__file__).parent.parent / "configs"
if not SHIPPED.is_dir():  # in a checkout they lie beside the package
    SHIPPED = SHIPPED.parent.parent / "configs"


class Layer(NamedTuple):
    """What one file, or the command line, says: dotted keys and values, and what is wrong in it."""

    where: str
    values: Sequence[tuple[str, Any]] = ()
    problems: Sequence[str] = ()


def shipped() -> dict[str, str]:
    """Return the files that come with the package, each with the comment that says what it is."""
    names = {}
    for path in sorted(SHIPPED.rglob("*.yml")):
        opening, *_ = re.split(r"^[^#]", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        said = re.findall(r"^# (?!python |    )(.*)", opening, re.MULTILINE)
        names[path.relative_to(SHIPPED).as_posix()] = said[0] if said else ""
    return names


def find(path: str | Path, folder: Path = Path()) -> Path:
    """Return where a file is that is named in a folder: there or, if not, among the shipped ones.

    ``configs/ARBase/demo.yml`` and ``ARBase/demo.yml`` name the same shipped file.
    """
    path = Path(path).expanduser()
    ours = SHIPPED / _shipped_name(path)
    return ours if not (folder / path).exists() and ours.is_file() else folder / path


def read_file(path: str | Path, folder: Path = Path(), below: tuple[Path, ...] = ()) -> list[Layer]:
    """Return the layers of a YAML file, those of its ``_BASE_`` files first.

    Args:
        path: the file; one that is not there is looked for among the shipped ones.
        folder: that a relative path starts from.
        below: the files that this one is a base of.
    """
    file = folder / Path(path).expanduser()
    try:
        file = find(path, folder)
        if file.resolve() in below:
            return [_wrong(str(file), f"is its own {BASE_KEY}")]
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        name = _shipped_name(Path(path))
        hint = did_you_mean(name, shipped()) or did_you_mean(Path(name).name, shipped())
        return [_wrong(str(file), f"cannot be read ({error}){hint}")]
    except (OSError, ValueError) as error:  # UnicodeDecodeError among them
        return [_wrong(str(file), f"cannot be read ({error})")]
    return read_text(text, str(file), (*below, file.resolve()))


def read_text(text: str, where: str, files: tuple[Path, ...] = ()) -> list[Layer]:
    """Return the layers of YAML text.

    Args:
        text: keys and values.
        where: what the text is of.
        files: the file it is of, last, after those that it is a base of.
    """
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        return [_wrong(where, f"is not YAML: {' '.join(str(error).split())}")]
    if not isinstance(tree, dict):
        return [_wrong(where, f"expected keys and values, found {type(tree).__name__}")]
    bases = tree.pop(BASE_KEY, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        return [_wrong(where, f"{BASE_KEY} must be a file or a list of files, not {bases!r}")]
    folder = files[-1].parent if files else Path()
    layers = [layer for base in bases for layer in read_file(base, folder, files)]
    return [*layers, Layer(where, list(leaves(tree)))]


def read_overrides(overrides: Sequence[Any]) -> Layer:
    """Return the layer of ``[KEY, VALUE, KEY, VALUE, ...]``."""
    where = "command line"
    misplaced = [str(key) for key in overrides[::2] if str(key).startswith("--")]
    if misplaced:
        return _wrong(where, f"{misplaced[0]} must stand before the KEY VALUE pairs")
    pairs = list(zip(map(str, overrides[::2]), overrides[1::2], strict=False))
    if len(overrides) % 2:
        return _wrong(where, f"{overrides[-1]!r} has no value (KEY VALUE pairs)", pairs)
    return Layer(where, pairs)


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each leaf of nested mappings."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _wrong(where: str, problem: str, values: Sequence[tuple[str, Any]] = ()) -> Layer:
    return Layer(where, values, [f"{where}: {problem}"])


def _shipped_name(path: Path) -> str:
    """Return what a file would be called among the shipped ones, also from a copy of one."""
    return re.sub(r"^(\.\./)*(configs/)?", "", path.as_posix())
