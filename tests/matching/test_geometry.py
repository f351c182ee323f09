"""The geometric check against maps that are known."""

import numpy as np
import pytest

from openanimals.matching.geometry import check_matches, shortlisted
from openanimals.matching.lnbnn import KeypointTable, Matches, photograph_scores

SIDE = 300.0
AFFINE = np.array([[1.3, 0.1, 20], [-0.05, 1.1, -30], [0, 0, 1]])
PROJECTIVE = np.array([[1.1, 0.05, 10], [0.02, 0.9, 15], [1e-3, -4e-4, 1]])


def mapped(matrix, xy):
    """Places under a map, and how much it enlarges lengths there."""

    def at(places):
        out = np.c_[places, np.ones(len(places))] @ matrix.T
        return out[:, :2] / out[:, 2:]

    right, down = (at(xy + step) - at(xy) for step in ([1e-4, 0], [0, 1e-4]))
    area = np.abs(right[:, 0] * down[:, 1] - right[:, 1] * down[:, 0]) / 1e-8
    return at(xy), np.sqrt(area)


def planted(maps, true=40, false=160, seed=0):
    """A query and a gallery photograph for each map, of whose matches one in five is true."""
    rng = np.random.default_rng(seed)
    count = true + false
    query, gallery, scales, theirs = [], [], [], []
    for matrix in maps:
        xy = rng.uniform(0, SIDE, (count, 2))
        size = rng.uniform(1, 8, count)
        places, factor = mapped(matrix, xy)
        places += rng.normal(0, 2, places.shape)
        lost = np.arange(count) >= true
        places[lost] = rng.uniform(0, SIDE, (false, 2))
        factor[lost] = rng.uniform(0.3, 3, false)
        query.append(xy)
        scales.append(size)
        gallery.append(places)
        theirs.append(size * factor * rng.uniform(0.9, 1.1, count))
    rows = np.arange(len(maps) * count)
    photographs = rows // count
    tables = [
        KeypointTable(
            photographs,
            np.concatenate(xy).astype(np.float32),
            np.concatenate(size).astype(np.float32),
            np.ones(len(rows), np.float32),
            np.zeros((len(rows), 128), np.uint8),
            np.full(len(maps), np.hypot(SIDE, SIDE)),
        )
        for xy, size in ((query, scales), (gallery, theirs))
    ]
    weights = rng.uniform(0.5, 1.5, len(rows))
    return Matches(photographs, photographs, rows, rows, weights), *tables


@pytest.mark.parametrize("matrix", [AFFINE, PROJECTIVE], ids=["affine", "projective"])
def test_a_planted_map_is_found_among_80_percent_outliers(matrix):
    matches, query, gallery = planted([matrix])
    kept = check_matches(matches, query, gallery, place=0.04).query_keypoints
    true = kept < 40
    assert true.sum() >= 38
    # What chance brings near the map is no mistake; most of the 160 outliers are far off.
    places, _ = mapped(matrix, query.xy[kept].astype(float))
    error = np.linalg.norm(places - gallery.xy[kept], axis=1)
    assert error.max() < 0.06 * np.hypot(SIDE, SIDE)
    assert (~true).sum() <= 8


def test_a_homography_finds_what_a_shift_and_a_size_cannot():
    matches, query, gallery = planted([AFFINE])
    least = check_matches(matches, query, gallery, place=0.04, homography=0).query_keypoints
    most = check_matches(matches, query, gallery, place=0.04).query_keypoints
    assert (least < 40).sum() < 30 < 38 <= (most < 40).sum()


def test_the_order_of_photographs_does_not_matter():
    maps = [AFFINE, PROJECTIVE, np.eye(3)]
    matches, query, gallery = planted(maps)
    kept = check_matches(matches, query, gallery)
    turn = np.array([2, 0, 1])
    parts = [planted(maps)[0].select(matches.query == old) for old in turn]
    other = Matches(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    other = other._replace(query=np.repeat([0, 1, 2], 200), gallery=np.repeat([0, 1, 2], 200))
    again = check_matches(other, query, gallery)
    scores, turned = photograph_scores(kept, 3, 3), photograph_scores(again, 3, 3)
    assert (turned.diagonal() == scores.diagonal()[turn]).all()
    assert len(set(scores.diagonal())) == 3


def test_few_matches_prove_nothing():
    matches, query, gallery = planted([np.eye(3)], true=3, false=0)
    assert len(check_matches(matches, query, gallery).weights) == 0
    matches, query, gallery = planted([np.eye(3)], true=4, false=0)
    assert len(check_matches(matches, query, gallery).weights) == 4
    nothing = matches.select(np.zeros(4, dtype=bool))
    assert len(check_matches(nothing, query, gallery).weights) == 0


def test_points_in_one_place_do_not_break_the_homography():
    matches, query, gallery = planted([np.eye(3)], true=12, false=0)
    for one in (query, gallery):
        one.xy[:] = one.xy[0]
        one.scale[:] = 2
    assert len(check_matches(matches, query, gallery).weights) == 12


def test_a_shortlist_keeps_the_best_photographs_and_their_equals():
    weights = np.array([3.0, 1, 2, 1, 5])
    queries, gallery = np.array([0, 0, 0, 0, 1]), np.array([0, 1, 2, 3, 1])
    matches = Matches(queries, gallery, np.arange(5), np.arange(5), weights)
    assert shortlisted(matches, 2, 4, 2).gallery.tolist() == [0, 2, 1]
    assert shortlisted(matches, 2, 4, 3).gallery.tolist() == [0, 1, 2, 3, 1]
    assert shortlisted(matches, 2, 4, 9).gallery.tolist() == [0, 1, 2, 3, 1]
