"""CfgNode: yacs with base files, all mistakes at once, and the closest right key."""

import ast
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

from yacs.config import CfgNode as YacsNode

from openanimals.config.fastreid import PROJECTS, REFUSED
from openanimals.config.files import Setting, leaves, read_file, read_overrides
from openanimals.utils.errors import UserError, shortened, shown
from openanimals.utils.registry import did_you_mean

MOST_PROBLEMS = 100
MOST_LITERAL = 10_000  # characters of a number or list


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


Rule = tuple[Callable[[Any], bool], str]  # whether a value is right, and what it must be


RULES: dict[str, Rule | tuple[str, ...]] = {}
"""What must hold of the values of a key, beside their type; or the texts that it may have."""


class Declared(NamedTuple):
    """A key of a plugin's; see :func:`openanimals.config.declare`."""

    default: Any
    meaning: str
    module: str


DECLARED: dict[str, Declared] = {}
"""The keys of all plugins that this process has imported."""


class CfgNode(YacsNode):
    """The tree of keys. Merging lists every mistake of a file or of the overrides in one error."""

    def add(self, key: str, default: Any) -> bool:
        """Add a dotted key, and the sections that it stands in; return False if it cannot be.

        It is there already or refused, or it is a section, or a key is its section.
        """
        node, *sections, name = self, *key.split(".")
        for section in sections:
            node = node.setdefault(section, CfgNode()) if isinstance(node, YacsNode) else node
        if key in REFUSED or not isinstance(node, YacsNode) or name in node:
            return False
        node[name] = default
        return True

    def merge_from_file(self, cfg_filename: str | Path) -> None:
        """Merge a YAML file, its ``_BASE_`` files (one or a list, relative to it) first.

        Raises:
            ConfigError: a file is missing or not YAML, or has unknown keys or wrong types.
        """
        ConfigError.raise_for(self.merge(read_file(cfg_filename)))

    def merge_from_list(self, cfg_list: Sequence[Any]) -> None:
        """Merge ``[KEY, VALUE, KEY, VALUE, ...]``; values may be text as typed in a shell.

        Raises:
            ConfigError: a key without a value, unknown keys or wrong types.
        """
        ConfigError.raise_for(self.merge(read_overrides(cfg_list)))

    def merge(self, settings: Iterable[Setting]) -> list[str]:
        """Set what can be set, later over earlier; return what is wrong."""
        problems: list[str] = []
        for setting in settings:
            problems += [setting] if isinstance(setting, str) else self._set(*setting)
            if len(problems) > MOST_PROBLEMS:  # each costs a search for what was meant
                return [*problems, "and perhaps more"]
        return problems

    def keys_and_values(self) -> Iterator[tuple[str, Any]]:
        """Yield each dotted key with its value."""
        return leaves(self)

    def dump(self, **options: Any) -> str:
        """Return the tree as YAML that loads to the same tree.

        Keys of plugins that IMPORTS does not name (another run in this process did) are left out
        at their default, so that the text loads without them.
        """
        tree: CfgNode = self.clone()
        for key, of in DECLARED.items():
            node, name = tree._parent(key)
            named = any(f"{of.module}.".startswith(f"{module}.") for module in self.IMPORTS)
            if not named and node.get(name) == of.default:
                del node[name]
        text: str = super(CfgNode, tree).dump(**options)
        return text

    def _set(self, where: str, key: str, value: Any) -> list[str]:
        """Set one dotted key; return what is wrong with it, if anything."""
        if key in REFUSED:
            default, reason = REFUSED[key]
            if _same(_literal(value), default):
                return []
            return [
                f"{where}: {key} is FastReID's and has no effect here ({reason}), so only its "
                f"default {default!r} is accepted, not {shown(value)}"
            ]
        node, name = self._parent(key)
        if name not in node:
            hint = self._closest(key) or " (one of a plugin's? Then IMPORTS must name its module)"
            return [f"{where}: unknown key {shortened(key)}{hint}"]
        if isinstance(node[name], YacsNode):
            return [f"{where}: {key} is a section with keys of its own, not a value"]
        try:
            fitted = _fit(value, node[name])
            # A plugin that a base file needs is needed by all that build on it.
            node[name] = [*node[name], *fitted] if key == "IMPORTS" else fitted
        except (TypeError, OverflowError):
            kind = type(node[name]).__name__
            like = f"{key} must be of type {kind}, like {node[name]!r}"
            return [f"{where}: {like}, not {shown(value)}{_colon(value)}"]
        return []

    def _parent(self, key: str) -> tuple[YacsNode, str]:
        """Return the section of a dotted key, an empty one if there is none, and its last part."""
        node, *sections, name = self, *key.split(".")
        for section in sections:
            node = node.get(section)
            if not isinstance(node, YacsNode):
                return CfgNode(), name
        return node, name

    def _closest(self, key: str) -> str:
        """Return the known key that was meant, if one is near enough, or what the key is of."""
        for theirs, project in PROJECTS.items():
            if f"{key}.".startswith(f"{theirs}."):
                return f" (of FastReID's project {project}, which is not here)"
        section, _, name = key[:200].rpartition(".")
        known = dict(self.keys_and_values())
        if isinstance(known.get(section), list | tuple):
            return f" ({section} is a list of names: to write {name}:..., leave no space after :)"
        parts = {other: other.rpartition(".") for other in known}
        same = [other for other, (_, _, last) in parts.items() if last == name]
        near = [
            other
            for other, (above, _, last) in parts.items()
            if _alike(last, name) > 0.6 and (not section or _alike(*_apart(above, section)) > 0.55)
        ]
        return did_you_mean(key, near) or (did_you_mean(same[0], same) if len(same) == 1 else "")


def _apart(first: str, second: str) -> tuple[str, str]:
    """Return where two sections lie, without what they share: CE, TRI of MODEL.LOSSES.CE, .TRI."""
    paths = first.split("."), second.split(".")
    shared = len(os.path.commonprefix(paths))
    one, other = (".".join(path[shared:]) for path in paths)
    return one, other


def _alike(first: str, second: str) -> float:
    return SequenceMatcher(None, first.casefold(), second.casefold()).ratio()


def _colon(value: Any) -> str:
    """Return what to write instead of mappings that a space after a colon made in a list."""
    pairs = [part for part in value if isinstance(part, Mapping)] if isinstance(value, list) else []
    said = ", ".join(f"{key}:{text}" for pair in pairs for key, text in pair.items())
    return f"; write {shortened(said)}, without a space after the colon" if said else ""


def _literal(text: Any) -> Any:
    """Return the Python value that a text spells (``"[1, 2]"``, ``"1e-4"``), else what it is."""
    if not isinstance(text, str) or len(text) > MOST_LITERAL:
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {"true": True, "false": False}.get(text.casefold(), text)


def _fit(value: Any, default: Any) -> Any:
    """Return the value in the type of the default.

    An int may stand for a float, a list for a tuple, and one text for a tuple of one.

    Raises:
        TypeError: it does not fit.
    """
    text, value = value, _literal(value)
    if isinstance(default, str):
        nothing = value is None or isinstance(value, bool | list | tuple | Mapping)
        if nothing or not isinstance(text, str | int | float):
            raise TypeError
        return value if isinstance(value, str) else str(text)  # a folder called 1e3 is not 1000.0
    if isinstance(default, list | tuple):
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list | tuple) or any(isinstance(v, Mapping) for v in value):
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
