"""Compare two models by what their evaluations left of the same queries."""

from pathlib import Path

from openanimals.evaluation.metrics import Ranking
from openanimals.evaluation.report import comparison_table
from openanimals.evaluation.rows import SavedResultError, TestRows
from openanimals.evaluation.significance import Difference, compare_rankings
from openanimals.evaluation.store import load_rankings


def compare(first: str | Path, second: str | Path) -> dict[str, Difference]:
    """Compare the saved rankings of two models, for each protocol that both were judged by.

    Args:
        first: the output folder of a run or of an evaluation, or one of its features files.
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
            "expected the same test sets, or a features file of each to compare one"
        )
    differences = {}
    for name, (rows, rankings) in ours.items():
        other_rows, other_rankings = theirs[name]
        reason = rows.first_difference(other_rows)
        if reason:
            raise SavedResultError(f"{first} and {second} differ in the images of {name}: {reason}")
        shared = [protocol for protocol in rankings if protocol in other_rankings]
        if not shared:
            raise SavedResultError(
                f"{name}: {first} was judged by the protocols {', '.join(rankings)}, {second} by "
                f"{', '.join(other_rankings)}; expected one in common"
            )
        individuals = rows.query["identity"].to_numpy()
        for protocol in shared:
            found = compare_rankings(rankings[protocol], other_rankings[protocol], individuals)
            for measure, difference in found.items():
                differences[f"{name}, {protocol}, {measure}"] = difference
    return differences


def compare_table(first: str | Path, second: str | Path) -> str:
    """Do as :func:`compare`, and return a table of the differences."""
    return comparison_table(compare(first, second))


def _saved(path: Path) -> dict[str, tuple[TestRows, dict[str, Ranking]]]:
    """Return the rows and rankings that are saved at a path, by test set."""
    files = [path]
    if path.is_dir():  # an earlier version's are told to be of one
        files = sorted(path.glob("features_*.safetensors")) or sorted(path.glob("features_*.npz"))
    if not files:
        raise SavedResultError(
            f"no features_*.safetensors in {path.absolute()}; expected the output folder of a run "
            "that has ended, or of an evaluation"
        )
    return {rows.name: (rows, rankings) for rows, rankings in map(load_rankings, files)}
