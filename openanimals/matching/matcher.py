"""What compares photographs: an object with two methods, under a name in a config.

A network is such a matcher (its features are prepared, their distances are the scores), local
features are another, and a model of one's own joins in a dozen lines.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from openanimals.utils.registry import Registry

Blocks = Iterator[tuple[slice, np.ndarray, np.ndarray | None]]


class Images(Protocol):
    """Images of a table, read one at a time.

    Attributes:
        table: one row a photograph, with the columns of a catalogue.
    """

    table: Any

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return RGB uint8 `[H, W, 3]`, cut to the box; and bool `[H, W]`, True on the animal.

        The second is None where no mask is known, or masks are not asked for.
        """

    def key(self, row: int) -> str:
        """Return what changes if the photograph, its box or its mask does."""


class Matcher(Protocol):
    """Compares photographs."""

    def prepare(self, photographs: Images) -> Any:
        """Return what is compared: features, keypoints, or the photographs themselves."""

    def score_blocks(
        self, query: Any, gallery: Any, candidates: np.ndarray, individuals: np.ndarray
    ) -> Blocks:
        """Compare each query with its candidates.

        Args:
            query: of Q photographs, as :meth:`prepare` returned it.
            gallery: of G photographs.
            candidates: bool `[Q, G]`, the photographs of the gallery that there are for a query.
                The scores of others do not count, but must be finite.
            individuals: a number 0..I-1 for each photograph of the gallery `[G]`.

        Yields:
            Consecutive query rows; distances of photographs `[rows, G]`, small where they are
            alike; and distances of individuals `[rows, I]`, or None where an individual's nearest
            photograph counts.
        """


def score_individuals(
    matcher: Matcher, query: Any, gallery: Any, candidates: np.ndarray, individuals: np.ndarray
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield a matcher's blocks, with distances of individuals whether it has its own or not.

    Of an individual without a candidate it is the largest of the block, and does not count.
    """
    order = np.argsort(individuals, kind="stable")
    starts = np.searchsorted(individuals[order], np.arange(individuals.max(initial=-1) + 1))
    for rows, distances, named in matcher.score_blocks(query, gallery, candidates, individuals):
        if named is None:
            near = np.where(candidates[rows], distances, np.max(distances, initial=-np.inf))
            named = np.minimum.reduceat(near[:, order], starts, axis=1)
        yield rows, distances, named


MATCHER_REGISTRY: Registry[Callable[[Any], Matcher]] = Registry("matcher (TEST.MATCHER)")
"""Functions ``f(cfg) -> Matcher``."""
