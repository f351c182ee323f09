"""Individuals in place of photographs: which of them is it, whichever photograph tells?"""

import numpy as np
import pandas as pd

from openanimals.evaluation.protocols import Protocol


class ByIndividual(Protocol):
    """The individuals of a gallery in place of its photographs: the best of each counts.

    An individual is removed from a query's ranking where all of its photographs are.

    Args:
        photographs: what is right and what is removed, photograph by photograph.
    """

    def __init__(self, photographs: Protocol) -> None:
        query, gallery = photographs.identities
        codes, individuals = photographs.individuals(), pd.unique(gallery)
        super().__init__(
            (query, individuals),
            rule=f"{photographs.rule}, by individual",
            note=photographs.note,
        )
        self.photographs = photographs
        self._order = np.argsort(codes, kind="stable")
        self._starts = np.searchsorted(codes[self._order], np.arange(len(individuals)))

    def masks(self, queries: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Return two masks `[queries, individuals]`, as :meth:`Protocol.masks` does."""
        matches, _ = super().masks(queries)
        _, removed = self.photographs.masks(queries)
        if removed is not None:
            removed = np.logical_and.reduceat(removed[:, self._order], self._starts, axis=1)
        return matches, removed

    def best(self, queries: slice, distances: np.ndarray) -> np.ndarray:
        """Return the distance of each individual's nearest photograph that is not removed.

        Args:
            queries: their rows.
            distances: of the photographs `[queries, G]`.

        Returns:
            `[queries, individuals]`, infinite for those that are removed.
        """
        _, removed = self.photographs.masks(queries)
        if removed is not None:
            distances = np.where(removed, np.inf, distances)
        return np.minimum.reduceat(distances[:, self._order], self._starts, axis=1)
