import numpy as np
import pytest

from openanimals.evaluation.protocols import Pairs, uses_cameras

ALL = slice(None)


@pytest.mark.parametrize(
    ("name", "used"),
    [
        ("Animals-HyenaID2022", False),
        ("Animals-SyntheticHerd:identities=4", False),
        ("folder:photos", False),
        ("csv:photos.csv", False),
        ("Market1501", True),
        ("MSMT17", True),
    ],
)
def test_cameras_count_in_person_sets_only(name, used):
    assert uses_cameras(name) is used


def test_same_identity_and_camera_are_removed():
    pairs = Pairs(["ada", "bo"], ["ada", "ada", "bo", "cy"], ["1", "2"], ["1", "2", "1", "2"])
    matches, removed = pairs.block(ALL)
    assert matches.tolist() == [[True, True, False, False], [False, False, True, False]]
    assert removed.tolist() == [[True, False, False, False], [False] * 4]
    assert pairs.block(slice(1, 2))[0].tolist() == matches[1:].tolist()


def test_a_missing_camera_equals_no_other():
    _, removed = Pairs(["ada"] * 3, ["ada"] * 3, [None, "1", np.nan], [None, "1", None]).block(ALL)
    assert removed.tolist() == [[False] * 3, [False, True, False], [False] * 3]


def test_without_cameras_nothing_is_removed():
    assert Pairs([7, 8], [8]).block(ALL)[1] is None


def test_errors():
    with pytest.raises(ValueError, match="only the query has cameras"):
        Pairs(["ada"], ["ada"], query_cameras=["1"])
    with pytest.raises(ValueError, match="gallery: 1 cameras for 2 identities"):
        Pairs(["ada"], ["ada", "bo"], ["1"], ["1"])


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
    pairs = Pairs(*identities, *cameras, encounters=encounters, sides=sides)
    matches, removed = pairs.block(ALL)
    expected = naive_masks(query, gallery)
    assert (matches.tolist(), removed.tolist()) == expected
    left = [any(m and not r for m, r in zip(*rows, strict=True)) for rows in zip(*expected)]  # noqa: B905
    assert pairs.matched().tolist() == left


def test_encounters_remove_images_of_the_querys_own_individual_only():
    pairs = Pairs(["ada"], ["ada", "ada", "bo"], encounters=(["may"], ["may", "june", "may"]))
    assert pairs.block(ALL)[1].tolist() == [[True, False, False]]


def test_another_or_unknown_side_is_removed_of_all_individuals():
    sides = ["left", None], ["left", "right", None, "left"]
    matches, removed = Pairs(["ada"] * 2, ["ada", "ada", "ada", "bo"], sides=sides).block(ALL)
    assert removed.tolist() == [[False, True, True, False], [True] * 4]
    assert matches.tolist() == [[True, True, True, False]] * 2


def test_queries_with_a_match_are_known_without_features():
    names = ["ada", "bo", "eve"], ["ada", "bo"]
    assert Pairs(*names).matched().tolist() == [True, True, False]
    alone = Pairs(*names, encounters=([1, 2, 3], [1, 1]))
    assert alone.matched().tolist() == [False, True, False]
