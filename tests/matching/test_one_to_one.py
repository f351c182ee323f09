"""Photographs one with one, by a loop over descriptors and by pictures that are known."""

import numpy as np
import pytest

from openanimals.matching.geometry import check_matches
from openanimals.matching.keypoints import extract_keypoints
from openanimals.matching.local import LocalMatcher
from openanimals.matching.one_to_one import matched_spots, one_to_one
from tests.matching.test_lnbnn import crowd


def naive(query, gallery, candidates, ratio):
    """Yield query and gallery keypoints and weights, one descriptor after the other."""
    ours, theirs = query.descriptors.astype(float), gallery.descriptors.astype(float)
    for photograph in range(len(candidates)):
        for other in np.flatnonzero(candidates[photograph]):
            rows = np.flatnonzero(gallery.photographs == other)
            for keypoint in np.flatnonzero(query.photographs == photograph):
                if len(rows) < 2:
                    continue
                distance = ((theirs[rows] - ours[keypoint]) ** 2).sum(1)
                near = np.argsort(distance, kind="stable")
                first, second = distance[near[:2]]
                if second > ratio**2 * max(first, 1):
                    yield keypoint, rows[near[0]], second / max(first, 1)


@pytest.mark.parametrize("levels", [2, 200])
def test_matches_are_those_of_a_naive_loop(levels):
    query, gallery = crowd(1, 4, 30, levels), crowd(2, 9, 40, levels)
    gallery.descriptors[::7] = query.descriptors[0]  # the same in several photographs
    candidates = np.random.default_rng(3).random((4, 9)) < 0.6
    candidates[2, 4] = True
    for ratio in (1.0, 1.02):
        matches = one_to_one(query, gallery, candidates, ratio=ratio)
        expected = [*naive(query, gallery, candidates, ratio)]
        assert len(expected) > 10
        found = zip(matches.query_keypoints, matches.gallery_keypoints, strict=True)
        assert [*found] == [pair[:2] for pair in expected]
        np.testing.assert_allclose(matches.weights, [pair[2] for pair in expected], rtol=1e-12)
        np.testing.assert_array_equal(matches.query, query.photographs[matches.query_keypoints])
        np.testing.assert_array_equal(
            matches.gallery, gallery.photographs[matches.gallery_keypoints]
        )


def picture(seed=0, side=200):
    return (
        np.random.default_rng(seed)
        .integers(0, 255, (side // 8,) * 2, dtype=np.uint8)
        .repeat(8, axis=0)
        .repeat(8, axis=1)
    )


def test_spots_of_a_pair_are_where_they_belong():
    """A picture and its cut-out: every spot is shifted by the same, and none is found elsewhere."""
    whole = picture()
    part = whole[40:180, 24:190]
    spots = matched_spots(extract_keypoints(whole), extract_keypoints(part))
    assert len(spots.weights) > 20
    shift = spots.query_xy - spots.gallery_xy
    assert np.median(np.abs(shift - (24, 40))) < 0.5
    assert (np.abs(shift - (24, 40)).max(axis=1) < 4).mean() > 0.9
    assert (np.diff(spots.weights) <= 0).all()
    other = matched_spots(extract_keypoints(whole), extract_keypoints(picture(1)))
    assert other.weights.sum() < 0.2 * spots.weights.sum()


@pytest.mark.parametrize("rule", ["last", "ratio"])
def test_spots_of_a_gallery_make_its_scores(rule):
    """What is shown of a pair sums up to its score; the index is made once."""

    class Images(list):
        table = None

        def __getitem__(self, row):
            return super().__getitem__(row), None

    pictures = [picture(seed) for seed in range(6)]
    matcher = LocalMatcher(points=80, rule=rule, centre=None)
    query = matcher.prepare(Images([own[30:, 10:] for own in pictures[:3]]))
    gallery = matcher.prepare(Images(pictures))
    given = query, gallery, np.ones((3, 6), dtype=bool), np.arange(6)
    ((_, distances, named),) = matcher.score_blocks(*given)
    assert [*distances.argmin(1)] == [*named.argmin(1)] == [0, 1, 2]
    spots = matcher.spots(*given)
    for row in range(3):
        for column in range(6):
            score = spots(row, column).weights.sum()
            assert -distances[row, column] == pytest.approx(score, rel=1e-3, abs=1e-3)


def test_matches_come_sorted_by_photographs_as_the_check_wants_them():
    query, gallery = crowd(4, 3, 30, 3), crowd(5, 5, 30, 3)
    matches = one_to_one(query, gallery, np.ones((3, 5), dtype=bool), ratio=1.0)
    code = matches.query * 5 + matches.gallery
    assert (np.diff(code) >= 0).all()
    assert len(check_matches(matches, query, gallery).weights) <= len(matches.weights)
