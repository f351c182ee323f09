"""Probabilities of names and of "new", against Bayes' rule where scores are drawn from a model."""

import numpy as np
import pytest

from openanimals.identification.open_set import Asked, OpenSet, OpenSetError, left_out, threshold

APART = 3.0  # of the scores of one individual from those of two, in units of their spread


def drawn(encounters: int, individuals: int, known: bool, seed: int) -> Asked:
    """Encounters whose scores are normal: the odds of a match are then exp(3 s - 4.5)."""
    draw = np.random.default_rng(seed)
    own = draw.integers(0, individuals, encounters)
    scores = draw.normal(size=(encounters, individuals, 1))
    if known:
        scores[np.arange(encounters), own, 0] += APART
    return Asked(scores, own if known else np.full(encounters, individuals), own)


def by_bayes(scores: np.ndarray, known: float) -> list[float]:
    """The probability of each individual and of a new one, one encounter, as a loop."""
    odds = [known / len(scores) * np.exp(APART * s - APART**2 / 2) for s in scores] + [1 - known]
    return [each / sum(odds) for each in odds]


@pytest.mark.parametrize("known", [0.5, 0.9])
def test_it_learns_what_the_scores_are_worth(known):
    asked = [drawn(3000, 20, True, 0), drawn(3000, 20, False, 1)]
    learnt = OpenSet.fit(asked, known)
    # That a score stands out says nearly the same again: noise has mean 0 and deviation 1.
    assert sum(learnt.weights) == pytest.approx(APART, rel=0.1)
    assert learnt.constant == pytest.approx(-(APART**2) / 2, rel=0.12)


def test_probabilities_are_those_of_bayes_and_make_one():
    exact = OpenSet((APART, 0.0), -(APART**2) / 2)
    scores = drawn(20, 7, True, 3).scores
    named, new = exact(scores, 0.7)
    assert np.allclose(named.sum(axis=1) + new, 1)
    for row in range(20):
        assert np.allclose([*named[row], new[row]], by_bayes(scores[row, :, 0], 0.7))


def test_a_larger_catalogue_asks_for_a_better_match():
    """Learnt in a small one, the probabilities are still true in one of 20 times as many."""
    learnt = OpenSet.fit([drawn(6000, 10, True, 0), drawn(6000, 10, False, 1)])
    large = drawn(1000, 200, True, 2), drawn(1000, 200, False, 3)
    sure = np.concatenate([learnt(each.scores)[0].max(axis=1) for each in large])
    right = np.concatenate([learnt(each.scores)[0].argmax(axis=1) == each.truth for each in large])
    for low in (0.2, 0.4, 0.6, 0.8):
        some = (sure >= low) & (sure < low + 0.2)
        error = 3 * np.sqrt(0.25 / some.sum())
        assert right[some].mean() == pytest.approx(sure[some].mean(), abs=error)


def test_how_far_a_score_stands_out_is_measured_against_all_others():
    scores = np.random.default_rng(0).normal(size=(3, 8, 1))
    scores[1, 2] = np.nan
    named, new = OpenSet((0.0, 1.0), 0.0)(scores, 0.5)
    for row in range(3):
        for column in range(8):
            own, others = scores[row, column, 0], np.delete(scores[row, :, 0], column)
            others = others[~np.isnan(others)]
            out = 0 if np.isnan(own) else (own - others.mean()) / others.std()
            assert named[row, column] / new[row] == pytest.approx(np.exp(out) / 8)


def test_what_cannot_be_compared_stays_as_likely_as_it_was():
    exact = OpenSet((APART, 0.0), -(APART**2) / 2)
    scores = np.array([[[-9.0], [np.nan], [-9.0]]])
    named, new = exact(scores, 0.5)
    assert named[0, 1] == pytest.approx((1 / 6) / (1 / 6 + 1 / 2))
    assert new[0] == pytest.approx(3 / 4)


def test_those_left_out_teach_nothing_about_themselves():
    """An individual whose scores would mislead is judged by weights that never saw it."""
    asked = [drawn(60, 6, True, 0), drawn(60, 6, False, 1)]
    whole = left_out(asked)
    assert [named.shape for named, _ in whole] == [(60, 6), (60, 6)]
    changed = Asked(asked[0].scores.copy(), asked[0].truth, asked[0].own)
    changed.scores[changed.own == 2] *= -5
    again = left_out([changed, asked[1]])
    assert not np.allclose(again[1][0][asked[1].own == 0], whole[1][0][asked[1].own == 0])
    assert np.allclose(again[1][0][asked[1].own == 2], whole[1][0][asked[1].own == 2])


def test_too_few_encounters_are_refused():
    with pytest.raises(OpenSetError, match=r"^9 encounters .* too few .* at least 10"):
        OpenSet.fit([drawn(9, 5, True, 0), drawn(50, 5, False, 1)])


def test_a_threshold_keeps_its_rate_and_is_the_lowest():
    draw = np.random.default_rng(0)
    sure = np.round(draw.uniform(size=400), 2)  # with ties
    right = draw.uniform(size=400) < sure
    weights, due = np.ones(400), np.ones(400, bool)
    chosen = threshold(sure, right, weights, due, 0.02)

    def kept(at):
        named = sure >= at
        return max((named & ~right).sum(), (1 - sure)[named].sum()) <= 0.02 * 400

    assert kept(chosen.probability)
    lower = [at for at in np.unique(sure) if at < chosen.probability]
    assert not any(kept(at) for at in lower[-1:])
    assert chosen.right == pytest.approx((right & (sure >= chosen.probability)).sum() / 400)


def test_no_threshold_is_low_enough_for_answers_that_are_all_wrong():
    none = threshold(np.full(50, 0.9), np.zeros(50, bool), np.ones(50), np.ones(50, bool), 0.01)
    assert none.probability > 1
