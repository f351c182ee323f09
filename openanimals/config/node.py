"""CfgNode: yacs with base files, all mistakes at once, and the closest right key."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode as YacsNode

from openanimals.utils.errors import UserError
from openanimals.utils.registry import did_you_mean

BASE_KEY = "_BASE_"


class ConfigError(UserError):
    """Everything that is wrong with a configuration.

    Attributes:
        problems: one sentence a mistake.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        super().__init__("\n  - ".join([f"{count} in the configuration:", *problems]))

    @classmethod
    def raise_for(cls, problems: Sequence[str]) -> None:
        """Raise it if there is any problem."""
        if problems:
            raise cls(problems)


class CfgNode(YacsNode):
    """The tree of keys. Merging lists every mistake of a file or of the overrides in one error."""

    def refuse(self, keys: Mapping[str, tuple[Any, str]]) -> None:
        """Accept these dotted keys when merging, at one value only; keep none of them.

        Args:
            keys: for each key, the value that it may be set to, and why to no other.
        """
        self.__dict__["_refused"] = dict(keys)

    def merge_from_file(self, cfg_filename: str | Path) -> None:
        """Merge a YAML file, its ``_BASE_`` files (one or a list, relative to it) first.

        Raises:
            ConfigError: a file is missing or not YAML, or has unknown keys or wrong types.
        """
        ConfigError.raise_for(self.try_file(Path(cfg_filename)))

    def merge_from_list(self, cfg_list: Sequence[Any]) -> None:
        """Merge ``[KEY, VALUE, KEY, VALUE, ...]``; values may be text as typed in a shell.

        Raises:
            ConfigError: a key without a value, unknown keys or wrong types.
        """
        ConfigError.raise_for(self.try_list(cfg_list))

    def try_file(self, path: Path, below: tuple[Path, ...] = ()) -> list[str]:
        """Merge what can be merged of a file and its bases; return what is wrong."""
        path = path.expanduser()
        if path.resolve() in below:
            return [f"{path}: is its own {BASE_KEY}"]
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            return [f"{path}: cannot be read ({error})"]
        return self.try_text(text, str(path), (*below, path.resolve()))

    def try_text(self, text: str, where: str, files: tuple[Path, ...] = ()) -> list[str]:
        """Merge what can be merged of YAML text; return what is wrong.

        Args:
            text: keys and values.
            where: what the text is of, for errors.
            files: the file it is of, last, after those that it is a base of.
        """
        try:
            tree = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            return [f"{where}: is not YAML: {' '.join(str(error).split())}"]
        if not isinstance(tree, dict):
            return [f"{where}: expected keys and values, found {type(tree).__name__}"]
        problems = []
        bases = tree.pop(BASE_KEY, [])
        bases = [bases] if isinstance(bases, str) else bases
        if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
            return [f"{where}: {BASE_KEY} must be a file or a list of files, not {bases!r}"]
        for base in bases:
            folder = files[-1].parent if files else Path()
            problems += self.try_file(folder / Path(base).expanduser(), files)
        for key, value in _leaves(tree):
            problems += self._set(key, value, where)
        return problems

    def try_list(self, overrides: Sequence[Any]) -> list[str]:
        """Merge what can be merged of ``[KEY, VALUE, ...]``; return what is wrong."""
        misplaced = [str(key) for key in overrides[::2] if str(key).startswith("--")]
        if misplaced:
            return [f"command line: {misplaced[0]} must stand before the KEY VALUE pairs"]
        problems = []
        if len(overrides) % 2:
            problems.append(f"command line: {overrides[-1]!r} has no value (KEY VALUE pairs)")
        for key, value in zip(overrides[::2], overrides[1::2], strict=False):
            problems += self._set(str(key), value, "command line")
        return problems

    def keys_and_values(self) -> Iterator[tuple[str, Any]]:
        """Yield each dotted key with its value."""
        return _leaves(self)

    def _set(self, key: str, value: Any, where: str) -> list[str]:
        """Set one dotted key; return what is wrong with it, if anything."""
        refused = self.__dict__.get("_refused", {})
        if key in refused:
            default, reason = refused[key]
            if _same(_literal(value), default):
                return []
            return [
                f"{where}: {key} is FastReID's and has no effect here ({reason}), so only its "
                f"default {default!r} is accepted, not {value!r}"
            ]
        node: YacsNode = self
        *sections, name = key.split(".")
        for section in sections:
            if not isinstance(node.get(section), YacsNode):
                return [f"{where}: unknown key {key}{self._closest(key)}"]
            node = node[section]
        if name not in node:
            return [f"{where}: unknown key {key}{self._closest(key)}"]
        if isinstance(node[name], YacsNode):
            return [f"{where}: {key} is a section with keys of its own, not a value"]
        try:
            node[name] = _fit(value, node[name])
        except TypeError:
            kind = type(node[name]).__name__
            return [f"{where}: {key} must be of type {kind}, like {node[name]!r}, not {value!r}"]
        return []

    def _closest(self, key: str) -> str:
        known = [name for name, _ in self.keys_and_values()]
        same_end = [name for name in known if name.split(".")[-1] == key.split(".")[-1]]
        hint = f" (did you mean {same_end[-1]!r}?)" if same_end else ""
        return did_you_mean(key, known) or hint


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each leaf of nested mappings."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _literal(text: Any) -> Any:
    """Return the Python value that a text spells (``"[1, 2]"``, ``"1e-4"``), else what it is."""
    if not isinstance(text, str):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.casefold(), text)


def _fit(value: Any, default: Any) -> Any:
    """Return the value in the type of the default.

    An int may stand for a float, a list for a tuple, and one text for a tuple of one.

    Raises:
        TypeError: it does not fit.
    """
    text, value = value, _literal(value)
    if isinstance(default, str):
        if value is None or isinstance(value, bool | list | tuple | Mapping):
            raise TypeError
        return value if isinstance(value, str) else str(text)  # a folder called 1e3 is not 1000.0
    if isinstance(default, list | tuple):
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list | tuple):
            raise TypeError
        return type(default)(value)
    if isinstance(default, bool) or isinstance(value, bool):
        if not (isinstance(default, bool) and isinstance(value, bool)):
            raise TypeError
        return value
    if isinstance(default, float) and isinstance(value, int | float):
        return float(value)
    if isinstance(default, int) and isinstance(value, int):
        return value
    raise TypeError


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, list | tuple) and isinstance(default, list | tuple):
        return list(value) == list(default)
    return bool(value == default)
