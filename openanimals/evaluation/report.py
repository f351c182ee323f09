"""What people read after an evaluation: the table of results, and that of a comparison."""

from collections.abc import Mapping
from typing import Any

from openanimals.evaluation.metrics import FEW
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
    roc = list(dict.fromkeys(key for r in results.values() for key in r if key.startswith(ROC)))
    counts = ["queries", "gallery", "identities"]
    rows = [["", "Rank-1", "chance", "Rank-5", "Rank-10", "mAP", "mINP", *roc, *counts]]
    keys = ["Rank-1", "Rank-1 by chance", *rows[0][3 : -len(counts)]]
    notes = []
    for name, result in results.items():
        row = [f"{result[key]:.2f}" if key in result else "-" for key in keys]
        for place, key in ((0, "Rank-1"), (4, "mAP")):
            row[place] += " [{:.1f}, {:.1f}]".format(*result[f"{key} interval"])
        row += [f"{result[key]}" for key in counts]
        if unmatched := result["queries without match"]:
            row[-3] += f" (+{unmatched})"
        if (few := result.get("query identities", FEW)) < FEW:
            notes.append(f"Too few: {name} asks for {few} identities, which say little of others")
        if trained := result.get("queries trained on"):
            notes.append(f"Trained on: {trained} of the {result['queries']} queries of {name} (*)")
            name = f"{name} *"
        rows.append([name, *row])
    metrics = ", or ".join(dict.fromkeys(result["metric"] for result in results.values()))
    legend = f"Percentages, ranked by {metrics}; [95 % interval over identities]"
    if any(result["queries without match"] for result in results.values()):
        legend += "; (+queries left out, having no match in the gallery)"
    caveats = dict.fromkeys(result["caveat"] for result in results.values() if "caveat" in result)
    return "\n".join([table(rows), legend, *notes, *(f"Caveat: {caveat}" for caveat in caveats)])


def comparison_table(differences: Mapping[str, Difference]) -> str:
    """Return the differences of two results as a table for the console.

    Args:
        differences: under the name of each row, a test set with its protocol and a measure.

    Returns:
        Lines of text, the last of them explaining the columns.
    """
    rows = [["", "A", "B", "B - A", "95 % interval", "p", "queries", "identities"]]
    for name, found in differences.items():
        percent = f"{found.first:.2f}", f"{found.second:.2f}", f"{found.difference:+.2f}"
        interval = "[{:+.2f}, {:+.2f}]".format(*found.interval)
        interval = interval if found.identities >= FEW else "too few"
        counts = f"{found.queries}", f"{found.identities}"
        rows.append([name, *percent, interval, f"{found.p_value:.4f}", *counts])
    legend = (
        "Percentages; interval: bootstrap over identities, the same for A and B; p: two-sided "
        "sign-flip permutation over identities"
    )
    return f"{table(rows)}\n{legend}"
