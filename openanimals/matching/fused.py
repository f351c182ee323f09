"""Several matchers as one: their distances become probabilities, and these are fused."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from openanimals.matching.calibration import Fusion
from openanimals.matching.matcher import Blocks, Images, Matcher, score_individuals
from openanimals.matching.one_to_one import Spots


@dataclass(frozen=True)
class FusedMatcher:
    """Compares photographs by several matchers.

    Attributes:
        matchers: by name.
        photographs: from the scores (distances times -1) of pairs of photographs to probabilities.
        individuals: the same, of pairs of a photograph and an individual.
    """

    matchers: Mapping[str, Matcher]
    photographs: Fusion
    individuals: Fusion

    def prepare(self, photographs: Images) -> dict[str, Any]:
        """Return what each matcher compares."""
        return {name: matcher.prepare(photographs) for name, matcher in self.matchers.items()}

    def score_blocks(
        self,
        query: Mapping[str, Any],
        gallery: Mapping[str, Any],
        candidates: np.ndarray,
        individuals: np.ndarray,
    ) -> Blocks:
        """Yield distances that are 1 minus the probability; see :class:`Matcher`."""
        scores, named = all_scores(self.matchers, query, gallery, candidates, individuals)
        rows = slice(0, len(candidates))
        yield rows, 1 - self.photographs(scores), 1 - self.individuals(named)

    def spots(
        self,
        query: Mapping[str, Any],
        gallery: Mapping[str, Any],
        candidates: np.ndarray,
        individuals: np.ndarray,
    ) -> Callable[[int, int], Spots] | None:
        """Return what tells which spots match, of the first matcher that can."""
        for name, matcher in self.matchers.items():
            if show := getattr(matcher, "spots", None):
                return show(query[name], gallery[name], candidates, individuals)
        return None


def all_scores(
    matchers: Mapping[str, Matcher],
    query: Mapping[str, Any],
    gallery: Mapping[str, Any],
    candidates: np.ndarray,
    individuals: np.ndarray,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return each matcher's scores (distances times -1), of all queries.

    Returns:
        By the name of the matcher, of photographs `[Q, G]` and of individuals `[Q, I]`.
    """
    scores, named = {}, {}
    for name, matcher in matchers.items():
        given = query[name], gallery[name], candidates, individuals
        _, photographs, own = zip(*score_individuals(matcher, *given), strict=True)
        scores[name], named[name] = -np.concatenate(photographs), -np.concatenate(own)
    return scores, named
