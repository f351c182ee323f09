"""A module for IMPORTS: a gallery of some images has several tiles."""

from openanimals.evaluation import distance
from tests import tiny  # noqa: F401  (registers the backbone)

distance.GALLERY_TILE = 4
