"""Keypoints of drawn spots, whose places and sizes are known."""

import numpy as np
import pytest

from openanimals.matching.keypoints import extract_keypoints
from openanimals.utils.errors import UserError

cv2 = pytest.importorskip("cv2", exc_type=ImportError)

SPOTS = [(40.0, 50.0, 3.0), (120.0, 60.0, 5.0), (80.0, 130.0, 8.0), (170.0, 150.0, 4.0)]


def spotted(height=200, width=220, spots=SPOTS):
    """Gaussian spots (x, y, standard deviation) on grey."""
    y, x = np.mgrid[:height, :width]
    image = np.full((height, width), 90.0)
    for left, top, sigma in spots:
        image += 120 * np.exp(-((x - left) ** 2 + (y - top) ** 2) / (2 * sigma**2))
    return np.rint(image).astype(np.uint8)


@pytest.mark.parametrize("detector", ["dog", "hessian"])
@pytest.mark.parametrize("longest", [220, 330, 110])
def test_spots_are_found_with_their_sizes(detector, longest):
    found = extract_keypoints(spotted(), detector=detector, longest=longest)
    for x, y, sigma in SPOTS:
        if sigma * longest / 220 < 2:
            continue
        off = np.hypot(*(found.xy - (x, y)).T)
        nearest = np.argmin(off + 10 * np.abs(np.log(found.scale / sigma)))
        assert off[nearest] < 0.5 * max(1, 220 / longest)  # pixels of what is searched
        # Both measures are strongest near the size of the spot itself.
        assert 0.7 < found.scale[nearest] / sigma < 1.3


@pytest.mark.parametrize("detector", ["dog", "hessian"])
def test_descriptors_are_of_one_length_and_do_not_depend_on_the_place(detector):
    rng = np.random.default_rng(0)
    spots = [
        (float(x), float(y), float(s))
        for x, y, s in rng.uniform([30, 30, 2], [190, 170, 6], (25, 3))
    ]
    image = cv2.GaussianBlur(spotted(spots=spots), (0, 0), 1)
    one = extract_keypoints(image[:180, :200], detector=detector, longest=200)
    other = extract_keypoints(image[8:188, 16:216], detector=detector, longest=200)
    lengths = np.linalg.norm(one.descriptors.astype(float), axis=1)
    assert one.descriptors.dtype == np.uint8
    np.testing.assert_allclose(lengths, 512, atol=8)
    off = np.linalg.norm(one.xy[:, None] - other.xy - (16, 8), axis=2)
    same = np.argwhere((off < 0.3) & (np.abs(np.log(one.scale[:, None] / other.scale)) < 0.05))
    inner = [pair for pair in same if (np.abs(one.xy[pair[0]] - (108, 94)) < (50, 45)).all()]
    assert len(inner) >= 5
    distance = [
        np.linalg.norm(one.descriptors[a].astype(float) - other.descriptors[b]) for a, b in inner
    ]
    assert np.median(distance) < 60  # of at most 724


@pytest.mark.parametrize("detector", ["dog", "hessian"])
def test_the_strongest_within_the_mask(detector):
    mask = np.zeros((200, 220), dtype=bool)
    mask[:, :110] = True
    every = extract_keypoints(spotted(), detector=detector, longest=220)
    within = extract_keypoints(spotted(), mask, detector=detector, longest=220)
    assert 0 < len(within.xy) < len(every.xy)
    assert (within.xy[:, 0] < 110).all()
    first = extract_keypoints(spotted(), detector=detector, longest=220, points=2)
    assert (first.xy == every.xy[:2]).all()


def test_places_in_the_middle_are_preferred():
    spots = [(110.0, 100.0, 4.0), (40.0, 40.0, 4.0)]
    image = spotted(spots=spots).astype(int)
    image[:80] = (image[:80] - 90) * 5 // 4 + 90  # a little stronger at the edge
    for centre, expected in ((None, 40), ((0.5, 0.5), 110)):
        found = extract_keypoints(
            image.astype(np.uint8), detector="hessian", longest=220, points=1, centre=centre
        )
        assert found.xy[0, 0] == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("detector", ["dog", "hessian"])
@pytest.mark.parametrize("shape", [(60, 80), (3, 200, 3), (1, 1)])
def test_nothing_to_find(detector, shape):
    found = extract_keypoints(np.full(shape, 77, np.uint8), detector=detector, longest=100)
    assert found.xy.shape == (0, 2) and found.scale.shape == (0,)
    assert found.descriptors.shape == (0, 128) and found.size == shape[1::-1]


@pytest.mark.parametrize(
    ("pixels", "wrong", "message"),
    [
        (np.zeros((5, 5, 4), np.uint8), {}, r"uint8 of the shape \[5, 5, 4\]"),
        (np.zeros((5, 5)), {}, "is float64"),
        (spotted(), {"mask": np.ones((3, 3), bool)}, r"expected bool \[200, 220\]"),
        (spotted(), {"detector": "sift"}, "is 'sift'; it can be dog, hessian"),
        (spotted(), {"points": 0}, "points of keypoints is 0; expected a number above 0"),
    ],
)
def test_wrong_input_is_named(pixels, wrong, message):
    with pytest.raises(UserError, match=message):
        extract_keypoints(pixels, **wrong)
