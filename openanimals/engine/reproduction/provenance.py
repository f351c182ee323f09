"""Which code, packages and device a number came from."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from openanimals.engine.reproduction.grid import CONFIGS

PACKAGES = ("openanimals", "torch", "torchvision", "numpy", "pandas", "pillow", "timm")


def commit() -> str:
    """Return the commit of this code, with "+" if it was changed since, or "unknown"."""
    repository = CONFIGS.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(repository), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not os.path.samefile(git("rev-parse", "--show-toplevel"), repository):
            return "unknown"  # installed somewhere inside another project
        changed = git("status", "--porcelain", "--", "openanimals", "configs", "tools")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def told_by(log: Path) -> tuple[str, list[str]]:
    """Return what a run's log says of its last start: environment and schedule."""
    environment = ""
    schedule: list[str] = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else []:
        message = line.partition(" ")[2]  # after the time
        if message.startswith("Python "):
            environment, schedule = message, []
        elif message.startswith("schedule: "):
            schedule.append(message.removeprefix("schedule: "))
    return environment, schedule
