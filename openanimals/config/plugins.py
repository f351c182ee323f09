"""Modules of the user's own: imported as IMPORTS says, and with keys of their own if they like."""

import importlib
import os
import sys
from collections.abc import Iterable
from typing import Any

from openanimals.config.defaults import _C
from openanimals.config.node import Declared, Rule
from openanimals.utils.errors import UserError

POSITIVE: Rule = (lambda v: v > 0, "must be above 0")
NOT_NEGATIVE: Rule = (lambda v: v >= 0, "must not be negative")
SHARE: Rule = (lambda v: 0 <= v <= 1, "must lie in 0..1")


def declare(
    key: str, default: Any, meaning: str, rule: Rule | tuple[str, ...] | None = None
) -> None:
    """Add a key to the configuration, from a module that IMPORTS names.

    Args:
        key: dotted, such as ``MODEL.LOSSES.MINE.ALPHA``; sections are made.
        default: a bool, an int, a float, a text, a list or a tuple; values must be of its type.
        meaning: a line for the list of keys.
        rule: what else must hold of a value: a test and what its error says, such as
            ``POSITIVE``, which is ``(lambda v: v > 0, "must be above 0")``, ``NOT_NEGATIVE`` or
            ``SHARE``; or, for a text, the values that it may have.

    Raises:
        UserError: the key is there already, has no meaning, or a default of another type.

    Example:
        >>> declare("MODEL.LOSSES.MINE.ALPHA", 0.5, "weight of the far pairs", SHARE)
    """
    module = sys._getframe(1).f_globals.get("__name__", "?")
    if not isinstance(default, bool | int | float | str | list | tuple) or not meaning:
        raise UserError(
            f"{module} declares the key {key} with the default {default!r} and the meaning "
            f"{meaning!r}; expected a bool, int, float, str, list or tuple, and a line of text"
        )
    _C.declare(key, Declared(default, meaning, rule, module))


def import_modules(names: Iterable[object]) -> list[str]:
    """Import modules, also from the working directory.

    Returns:
        One sentence for each module that is not there.
    """
    if os.getcwd() not in sys.path:  # for good: a plugin may import others of them later
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    problems = []
    for name in dict.fromkeys(map(str, names)):
        missing = not name or name.startswith(".")
        try:
            if not missing:
                importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name is not None and f"{name}.".startswith(f"{error.name}.")
            if not missing:
                raise  # the module is there, and something that it imports is not
        if missing:
            problems.append(
                f"IMPORTS names {name!r}, but there is no such module in {os.getcwd()} or "
                "among the installed packages"
            )
    return problems
