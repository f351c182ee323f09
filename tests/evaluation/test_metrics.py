import json

import numpy as np
import pytest

from openanimals.evaluation.metrics import Result, bootstrap_interval, percentage_interval
from tests.evaluation import rank


@pytest.fixture
def result():
    """Three queries over three images: right at once, right at rank 2, and without a match."""
    matches = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=bool)
    ranking = rank(np.tile(np.arange(3.0), (3, 1)), matches)
    names = np.array(["ada", "bo", "eve"], dtype=object), np.array(["ada", "bo", "ada"], object)
    return Result(ranking, *names, max_rank=5)


def test_reported_numbers(result):
    reported = result.as_dict()
    assert json.loads(json.dumps(reported)) == reported
    assert result.cmc.tolist() == [50, 100, 100, 100, 100]  # past the end of the gallery, too
    assert [reported[f"Rank-{k}"] for k in (1, 5, 10)] == [50, 100, 100]
    assert reported["mAP"] == pytest.approx(100 * ((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert reported["mINP"] == pytest.approx(100 * (2 / 3 + 1 / 2) / 2)
    counts = ("queries", "queries without match", "gallery", "identities")
    assert [reported[name] for name in counts] == [2, 1, 3, 3]
    assert reported["Rank-1 by chance"] == result.chance == pytest.approx(100 * (2 / 3 + 1 / 3) / 2)


def test_no_query_with_a_match():
    ranking = rank(np.zeros((2, 1)), np.zeros((2, 1), dtype=bool))
    with pytest.raises(ValueError, match="none of the 2 queries.* 1 gallery images"):
        Result(ranking, np.array(["ada", "bo"]), np.array(["cy"]))


def test_bootstrap_of_independent_values_is_the_normal_interval():
    values = 100.0 * (np.random.default_rng(0).random(400) < 0.7)
    low, high = bootstrap_interval(values, np.arange(400))
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.8)
    assert high == pytest.approx(values.mean() + half, abs=0.8)


def test_bootstrap_draws_whole_groups():
    groups = np.repeat([f"hyena {i}" for i in range(20)], 20)
    values = np.repeat(np.arange(20.0), 20)  # twenty independent values, each seen twenty times
    low, high = bootstrap_interval(values, groups)
    assert bootstrap_interval(values, groups) == (low, high)
    assert bootstrap_interval(values, groups, seed=1) != (low, high)
    assert (low, high) == bootstrap_interval(np.arange(20.0), np.arange(20))
    assert bootstrap_interval(np.array([1.0, 2.0]), ["one", "one"]) == (1.5, 1.5)


def test_bootstrap_against_plain_python():
    rng = np.random.default_rng(0)
    values, groups = rng.random(30).tolist(), rng.choice(list("abcdefg"), 30).tolist()
    members = {}
    for value, group in zip(values, groups, strict=True):
        members.setdefault(group, []).append(value)
    individuals = list(members.values())  # in order of first appearance
    stream, means = np.random.RandomState(3), []
    for _ in range(200):
        drawn = [individuals[i] for i in stream.randint(len(individuals), size=len(individuals))]
        means.append(np.mean([value for group in drawn for value in group]))
    means.sort()

    def quantile(q):
        below = int(q * 199)
        return means[below] + (q * 199 - below) * (means[below + 1] - means[below])

    found = bootstrap_interval(np.array(values), np.array(groups), seed=3, samples=200)
    assert found == pytest.approx((quantile(0.025), quantile(0.975)), rel=1e-12)


@pytest.mark.parametrize(("groups", "queries"), [(1, 1), (1, 9), (3, 4), (8, 2), (40, 2)])
@pytest.mark.parametrize("value", [0.0, 100.0, 50.0])
def test_an_interval_is_never_a_point(groups, queries, value):
    """Where all fare alike it is what a test of the share would not refuse: Wilson's."""
    low, high = percentage_interval(
        np.full(groups * queries, value), np.repeat(range(groups), queries)
    )
    for end in {low, high} - {0.0, 100.0}:
        share = end / 100
        assert abs(value / 100 - share) == pytest.approx(
            1.96 * (share * (1 - share) / groups) ** 0.5
        )
    assert 0 <= low <= value <= high <= 100 and high - low > 8


def test_many_groups_that_differ_have_the_bootstraps_interval():
    values, groups = 100.0 * (np.arange(36) % 3 > 0), np.arange(36) // 2
    assert percentage_interval(values, groups) == bootstrap_interval(values, groups)
    few = percentage_interval(values[:12], groups[:12])
    assert few[1] - few[0] > np.diff(bootstrap_interval(values[:12], groups[:12]))
    one_has_most = np.repeat([0, 1, 2], [10, 1, 1])
    assert np.diff(percentage_interval(values[:12], one_has_most)) > few[1] - few[0]


def test_a_part_counts_only_its_own():
    """Of three queries the first; of the images those that its ranking holds: 0 and 2."""
    distances = np.array([[0.0, 1, 2], [0, 1, 2]])
    removed = np.array([[False, True, False], [True] * 3])
    ranking = rank(distances, np.array([[0, 0, 1], [0, 1, 0]], dtype=bool), removed)
    names = np.array(["ada", "bo"], dtype=object), np.array(["cy", "bo", "ada"], dtype=object)
    whole = Result(ranking, *names, roc={"AUC": 75.0})
    part = whole.part(np.array([True, False]), np.array([True, False, True]))
    assert part.top.tolist() == [[0, 1, -1]]
    assert part.gallery_identities.tolist() == ["cy", "ada"]
    reported = part.as_dict()
    assert "AUC" not in reported  # its pairs are not those of the whole
    counts = ("queries", "queries without match", "gallery", "identities", "mAP")
    assert [reported[name] for name in counts] == [1, 0, 2, 2, 50]
