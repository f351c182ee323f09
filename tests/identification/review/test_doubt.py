"""What is known of a group of encounters, from what is known of each."""

import math
from dataclasses import replace

import numpy as np
import pytest

from openanimals.identification.review.answers import Answer
from openanimals.identification.review.doubt import UNLIKE, Doubt


def same(one: int, other: int) -> Answer:
    return Answer(one, other, "same", "Ada", "2026-01-01T00:00:00+00:00", "", (1,), True)


def doubt_of(probability, pairs, views=None):
    probability = np.array(probability)
    none = np.zeros(0)
    pairs = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Doubt(
        probability,
        1 - probability.sum(axis=1),
        np.ones(len(probability), int),
        pairs,
        np.full(len(pairs), 0.5) if len(pairs) else none,
        0.01,
        np.ones((len(probability), 1), bool) if views is None else np.array(views),
        {f"animal{n}": n for n in range(probability.shape[1])},
    )


def test_encounters_of_one_animal_speak_together():
    """Their odds are multiplied, less what was known before, with the root of their number."""
    first, second = [0.5, 0.2, 0.1], [0.4, 0.05, 0.3]
    doubt = doubt_of([first, second, [0.1, 0.1, 0.1]], [(0, 1)])
    doubt.take([same(0, 1)])
    odds = []
    for k in range(3):
        each = [math.log(p[k] / (1 - sum(p))) + math.log(3) for p in (first, second)]
        odds.append(math.exp(sum(each) / math.sqrt(2) - math.log(3)))
    expected = [one / (1 + sum(odds)) for one in odds]
    chances, new = doubt.probabilities(np.arange(3))
    assert chances[0] == pytest.approx(expected)
    assert chances[1] == pytest.approx(expected)
    assert new[0] == pytest.approx(1 / (1 + sum(odds)))
    assert chances[2] == pytest.approx([0.1] * 3)


def test_what_is_impossible_is_a_number_too():
    doubt = doubt_of([[1.0, 0.0], [1.0, 0.0]], [(0, 1)])
    doubt.take([same(0, 1)])
    chances, new = doubt.probabilities(np.arange(2))
    assert chances[0] == pytest.approx([1, 0], abs=1e-9)
    assert new[0] == pytest.approx(0, abs=1e-9)


def test_groups_are_compared_by_all_their_pairs_that_can_be():
    """Logarithms of likelihood ratios are added, over the root of their number."""
    odds = math.log(0.99 / 0.01)  # against two of one animal, as a share of 0.01 is expected to be
    listed = odds + math.log(0.5 / 0.5)
    for views, pairs, says in (
        (None, [(0, 1), (0, 2), (1, 2)], 2 * listed / math.sqrt(2)),
        (None, [(0, 1), (0, 2)], (listed + UNLIKE) / math.sqrt(2)),  # the third is not likely
        ([[1, 0], [1, 1], [0, 1]], [(0, 1), (1, 2)], listed),  # from one side and the other
    ):
        doubt = doubt_of([[0.0]] * 3, pairs, views)
        doubt.take([same(0, 1)])
        found = [chance for other in (0, 1) for like, chance in doubt.like(other) if like == 2]
        assert found == pytest.approx([1 / (1 + math.exp(odds - says))] * (len(pairs) - 1))


def test_encounters_with_one_name_speak_together_of_a_third():
    first = [0.5, 0.2]
    doubt = doubt_of([[0.3, 0.1], [0.2, 0.1], first], [(0, 2), (1, 2)])
    named = Answer(0, "animal1", "same", "Ada", "2026-01-01T00:00:00+00:00", "", (1,), True)
    doubt.take([named, replace(named, encounter=1, numbers=(2,))])
    odds = [p / 0.3 for p in first]
    pairs = 2 * math.log(0.99 / 0.01)  # of pairs as likely as not
    alone = math.log(odds[1]) + math.log(2)
    odds[1] = math.exp((alone + pairs) / math.sqrt(3) - math.log(2))
    chances, _ = doubt.probabilities(np.arange(3))
    assert chances[2] == pytest.approx([one / (1 + sum(odds)) for one in odds])
