"""A module for IMPORTS that makes wildlife-datasets and OpenCV impossible to import."""

import sys
from importlib.abc import MetaPathFinder

from tests import tiny  # noqa: F401  (registers the backbone)

BLOCKED = ("wildlife_datasets", "cv2")


class Block(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")


assert not {name.split(".")[0] for name in sys.modules}.intersection(BLOCKED)
sys.meta_path.insert(0, Block())
