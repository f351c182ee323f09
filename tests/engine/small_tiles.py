"""A module for IMPORTS: a gallery of some images has tiles enough for several processes."""

from openanimals.evaluation import tiles
from tests import tiny  # noqa: F401  (registers the backbone)

tiles.GALLERY_TILE = 4
