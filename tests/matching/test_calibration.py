import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import brier_score_loss

from openanimals.matching.calibration import (
    Calibration,
    CalibrationError,
    Fusion,
    folds,
    reliability,
)


@pytest.fixture
def pairs():
    """Scores of two matchers for the same pairs, what is true, and the known probabilities."""
    generator = np.random.default_rng(0)
    logits = generator.normal(-2, 2, 20000)
    same = generator.random(20000) < expit(logits)
    individuals = [tuple(pair) for pair in generator.integers(0, 40, (20000, 2))]
    return logits, same, individuals


@pytest.mark.parametrize("kind", ["isotonic", "logistic"])
def test_known_probabilities_are_found_again(kind, pairs):
    logits, same, _ = pairs
    calibration = Calibration.fit(3 * logits + 7, same, kind)
    error = calibration(3 * logits + 7) - expit(logits)
    assert np.abs(error).mean() < 0.01
    rising = calibration.logit(np.sort(3 * logits + 7))
    assert (np.diff(rising) >= 0).all()


def test_a_logistic_function_goes_on_beyond_what_it_has_seen(pairs):
    logits, same, _ = pairs
    calibration = Calibration.fit(logits, same, "logistic")
    np.testing.assert_allclose(calibration.logit([-9.0, 9.0]), [-9, 9], atol=0.3)


@pytest.mark.parametrize("same", [np.ones(100, bool), np.arange(100) < 9, np.arange(100) > 8])
def test_too_few_pairs_are_refused_with_their_numbers(same):
    message = f"{same.sum()} pairs of one individual and {(~same).sum()} of two are too few"
    with pytest.raises(CalibrationError, match=message):
        Calibration.fit(np.arange(100.0), same)


@pytest.mark.parametrize("how", ["mean", "logistic"])
def test_two_matchers_that_know_different_things_are_better_together(how, pairs):
    logits, same, individuals = pairs
    generator = np.random.default_rng(1)
    scores = {name: logits + generator.normal(0, 2, len(logits)) for name in ("a", "b")}
    fusion = Fusion.fit(scores, same, individuals, how=how)
    alone = [brier_score_loss(same, part(scores[name])) for name, part in fusion.parts.items()]
    assert brier_score_loss(same, fusion(scores)) < min(alone)


def test_folds_share_no_individual(pairs):
    individuals = np.array(pairs[2])
    judged = np.zeros(len(individuals), int)
    for learn, judge in folds(pairs[2]):
        learnt, asked = {*individuals[learn].flat}, {*individuals[judge, 0]}
        assert learnt and asked and not learnt & asked
        judged += judge
    assert (judged == 1).all()


def test_reliability_is_told_range_by_range(pairs):
    logits, same, _ = pairs
    probabilities = expit(logits)
    table = reliability(probabilities, same)
    assert table["pairs"].sum() == len(same)
    for row in table.itertuples():
        inside = (probabilities >= row[1]) & (probabilities < row[2])
        assert row.pairs == inside.sum() and row.true == pytest.approx(same[inside].mean())
