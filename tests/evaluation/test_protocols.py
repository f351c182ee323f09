from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from openanimals.evaluation.protocols import Protocol, bursts, days, paper

ALL = slice(None)


def test_a_table_says_which_cameras_count():
    """Images that have no counted camera, as those of animals, are never removed."""
    query = pd.DataFrame({"identity": ["ada"], "camera": ["1"], "counted_camera": [None]})
    assert paper(query, query).masks(ALL)[1] is None
    assert paper(query.drop(columns="counted_camera"), query).masks(ALL)[1] is None
    person = query.assign(counted_camera="1")
    assert paper(person, person).masks(ALL)[1].tolist() == [[True]]
    both = pd.concat([query, person])  # of sources of both kinds
    assert paper(person, both).masks(ALL)[1].tolist() == [[False, True]]


def test_same_identity_and_camera_are_removed():
    protocol = Protocol(
        (["ada", "bo"], ["ada", "ada", "bo", "cy"]), (["1", "2"], ["1", "2", "1", "2"])
    )
    matches, removed = protocol.masks(ALL)
    assert matches.tolist() == [[True, True, False, False], [False, False, True, False]]
    assert removed.tolist() == [[True, False, False, False], [False] * 4]
    assert protocol.masks(slice(1, 2))[0].tolist() == matches[1:].tolist()


def test_a_missing_camera_equals_no_other():
    _, removed = Protocol(
        (["ada"] * 3, ["ada"] * 3), ([None, "1", np.nan], [None, "1", None])
    ).masks(ALL)
    assert removed.tolist() == [[False] * 3, [False, True, False], [False] * 3]


def test_without_cameras_nothing_is_removed():
    assert Protocol(([7, 8], [8])).masks(ALL)[1] is None


def test_errors():
    with pytest.raises(ValueError, match="gallery: 1 cameras for 2 identities"):
        Protocol((["ada"], ["ada", "bo"]), (["1"], ["1"]))


def naive_masks(query, gallery):
    """Matches and removed pairs by two loops over (identity, camera, encounter, side)."""

    def same(a, b):
        return a is not None and a == b

    matches = [[q[0] == g[0] for g in gallery] for q in query]
    removed = [
        [
            (q[0] == g[0] and (same(q[1], g[1]) or same(q[2], g[2]))) or not same(q[3], g[3])
            for g in gallery
        ]
        for q in query
    ]
    return matches, removed


@pytest.mark.parametrize("seed", range(5))
def test_all_rules_at_once_against_two_loops(seed):
    rng = np.random.default_rng(seed)

    def images(count):
        columns = [rng.choice(values, count) for values in (list("abcd"), [1, 2, 0], [1, 2, 0])]
        side = rng.choice(["left", "right", ""], count)
        return [(i, c or None, e or None, s or None) for i, c, e, s in zip(*columns, side)]  # noqa: B905

    query, gallery = images(12), images(30)
    (identities, cameras, encounters, sides) = (
        ([image[k] for image in query], [image[k] for image in gallery]) for k in range(4)
    )
    protocol = Protocol(identities, cameras, encounters=encounters, viewpoints=sides)
    matches, removed = protocol.masks(ALL)
    expected = naive_masks(query, gallery)
    assert (matches.tolist(), removed.tolist()) == expected
    left = [any(m and not r for m, r in zip(*rows, strict=True)) for rows in zip(*expected)]  # noqa: B905
    assert protocol.matched().tolist() == left


def test_encounters_remove_images_of_the_querys_own_individual_only():
    protocol = Protocol(
        (["ada"], ["ada", "ada", "bo"]), encounters=(["may"], ["may", "june", "may"])
    )
    assert protocol.masks(ALL)[1].tolist() == [[True, False, False]]


def test_another_or_unknown_side_is_removed_of_all_individuals():
    sides = ["left", None], ["left", "right", None, "left"]
    matches, removed = Protocol((["ada"] * 2, ["ada", "ada", "ada", "bo"]), viewpoints=sides).masks(
        ALL
    )
    assert removed.tolist() == [[False, True, True, False], [True] * 4]
    assert matches.tolist() == [[True, True, True, False]] * 2


def test_queries_with_a_match_are_known_without_features():
    names = ["ada", "bo", "eve"], ["ada", "bo"]
    assert Protocol(names).matched().tolist() == [True, True, False]
    alone = Protocol(names, encounters=([1, 2, 3], [1, 1]))
    assert alone.matched().tolist() == [False, True, False]


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
