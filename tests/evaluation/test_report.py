from dataclasses import replace

import numpy as np
import pytest

from openanimals.evaluation import evaluate, report
from openanimals.evaluation.significance import Difference


@pytest.fixture
def result():
    """Ada is found at once, bo third, and eve has no match; similarities fall with the row."""
    gallery = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3]])
    return evaluate(gallery[[0, 0, 0]], gallery, ["ada", "bo", "eve"], ["ada", "cy", "bo", "bo"])


def test_results_table(result):
    whole = {**result.as_dict(), "queries without match": 0}
    table = report.results_table({"Animals-HyenaID2022": result.as_dict(), "b": whole})
    header, rule, hyena, other, note, *few = table.splitlines()
    assert header.split() == [
        *(
            "Rank-1",
            "chance",
            "Rank-5",
            "Rank-10",
            "mAP",
            "mINP",
            "queries",
            "gallery",
            "identities",
        )
    ]
    assert hyena.split()[:4] == ["Animals-HyenaID2022", "50.00", "[9.5,", "90.5]"]
    assert hyena.split()[4] == "37.50"  # one of four images, and two
    assert (
        few[0] == "Too few: Animals-HyenaID2022 asks for 2 identities, which say little of others"
    )
    assert hyena.split()[-4:] == ["2", "(+1)", "4", "4"] and other.split()[-3:] == ["2", "4", "4"]
    assert len(header) == len(rule) == len(hyena) == len(other)
    assert "left out" in note and "ranked by cosine;" in note
    expanded = {**whole, "metric": "cosine, expanded"}
    both = report.results_table({"a": whole, "b": expanded})
    assert "ranked by cosine, or cosine, expanded;" in both
    assert "left out" not in report.results_table({"b": whole})


def test_roc_columns_and_caveats_stand_where_there_are_any(result):
    plain = result.as_dict()
    marked = {**plain, "AUC": 99.0, "TPR@FPR=1e-03": 12.5, "caveat": "trained on these animals"}
    header, _, first, second, *notes = report.results_table({"a": plain, "b": marked}).splitlines()
    assert header.split()[6:8] == ["AUC", "TPR@FPR=1e-03"]
    assert first.split()[-5:] == ["-", "2", "(+1)", "4", "4"]
    assert "99.00" in second and "12.50" in second
    assert notes[-1:] == ["Caveat: trained on these animals"]


def test_queries_that_were_trained_on_are_marked(result):
    seen = replace(result, trained=np.array([True, False, True]))
    rows = {
        "a": result.as_dict(),
        "b": seen.as_dict(),
        "c": seen.part(np.arange(3) == 1, np.ones(4) > 0).as_dict(),
    }
    _, _, *names, _, _, _, mark, _ = report.results_table(rows).splitlines()
    assert [name.split(" ", 1)[0] + name[1:3].strip() for name in names] == ["a", "b*", "c"]
    assert mark == "Trained on: 1 of the 2 queries of b (*)"
    assert "queries trained on" not in rows["a"]


def test_results_of_before_have_no_chance(result):
    old = {key: value for key, value in result.as_dict().items() if "chance" not in key}
    assert report.results_table({"old": old}).splitlines()[2].split()[4] == "-"


def test_comparison_table():
    difference = Difference(50.0, 60.0, (-1.0, 21.0), 0.0625, 30, 15)
    header, _, row, legend = report.comparison_table({"hyena, mAP": difference}).splitlines()
    assert row.split() == [
        *("hyena,", "mAP", "50.00", "60.00", "+10.00", "[-1.00,", "+21.00]", "0.0625", "30", "15")
    ]
    assert "permutation over identities" in legend
    few = replace(difference, identities=6)
    assert "too few" in report.comparison_table({"hyena, mAP": few}).splitlines()[2]
