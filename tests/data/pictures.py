"""Small image files for the tests of the data sources."""

from pathlib import Path

from PIL import Image


def save_picture(path: Path, size: tuple[int, int] = (8, 6)) -> Path:
    """Save a grey picture of (width, height) pixels; its folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (120, 120, 120)).save(path)
    return path
