"""What people read after an evaluation: the table of results, and that of a comparison."""

from collections.abc import Mapping
from typing import Any

from openanimals.evaluation.significance import Difference
from openanimals.utils.logging import table

ROC = ("AUC", "TPR@FPR=")  # how the keys of a ROC curve begin


def results_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return results as a table for the console.

    Args:
        results: what :meth:`Result.as_dict` returns, under the name of each row (a test set,
            or "before training").

    Returns:
        Lines of text; the last explain the brackets, and what to keep in mind of the model.
    """

    def with_interval(result: Mapping[str, Any], key: str) -> str:
        low, high = result[f"{key} interval"]
        return f"{result[key]:.2f} [{low:.1f}, {high:.1f}]"

    roc = list(dict.fromkeys(key for r in results.values() for key in r if key.startswith(ROC)))
    counts = ["queries", "gallery", "identities"]
    rows = [["", "Rank-1", "Rank-5", "Rank-10", "mAP", "mINP", *roc, *counts]]
    for name, result in results.items():
        unmatched = result["queries without match"]
        rows.append(
            [
                name,
                with_interval(result, "Rank-1"),
                f"{result['Rank-5']:.2f}",
                f"{result['Rank-10']:.2f}",
                with_interval(result, "mAP"),
                f"{result['mINP']:.2f}",
                *(f"{result[key]:.2f}" if key in result else "-" for key in roc),
                f"{result['queries']}" + (f" (+{unmatched})" if unmatched else ""),
                f"{result['gallery']}",
                f"{result['identities']}",
            ]
        )
    metrics = ", or ".join(dict.fromkeys(result["metric"] for result in results.values()))
    legend = f"Percentages, ranked by {metrics}; [95 % interval, bootstrap over identities]"
    if any(result["queries without match"] for result in results.values()):
        legend += "; (+queries left out, having no match in the gallery)"
    caveats = dict.fromkeys(result["caveat"] for result in results.values() if "caveat" in result)
    return "\n".join([table(rows), legend, *(f"Caveat: {caveat}" for caveat in caveats)])


def comparison_table(differences: Mapping[str, Difference]) -> str:
    """Return the differences of two results as a table for the console.

    Args:
        differences: under the name of each row, a test set with its protocol and a measure.

    Returns:
        Lines of text, the last of them explaining the columns.
    """
    rows = [["", "A", "B", "B - A", "95 % interval", "p", "queries", "identities"]]
    for name, difference in differences.items():
        low, high = difference.interval
        rows.append(
            [
                name,
                f"{difference.first:.2f}",
                f"{difference.second:.2f}",
                f"{difference.difference:+.2f}",
                f"[{low:+.2f}, {high:+.2f}]",
                f"{difference.p_value:.4f}",
                f"{difference.queries}",
                f"{difference.identities}",
            ]
        )
    legend = (
        "Percentages; interval: bootstrap over identities, the same for A and B; p: two-sided "
        "sign-flip permutation over identities"
    )
    return f"{table(rows)}\n{legend}"
