import pytest

from openanimals.utils.registry import Registry, did_you_mean


@pytest.fixture
def colours():
    registry = Registry("colour")
    registry.register("red")((255, 0, 0))
    registry.register("dark green")((0, 64, 0))
    return registry


def test_entries_come_back_by_name(colours):
    assert colours.get("red") == (255, 0, 0)
    assert "red" in colours and "blue" not in colours
    assert list(colours) == ["dark green", "red"]


def test_unknown_name_is_explained(colours):
    with pytest.raises(ValueError) as error:
        colours.get("dark gren")
    assert str(error.value) == (
        "unknown colour 'dark gren' (did you mean 'dark green'?); known: dark green, red"
    )


def test_name_cannot_be_taken_twice(colours):
    with pytest.raises(ValueError, match="colour 'red' is registered already"):
        colours.register("red")(None)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("hyenaid2022", " (did you mean 'HyenaID2022'?)"),
        ("HyenaID", " (did you mean 'HyenaID2022'?)"),
        ("giraffe", ""),
        ("", ""),
    ],
)
def test_closest_name(name, hint):
    assert did_you_mean(name, ["HyenaID2022", "WhaleSharkID"]) == hint
