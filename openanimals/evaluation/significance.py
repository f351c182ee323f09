"""A paired test between two models that were asked the same queries.

Two intervals that overlap say little of a difference: hard queries are hard for both models. So
each query is compared with itself, and since the queries of one individual succeed and fail
together, individuals are what is resampled and what is permuted.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from openanimals.evaluation.array_io import TIED, SavedResultError
from openanimals.evaluation.metrics import bootstrap_interval
from openanimals.evaluation.results_io import load_rankings
from openanimals.utils.errors import UserError

FLIPS = 10_000  # sign patterns drawn; where there are no more than these, all are enumerated
BLOCK = 1000  # patterns held at once

Values = np.ndarray | pd.Series


@dataclass(frozen=True)
class Difference:
    """How much two models differ in the mean of a measure.

    Attributes:
        first: mean of the first model, in percent.
        second: mean of the second.
        interval: 95 % interval of second minus first.
        p_value: probability of a difference at least as large, in either direction, if for each
            individual it were a matter of chance which of the two models is which.
        queries: that were compared.
        identities: individuals that they show.
    """

    first: float
    second: float
    interval: tuple[float, float]
    p_value: float
    queries: int
    identities: int

    @property
    def difference(self) -> float:
        """Second minus first, in percent."""
        return self.second - self.first


def compare_evaluations(first: str | Path, second: str | Path) -> dict[str, Difference]:
    """Compare what two evaluations left, for each protocol that both were judged by.

    Args:
        first: the output folder of a run or of an evaluation, or a file of one test set in it.
        second: the other model's.

    Returns:
        Second minus first, by test set, protocol and measure.

    Raises:
        SavedResultError: rankings are missing or damaged, or are not of the same images, judged
            by the same protocol.
    """
    ours, theirs = _saved(Path(first)), _saved(Path(second))
    if ours.keys() != theirs.keys():
        raise SavedResultError(
            f"{first} has results on {', '.join(ours)}, {second} on {', '.join(theirs)}; "
            "expected the same test sets, or a rankings file of each to compare one"
        )
    differences = {}
    for name, (images, rankings) in ours.items():
        others, other_rankings = theirs[name]
        if reason := _first_difference(images, others):
            raise SavedResultError(f"{first} and {second} differ in the images of {name}: {reason}")
        known, asked = (list(each["protocol"].unique()) for each in (rankings, other_rankings))
        shared = [protocol for protocol in known if protocol in asked]
        if not shared:
            raise SavedResultError(
                f"{name}: {first} was judged by the protocols {', '.join(known)}, {second} by "
                f"{', '.join(asked)}; expected one in common"
            )
        for protocol in shared:
            sides = (each[each["protocol"] == protocol] for each in (rankings, other_rankings))
            for measure, difference in compare_rankings(*sides).items():
                differences[f"{name}, {protocol}, {measure}"] = difference
    return differences


def _saved(path: Path) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Return the images and rankings that are saved at a path, by test set."""
    files = sorted(path.glob("rankings_*.parquet")) if path.is_dir() else [path]
    if not files:
        raise SavedResultError(
            f"no rankings_*.parquet in {path.absolute()}; expected the output folder of a run "
            "that has ended, or of an evaluation"
        )
    return {name: (images, rankings) for name, images, rankings in map(load_rankings, files)}


def _first_difference(ours: pd.DataFrame, theirs: pd.DataFrame) -> str:
    """Say in what two tables of images differ; empty if features of both are of the same images."""
    pairs = zip(*(images[list(TIED)].values.tolist() for images in (ours, theirs)), strict=False)
    for row, (a, b) in enumerate(pairs):
        if str(a) != str(b):  # as text: NaN, which a box may hold, does not equal itself
            return f"image {row} is the {a[3]} {a[0]} of {a[1]} against the {b[3]} {b[0]} of {b[1]}"
    return "" if len(ours) == len(theirs) else f"{len(ours)} images against {len(theirs)}"


def compare_rankings(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Difference]:
    """Compare two models over the same queries: their ``Rank-1`` and their ``mAP``.

    Args:
        first: a row a query, with its identity, average_precision and first_hit by this model.
        second: the same by the second.

    Raises:
        UserError: a query has a match for one model only.
    """
    matched, others = (each["first_hit"].to_numpy() > 0 for each in (first, second))
    if not np.array_equal(matched, others):
        raise UserError(
            f"{matched.sum()} queries count in the one result and {others.sum()} in the other; "
            "expected the same, judged by the same rules"
        )
    first, second = first[matched], second[matched]
    individuals = first["identity"].to_numpy()
    return {
        "Rank-1": paired_difference(
            100.0 * (first["first_hit"] == 1), 100.0 * (second["first_hit"] == 1), individuals
        ),
        "mAP": paired_difference(
            100 * first["average_precision"], 100 * second["average_precision"], individuals
        ),
    }


def paired_difference(
    first: Values, second: Values, groups: np.ndarray, *, seed: int = 0
) -> Difference:
    """Compare the means of values `[N]` of the same queries, of the individuals ``groups`` `[N]`.

    Both draws have the seed; the outcome is a pure function of the arguments.
    """
    change = np.asarray(second, dtype=np.float64) - np.asarray(first)
    group, names = pd.factorize(np.asarray(groups, dtype=object))
    return Difference(
        first=float(np.mean(first)),
        second=float(np.mean(second)),
        interval=bootstrap_interval(change, groups, seed=seed),
        p_value=sign_flip_p_value(np.bincount(group, weights=change), seed=seed),
        queries=len(change),
        identities=len(names),
    )


def sign_flip_p_value(sums: np.ndarray, *, seed: int = 0, samples: int = FLIPS) -> float:
    """Return the two-sided p-value of a sum whose terms are as likely of either sign.

    All patterns of signs are looked at where there are at most ``samples`` of them. Else that many
    are drawn, and the observed one counts as one of them, so that p is never 0.

    Args:
        sums: `[I]`, the sum of the differences of each individual. Zeros change nothing.
        seed: seed of the draw.
        samples: how many patterns to look at.
    """
    sums = sums[sums != 0]
    # A pattern that reaches the observed sum exactly must not miss it by a rounding error.
    threshold = abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    if 2 ** len(sums) <= samples:
        patterns = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
        return float(np.mean(np.abs((2 * patterns - 1) @ sums) >= threshold))
    # RandomState, not default_rng: numpy has frozen its stream, so that p-values last.
    stream, reached = np.random.RandomState(seed), 1
    for start in range(0, samples, BLOCK):
        signs = 2 * stream.randint(2, size=(min(BLOCK, samples - start), len(sums))) - 1
        reached += np.count_nonzero(np.abs(signs @ sums) >= threshold)
    return reached / (samples + 1)
