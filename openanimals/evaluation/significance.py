"""A paired test between two models that were asked the same queries.

Two intervals that overlap say little of a difference: hard queries are hard for both models. So
each query is compared with itself, and since the queries of one individual succeed and fail
together, individuals are what is resampled and what is permuted.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from openanimals.evaluation.array_io import SavedResultError, beside, read_table
from openanimals.evaluation.metrics import bootstrap_interval
from openanimals.evaluation.results_io import MEASURES
from openanimals.utils.errors import UserError
from openanimals.utils.files import expanded

FLIPS = 10_000  # sign patterns drawn; where there are no more than these, all are enumerated
BLOCK = 1000  # patterns held at once


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
    ours, theirs = _saved(expanded(first)), _saved(expanded(second))
    if ours.keys() != theirs.keys():
        raise SavedResultError(
            f"{first} has results on {', '.join(ours)}, {second} on {', '.join(theirs)}; "
            "expected the same test sets, or a rankings file of each to compare one"
        )
    differences = {}
    for name in ours:
        tables = ours[name], theirs[name]
        if tables[0].attrs["images"] != tables[1].attrs["images"]:
            raise SavedResultError(
                f"{first} and {second} are not of the same images of {name}; expected the same "
                "queries and the same gallery"
            )
        one, other = (
            {str(protocol): rows for protocol, rows in table.groupby("protocol", sort=False)}
            for table in tables
        )
        shared = [protocol for protocol in one if protocol in other]
        if not shared:
            raise SavedResultError(
                f"{name}: {first} was judged by the protocols {', '.join(one)}, {second} by "
                f"{', '.join(other)}; expected one in common"
            )
        for protocol in shared:
            found = compare_rankings(one[protocol], other[protocol])
            for measure, difference in found.items():
                differences[f"{name}, {protocol}, {measure}"] = difference
    return differences


def _saved(path: Path) -> dict[str, pd.DataFrame]:
    """Return the tables of rankings that are saved at a path, by test set."""
    files = sorted(path.glob("rankings_*.parquet")) if path.is_dir() else [beside(path, "rankings")]
    if not files:
        raise SavedResultError(
            f"no rankings_*.parquet in {path.absolute()}; expected the output folder of a run "
            "that has ended, or of an evaluation"
        )
    tables = [read_table(file, ("identity", "protocol", *MEASURES)) for file in files]
    for file, table in zip(files, tables, strict=True):
        if not {"name", "images"} <= table.attrs.keys():
            raise SavedResultError(f"{file} does not say which images it is of; evaluate again")
    return {table.attrs["name"]: table for table in tables}


def compare_rankings(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Difference]:
    """Compare Rank-1 and mAP of two models over the same queries.

    Args:
        first: by the first model, one row a query: its identity, average_precision and first_hit.
        second: the same by the second.

    Returns:
        The differences under ``Rank-1`` and ``mAP``.

    Raises:
        UserError: the rankings are not of the same queries, or a query has a match in one only.
    """
    if len(first) != len(second):
        raise UserError(
            f"rankings of {len(first)} and {len(second)} queries; expected the same queries"
        )
    hits = [rankings["first_hit"].to_numpy() for rankings in (first, second)]
    matched = hits[0] > 0
    if (matched != (hits[1] > 0)).any():
        raise UserError(
            f"{matched.sum()} queries count in the one result and {(hits[1] > 0).sum()} "
            "in the other; expected the same, judged by the same rules"
        )
    precisions = [rankings["average_precision"].to_numpy(float) for rankings in (first, second)]
    measures = {
        "Rank-1": [100.0 * (hit[matched] == 1) for hit in hits],
        "mAP": [100 * precision[matched] for precision in precisions],
    }
    shown = first["identity"].to_numpy(object)[matched]
    return {name: paired_difference(a, b, shown) for name, (a, b) in measures.items()}


def paired_difference(first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> Difference:
    """Compare the means of paired values; the outcome is a pure function of the arguments.

    Args:
        first: `[N]`, one a query.
        second: `[N]`, of the same queries.
        groups: `[N]`, the individual of each.
    """
    change = np.asarray(second, dtype=np.float64) - first
    group, names = pd.factorize(np.asarray(groups, dtype=object))
    return Difference(
        first=float(np.mean(first)),
        second=float(np.mean(second)),
        interval=bootstrap_interval(change, groups),
        p_value=sign_flip_p_value(np.bincount(group, weights=change)),
        queries=len(change),
        identities=len(names),
    )


def sign_flip_p_value(sums: np.ndarray, *, samples: int = FLIPS) -> float:
    """Return the two-sided p-value of a sum whose terms are as likely of either sign.

    All patterns of signs are looked at where there are at most ``samples`` of them. Else that many
    are drawn, and the observed one counts as one of them, so that p is never 0.

    Args:
        sums: `[I]`, the sum of the differences of each individual. Zeros change nothing.
        samples: how many patterns to look at.
    """
    sums = sums[sums != 0]
    # A pattern that reaches the observed sum exactly must not miss it by a rounding error.
    threshold = abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    if 2 ** len(sums) <= samples:
        patterns = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
        return float(np.mean(np.abs((2 * patterns - 1) @ sums) >= threshold))
    # RandomState, not default_rng: numpy has frozen its stream, so that p-values last.
    stream, reached = np.random.RandomState(0), 1
    for start in range(0, samples, BLOCK):
        signs = 2 * stream.randint(2, size=(min(BLOCK, samples - start), len(sums))) - 1
        reached += np.count_nonzero(np.abs(signs @ sums) >= threshold)
    return reached / (samples + 1)
