"""What the machine offers to this process: cores, and a folder to keep things in."""

import os
from pathlib import Path


def cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def user_cache() -> Path:
    """Return our folder for what can be made again, in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "openanimals"
