"""OpenAnimals: tells individual animals apart in photographs (animal re-identification)."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "get_cfg"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that importing the package is cheap."""
    if name == "get_cfg":
        from openanimals.config import get_cfg

        return get_cfg
    raise AttributeError(f"module 'openanimals' has no attribute {name!r}")
