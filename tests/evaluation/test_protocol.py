import numpy as np
import pytest

from openanimals.evaluation.protocol import Pairs, uses_cameras

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
