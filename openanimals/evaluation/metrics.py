"""Rank-k, CMC, average precision and inverse negative penalty of rankings.

mAP is the mean of the precisions at a query's hits, mINP the number of hits over the rank of the
last one (Ye et al., "Deep learning for person re-identification: a survey and outlook", 2021).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from openanimals.utils.errors import UserError

FEW = 10  # individuals, of which a bootstrap can draw next to nothing


class Ranking(NamedTuple):
    """How some queries fared, one entry each; without a match in the gallery, NaN and 0.

    Attributes:
        average_precision: `[Q]`, 0 to 1.
        inverse_negative_penalty: `[Q]`, 0 to 1.
        first_hit: `[Q]`, the rank of the first right image, from 1.
        chance: `[Q]`, the share of right images in the ranking: how often a random one's first is.
        top: `[Q, k]`, the nearest gallery rows; -1 beyond the end of a ranking.
        top_distances: `[Q, k]`, their distances; NaN beyond the end.
    """

    average_precision: np.ndarray
    inverse_negative_penalty: np.ndarray
    first_hit: np.ndarray
    chance: np.ndarray
    top: np.ndarray
    top_distances: np.ndarray


@dataclass(frozen=True)
class Result:
    """The outcome of an evaluation: per-query values, and what is reported of them.

    Queries without a match in the gallery are left out of every mean, and counted.

    Attributes:
        ranking: per-query values, in the order of the queries.
        query_identities: `[Q]` labels.
        gallery_identities: `[G]` labels.
        metric: the distance that was ranked by, in words.
        max_rank: the length of the CMC curve.
        protocol: what was removed from the rankings, in words.
        caveat: what a reader of the numbers must know of the model; empty: nothing.
        roc: shares of pairs that a threshold verifies, in percent; empty: not asked for.
        trained: `[Q]`, True for queries whose photograph was trained on; None: none is known.

    Raises:
        UserError: no query has a match.
    """

    ranking: Ranking
    query_identities: np.ndarray
    gallery_identities: np.ndarray
    metric: str = "cosine"
    max_rank: int = 50
    protocol: str = "paper"
    caveat: str = ""
    roc: Mapping[str, float] = field(default_factory=dict)
    trained: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not self.matched.any():
            raise UserError(
                f"none of the {len(self.matched)} queries has an image of its individual among the "
                f"{len(self.gallery_identities)} gallery images that are left in its ranking; "
                "check the split, and what the protocol removes"
            )

    @property
    def matched(self) -> np.ndarray:
        """`[Q]`, True for the queries that count."""
        return self.ranking.first_hit > 0

    @property
    def top(self) -> np.ndarray:
        """The nearest gallery rows of each query `[Q, k]`; -1 beyond the end of a ranking."""
        return self.ranking.top

    def rank(self, k: int) -> float:
        """Return the percentage of queries whose first right image is among the first ``k``."""
        return float(100 * np.mean(self.ranking.first_hit[self.matched] <= k))

    @property
    def chance(self) -> float:
        """Rank-1 of random rankings in percent."""
        return float(100 * np.mean(self.ranking.chance[self.matched]))

    @property
    def cmc(self) -> np.ndarray:
        """Rank-1 to Rank-``max_rank`` in percent, also where the gallery is smaller."""
        return np.array([self.rank(k) for k in range(1, self.max_rank + 1)])

    @property
    def mAP(self) -> float:
        """Mean average precision in percent."""
        return float(100 * np.mean(self.ranking.average_precision[self.matched]))

    @property
    def mINP(self) -> float:
        """Mean inverse negative penalty in percent."""
        return float(100 * np.mean(self.ranking.inverse_negative_penalty[self.matched]))

    def part(self, queries: np.ndarray, gallery: np.ndarray) -> "Result":
        """Return the result without images that take no part in it, so that they are not counted.

        It has no ROC curve, which is not a mean over queries.

        Args:
            queries: `[Q]`, False for queries whose rankings are empty.
            gallery: `[G]`, False for images that are in no ranking.
        """
        row = np.where(gallery, gallery.cumsum() - 1, -1)  # among those that stay
        top = np.where(self.ranking.top < 0, -1, row[self.ranking.top])
        kept = self.ranking._replace(top=top)
        return replace(
            self,
            ranking=Ranking(*(values[queries] for values in kept)),
            query_identities=self.query_identities[queries],
            gallery_identities=self.gallery_identities[gallery],
            roc={},
            trained=None if self.trained is None else self.trained[queries],
        )

    def as_dict(self) -> dict[str, Any]:
        """Return what is reported, ready for JSON: percentages, 95 % intervals and counts."""
        individuals = self.query_identities[self.matched]
        hit = 100.0 * (self.ranking.first_hit[self.matched] == 1)
        precision = 100 * self.ranking.average_precision[self.matched]
        trained = 0 if self.trained is None else int(self.trained[self.matched].sum())
        return {
            "Rank-1": self.rank(1),
            "Rank-1 by chance": self.chance,
            **{f"Rank-{k}": self.rank(k) for k in (5, 10)},
            "mAP": self.mAP,
            "mINP": self.mINP,
            **self.roc,
            "Rank-1 interval": list(percentage_interval(hit, individuals)),
            "mAP interval": list(percentage_interval(precision, individuals)),
            "queries": int(self.matched.sum()),
            "queries without match": int((~self.matched).sum()),
            **({"queries trained on": trained} if trained else {}),
            "query identities": len({*individuals}),
            "gallery": len(self.gallery_identities),
            "identities": len({*self.query_identities, *self.gallery_identities}),
            "metric": self.metric,
            "protocol": self.protocol,
            **({"caveat": self.caveat} if self.caveat else {}),
        }


def percentage_interval(values: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Return a 95 % interval of the mean of percentages that is never a point.

    It is the bootstrap's. That of fewer groups than :data:`FEW`, or of groups that all fare alike,
    would look surer than it is: then it is Wilson's (1927) for as many trials as there are groups.

    Args:
        values: `[N]`, 0 to 100, one a query.
        groups: `[N]`, the individual of each.
    """
    sizes = np.bincount(pd.factorize(np.asarray(groups, dtype=object))[0])
    low, high = bootstrap_interval(values, groups)
    if len(sizes) >= FEW and low < high:
        return low, high
    trials = float(sizes.sum() ** 2 / (sizes**2).sum())  # fewer where some have most of the queries
    share, z = float(np.mean(values)) / 100, 1.96**2 / trials
    middle, half = share + z / 2, float(np.sqrt(z * share * (1 - share) + z**2 / 4))
    low, high = (round(100 * end / (1 + z), 9) for end in (middle - half, middle + half))
    return max(0.0, low), min(100.0, high)


def bootstrap_interval(
    values: np.ndarray, groups: np.ndarray, *, seed: int = 0, samples: int = 1000
) -> tuple[float, float]:
    """Return the 95 % percentile interval of a mean, resampling whole groups.

    Queries of one individual succeed and fail together, so individuals are drawn, not queries.

    Args:
        values: `[N]`, one a query.
        groups: `[N]`, the individual of each.
        seed: seed of the draws; the interval is a pure function of the arguments.
        samples: how many times the groups are drawn, with replacement.

    Returns:
        Lower and upper end. With a single group both are the mean: nothing can be resampled.
    """
    group, _ = pd.factorize(np.asarray(groups, dtype=object))
    sums, counts = np.bincount(group, weights=values), np.bincount(group)
    # RandomState, not default_rng: numpy has frozen its stream, so that intervals last.
    drawn = np.random.RandomState(seed).randint(len(sums), size=(samples, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
