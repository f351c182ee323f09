"""How good an identification is: published cases, measures by hand, division by encounters."""

from math import isnan, nan

import pytest

from openanimals.identification.catalogue_file import as_table
from openanimals.identification.evaluation import baks, baus, divide, measure
from openanimals.identification.learning import Settings
from openanimals.identification.matches import Candidate, Match, Matches
from openanimals.utils.errors import UserError

TRUTH, ANSWER = [1, 1, 2, 3, 3], [1, 1, 2, 3, 1]
# From the public tests of AnimalCLEF's measures.
UNKNOWN = (set(), {4}, {1}, {1, 2}, {1, 3}, {1, 2, 3})
BAKS = (5 / 6, 5 / 6, 3 / 4, 1 / 2, 1, nan)
BAUS = (nan, nan, 1, 1 / 2, 3 / 4, 1 / 2)


@pytest.mark.parametrize(("unknown", "known", "new"), [*zip(UNKNOWN, BAKS, BAUS, strict=True)])
def test_published_cases(unknown, known, new):
    assert baks(TRUTH, ANSWER, unknown) == pytest.approx(known, nan_ok=True)
    assert baus(TRUTH, ANSWER, unknown, 1) == pytest.approx(new, nan_ok=True)


def match(name, decision, proposed, new, **chances) -> Match:
    candidates = [Candidate(who, chance, "c.jpg", name) for who, chance in chances.items()]
    candidates.sort(key=lambda candidate: -candidate.probability)
    sure = new if decision == "new" else candidates[0].probability
    return Match(name, (name,), None, None, ("",), decision, proposed, sure, new, (*candidates,))


def of(*found) -> Matches:
    return Matches(list(found), "", "planted", "c", 2, 0.01, {}, {}, "2025-01-01T00:00:00")


def test_shares_of_decisions_and_the_brier_score():
    found = of(
        match("1", "known", "ada", 0.1, ada=0.8, bo=0.1),  # right
        match("2", "known", "bo", 0.2, ada=0.2, bo=0.6),  # wrong: ada
        match("3", "unsure", "", 0.3, ada=0.4, bo=0.3),  # ada
        match("4", "new", "new", 0.7, ada=0.2, bo=0.1),  # wrong: bo
        match("5", "new", "new", 0.9, ada=0.05, bo=0.05),  # a stranger
        match("6", "known", "ada", 0.2, ada=0.7, bo=0.1),  # another stranger
    )
    truth = {"1": "ada", "2": "ada", "3": "ada", "4": "bo", "5": "cleo", "6": "dan"}
    said = measure(found, truth, {"ada", "bo"})
    assert said["wrong names"][0] == pytest.approx(100 * 2 / 6)
    assert said["right names"][0] == pytest.approx(100 * 1 / 4)
    assert said["false rejection"][0] == pytest.approx(100 * 1 / 4)
    assert said["false acceptance"][0] == pytest.approx(100 * 1 / 2)
    assert said["strangers called new"][0] == pytest.approx(100 * 1 / 2)
    assert said["Rank-1"][0] == pytest.approx(100 * 2 / 4)
    # Ada is the likeliest answer for two of her three, new for bo's one.
    assert said["BAKS"] == pytest.approx(100 * (2 / 3 + 0) / 2)
    assert said["BAUS"] == pytest.approx(100 * (1 + 0) / 2)
    by_hand = [
        0.2**2 + 0.1**2 + 0.1**2,
        0.8**2 + 0.6**2 + 0.2**2,
        0.6**2 + 0.3**2 + 0.3**2,
        0.9**2 + 0.2**2 + 0.7**2,
        0.1**2 + 0.05**2 + 0.05**2,
        0.8**2 + 0.7**2 + 0.1**2,
    ]
    assert said["Brier"] == pytest.approx(sum(by_hand) / 6)
    low, high = said["wrong names"][1:]
    assert 0 <= low < 100 * 2 / 6 < high <= 100


def test_all_are_known():
    said = measure(of(match("1", "known", "ada", 0.1, ada=0.9)), {"1": "ada"}, {"ada"})
    assert isnan(said["false acceptance"][0]) and isnan(said["BAUS"])


def test_a_photograph_without_truth_is_refused():
    with pytest.raises(UserError, match="1 photographs have no identity, for instance 1"):
        measure(of(match("1", "known", "ada", 0.1, ada=0.9)), {}, {"ada"})


def test_a_catalogue_is_divided_by_encounters():
    rows = [
        {"path": f"{who}_{n}.jpg", "identity": who, "sequence": f"{who}{n // 2}"}
        for who in "abcdefgh"
        for n in range(8)
    ]
    table = as_table(rows)
    known, asked = divide(table, 5, Settings(), seed=1)
    assert not (known & asked).any()
    there = set(table["identity"][known])
    assert len(there) == 5
    met = table[asked]["identity"].isin(there)
    # Half of the known ones' encounters, as many of strangers, and none is torn in two.
    visits = table[asked]["sequence"].groupby(met).nunique()
    assert visits[True] == 10 and visits[False] == 10
    assert not set(table["sequence"][known]) & set(table["sequence"][asked])
