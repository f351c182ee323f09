from datetime import datetime, timedelta

import numpy as np
import pytest

from openanimals.evaluation.encounters import bursts, days


def naive_chains(identities, dates, gap):
    """Which images are chained `[N, N]`: within the gap, and whoever is chained through others."""
    count = len(dates)
    times = [datetime.fromisoformat(date) if date and "T" in date else None for date in dates]
    linked = [[i == j and times[i] is not None for j in range(count)] for i in range(count)]
    for i in range(count):
        for j in range(count):
            if identities[i] == identities[j] and times[i] and times[j]:
                linked[i][j] = abs(times[i] - times[j]) <= timedelta(minutes=gap)
    for k in range(count):  # Warshall: the paths through k
        for i in range(count):
            for j in range(count):
                linked[i][j] = linked[i][j] or (linked[i][k] and linked[k][j])
    return linked


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("gap", [0, 3, 10])
def test_chains_against_single_linkage_by_definition(seed, gap):
    rng = np.random.default_rng(seed)
    start = datetime(2025, 4, 1, 23, 40)  # bursts pass midnight
    minutes = rng.integers(0, 60, 40).tolist()  # many ties, and gaps of exactly 3 and 10
    dates = [(start + timedelta(minutes=m)).isoformat() for m in minutes]
    for row in rng.integers(0, 40, 6).tolist():
        dates[row] = None if row % 2 else "2025-04-01"
    identities = rng.choice(["ada", "bo", "cy"], 40).tolist()
    chains = bursts(identities, dates, gap)
    expected = naive_chains(identities, dates, gap)
    for i, one in enumerate(chains):
        assert (one is None) == ("T" not in (dates[i] or ""))
        for j, other in enumerate(chains):
            same = identities[i] == identities[j] and one is not None and one == other
            assert same == expected[i][j]


def test_a_chain_outlasts_the_gap_and_another_animal_does_not_join_it():
    dates = [f"2025-04-01T09:{minute:02}:00" for minute in (0, 10, 20, 31, 15)]
    first, second, third, fourth, other = bursts(["ada"] * 4 + ["bo"], dates, 10)
    assert first == second == third
    assert len({first, fourth, other}) == 3


@pytest.mark.parametrize("gap", [0.1, 0.7])
def test_gaps_may_be_fractions_of_a_minute(gap):
    later = (datetime(2025, 4, 1) + timedelta(minutes=gap)).isoformat()
    one, other = bursts(["ada"] * 2, ["2025-04-01T00:00:00", later], gap)
    assert one == other


def test_no_images_and_no_times():
    assert bursts([], [], 10) == []
    assert bursts(["ada", "ada"], [None, "2025-04-01"], 10) == [None, None]


def test_days():
    assert days(["2025-04-01", "2025-04-01T23:59:59", "2025-04-02T00:00:00", None]) == [
        *("2025-04-01", "2025-04-01", "2025-04-02", None)
    ]


@pytest.mark.parametrize("text", ["april the first", "2025-02-30T10:00", "2025-04-01T09:00+02:00"])
def test_what_is_no_date(text):
    for labels in (lambda dates: days(dates), lambda dates: bursts(["ada"] * 2, dates, 10)):
        with pytest.raises(ValueError, match="is no date; expected YYYY-MM-DD"):
            labels([None, text])
