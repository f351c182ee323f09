"""Modules of the user's own, which may register things and declare keys before a config is read."""

import importlib
import os
import sys
from collections.abc import Iterable

from openanimals.utils.errors import shown


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
        missing = not all(part.isidentifier() for part in name.split("."))
        try:
            if not missing:
                importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name is not None and f"{name}.".startswith(f"{error.name}.")
            if not missing:
                raise  # the module is there, and something that it imports is not
        if missing:
            problems.append(
                f"IMPORTS names {shown(name)}, but there is no such module in {os.getcwd()} or "
                "among the installed packages"
            )
    return problems
