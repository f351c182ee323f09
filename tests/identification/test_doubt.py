"""What is known of a group of encounters, from what is known of each."""

import math

import numpy as np
import pytest

from openanimals.identification.answers import Answer
from openanimals.identification.doubt import Doubt


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
