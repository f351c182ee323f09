"""The user's own modules: backbones, losses and data sets join by the key IMPORTS."""

import importlib
import os
import sys
from collections.abc import Sequence


def import_modules(names: Sequence[str]) -> list[str]:
    """Import modules, also from the working directory.

    Returns:
        One sentence for each module that is not there.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    problems = []
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module is there, and something that it imports is not
            problems.append(
                f"IMPORTS names {name!r}, but there is no such module in {os.getcwd()} or "
                "among the installed packages"
            )
    return problems
