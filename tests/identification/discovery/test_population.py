"""The number of individuals from a sample, against counting; and a reviewer who errs as said."""

import numpy as np
import pytest

from openanimals.identification.discovery.pair_evidence import Expected
from openanimals.identification.discovery.population import estimate_population, wrong_names_left
from openanimals.identification.review.simulated import SimulatedReviewer

OWN = np.array([0, 0, 0, 1, 1, 2, 3])
APART = 3.0  # of the evidence of pairs of one animal from those of two, in its own spread


def nothing_known(count: int) -> np.ndarray:
    evidence = np.zeros((count, count))
    np.fill_diagonal(evidence, np.nan)
    return evidence


def survey(seed: int, encounters: int = 120) -> tuple[np.ndarray, np.ndarray, Expected]:
    """Animals met once or more often, and evidence that is as good as it says (normal scores)."""
    draw = np.random.default_rng(seed)
    own = np.repeat(np.arange(encounters), draw.geometric(0.25, encounters))[:encounters]
    return own, *scored(own, draw)


def scored(own: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, Expected]:
    encounters = len(own)
    same = own[:, None] == own
    noise = np.triu(draw.normal(size=same.shape), 1)
    evidence = APART * (noise + noise.T + APART * same) - APART**2 / 2
    np.fill_diagonal(evidence, np.nan)
    share = (same.sum() - encounters) / (encounters * (encounters - 1))
    return evidence, Expected(share, share * (encounters - 1))


def test_where_all_others_are_looked_at_samples_have_the_number_as_their_mean():
    """Unbiased whatever was believed before; and a sample of all is the number itself."""

    def estimate(**how):
        decided = {"ask": lambda i, j: bool(OWN[i] == OWN[j]), **how}
        return estimate_population(nothing_known(7), Expected(0.3, 2.0), **decided)

    assert estimate().number == pytest.approx(4)
    found = [estimate(encounters=3, seed=seed) for seed in range(200)]
    assert np.std([each.number for each in found]) > 0.5
    assert np.mean([each.number for each in found]) == pytest.approx(4, abs=0.25)
    assert all(each.low <= each.number <= each.high for each in found)


def test_the_interval_holds_the_number_in_most_surveys_although_the_reviewer_errs():
    held, ratios = 0, []
    for seed in range(20):
        own, evidence, expected = survey(seed)
        reviewer = SimulatedReviewer({str(n): str(who) for n, who in enumerate(own)}, seed=seed)

        def ask(i, j, reviewer=reviewer, evidence=evidence, against=expected.against):
            chance = 1 / (1 + np.exp(against - evidence[i, j]))
            return reviewer.confirmed(str(i), str(j), chance) == "same"

        found = estimate_population(evidence, expected, ask, seed=seed)
        number = len(set(own))
        held += found.low <= number <= found.high
        ratios.append(found.number / number)
        assert not found.pending and found.encounters == 60
    assert held >= 17
    assert np.mean(ratios) == pytest.approx(1, abs=0.07)


def test_where_most_samples_have_no_animal_twice_the_interval_holds_the_number():
    own = np.append(np.arange(197), [197] * 3)
    for seed in range(20):
        found = estimate_population(
            *scored(own, np.random.default_rng(seed)),
            lambda i, j: bool(own[i] == own[j]),
            seed=seed,
        )
        assert found.low <= 198 <= found.high and found.high - found.low < 20


def test_what_helps_to_find_one_more_is_the_evidence_of_those_found():
    """Nothing speaks for 0 and 2 being one, but much for 0 and 1, and for 1 and 2."""
    evidence = np.full((3, 3), -6.0)
    evidence[0, 1] = evidence[1, 0] = 8
    evidence[1, 2] = evidence[2, 1] = 14
    np.fill_diagonal(evidence, np.nan)
    asked = []
    found = estimate_population(
        evidence, Expected(0.12, 0.24), lambda i, j: bool(asked.append((i, j)) or True)
    )
    assert found.number == 1 and len(asked) == found.asked == 6


def test_what_is_not_decided_is_pending_and_counts_with_its_probability():
    evidence = nothing_known(2)
    found = estimate_population(evidence, Expected(0.5, 0.5), lambda i, j: None)
    assert sorted(found.pending) == [(0, 1), (1, 0)] and found.asked == 0
    # As likely one animal (each encounter half of it) as two.
    assert found.number == pytest.approx(1.5)


def test_wrong_names_are_expected_by_their_probabilities():
    named = [(0.9, False), (0.5, True), (0.75, False)]
    assert wrong_names_left(named) == pytest.approx(0.35)


def test_a_simulated_reviewer_errs_as_often_as_a_person_and_where_persons_do():
    names = {str(n): str(n // 2) for n in range(40)}
    sides = {name: {"left", "right"} if int(name) % 20 else {"left"} for name in names}
    sides |= {"1": {"right"}, "21": {"right"}}
    reviewer = SimulatedReviewer(names, sides, seed=3)
    draw, errors, incomparable, asked = np.random.default_rng(0), [], 0, 20_000
    for _ in range(asked):
        # Every tenth pair cannot be compared.
        pair = (
            ("0", "1") if draw.random() < 0.1 else ("2", "3") if draw.random() < 0.5 else ("2", "4")
        )
        said = reviewer(*pair)
        truth = {"1": "incomparable", "3": "same", "4": "different"}[pair[1]]
        errors.append(said != truth)
        incomparable += said != truth == "incomparable"
    assert np.mean(errors) == pytest.approx(0.039, abs=0.006)
    assert incomparable / sum(errors) == pytest.approx(0.73, abs=0.06)
    assert reviewer.asked == asked
    # Of several at once, until one seems the same, is one answer.
    sure = SimulatedReviewer(names, sides, right=1.0)
    assert sure.of_lineup("2", ["4", "3", "6"]) == ["different", "same"]
    assert sure.of_lineup("2", ["4", "6"]) == ["different"] * 2
    assert (sure.asked, sure.looked) == (2, 4)
    again = SimulatedReviewer(names, sides, seed=3), SimulatedReviewer(names, sides, seed=3)
    first, second = ([each("2", "3") for _ in range(500)] for each in again)
    assert first == second
