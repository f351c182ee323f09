"""Encounters by sequence, camera and time, and what is asked about together."""

import pytest

from openanimals.identification.catalogue_file import as_table
from openanimals.identification.encounters import encounters, pooled
from openanimals.utils.errors import UserError

DAY = "2025-04-01T"


def table(*rows):
    names = ("path", "identity", "camera", "date", "sequence", "bbox")
    return as_table([dict(zip(names, row, strict=False)) for row in rows])


def groups(found):
    """The rows of each name, in order."""
    return sorted([i for i, name in enumerate(found) if name == each] for each in set(found))


def test_a_camera_and_a_gap_in_time():
    rows = table(
        ("a.jpg", None, "A", DAY + "10:00:00"),
        ("b.jpg", None, "A", DAY + "11:30:00"),
        ("c.jpg", None, "A", DAY + "10:50:00"),  # links the two, though it comes later
        ("d.jpg", None, "B", DAY + "10:10:00"),
        ("e.jpg", None, "A", DAY + "12:31:00"),
        ("f.jpg", None, "A", "2025-04-01"),  # no time of day
        ("g.jpg", None, None, DAY + "10:00:00"),  # no camera
    )
    assert groups(encounters(rows)) == [[0, 1, 2], [3], [4], [5], [6]]
    assert groups(encounters(rows, gap=61)) == [[0, 1, 2, 4], [3], [5], [6]]


def test_a_sequence_counts_whatever_the_time():
    rows = table(
        ("a.jpg", None, "A", DAY + "10:00:00", "7"),
        ("b.jpg", None, "A", DAY + "10:01:00", "8"),
        ("c.jpg", None, "B", None, "7"),
    )
    assert groups(encounters(rows)) == [[0, 2], [1]]


def test_two_known_individuals_are_two_encounters():
    rows = table(
        ("a.jpg", "Ada", "A", DAY + "10:00:00"),
        ("b.jpg", "Bo", "A", DAY + "10:01:00"),
        ("c.jpg", "Ada", "A", DAY + "10:02:00"),
        ("d.jpg", "Ada", None, DAY + "10:02:00"),  # without a camera, the name links
        ("e.jpg", "Ada", None, DAY + "10:40:00"),
        ("f.jpg", "Ada", "A", None, "s"),
        ("g.jpg", "Bo", "A", None, "s"),
    )
    assert groups(encounters(rows)) == [[0, 2], [1], [3, 4], [5], [6]]


def test_two_animals_in_a_photograph_are_asked_about_one_by_one():
    rows = table(
        ("a.jpg", None, "A", DAY + "10:00:00"),
        ("b.jpg", None, "A", DAY + "10:01:00", None, "0 0 5 5"),
        ("b.jpg", None, "A", DAY + "10:01:00", None, "9 0 5 5"),
        ("c.jpg", None, "B", DAY + "10:00:00"),
        ("d.jpg", None, "B", DAY + "10:01:00"),
    )
    assert pooled(rows, encounters(rows)).tolist() == [0, 1, 2, 3, 3]


def test_a_gap_is_positive():
    with pytest.raises(UserError, match="the gap between two encounters is 0 minutes"):
        encounters(table(("a.jpg",)), gap=0)
