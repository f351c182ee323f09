"""All individuals for each encounter, against loops; and the file."""

import numpy as np
import pytest

from openanimals.identification.ranking import FILE, Ranking, most_alike
from openanimals.utils.errors import FileError
from tests.identification.planted import Planted, listing
from tests.identification.test_identify import Identifier, herd


def test_most_alike_is_the_least_distance_of_each_individual():
    draw = np.random.default_rng(3)
    distances = draw.normal(size=(3, 20))
    individuals = draw.permutation(np.arange(20) % 6)
    distances[:, individuals == 4] = np.inf
    photograph, query = most_alike(distances, individuals)
    for who in range(6):
        pairs = [(distances[q, g], q, g) for q in range(3) for g in np.where(individuals == who)[0]]
        least, q, g = min(pairs)
        assert (photograph[who], query[who]) == ((g, q) if np.isfinite(least) else (-1, 0))


def test_what_is_written_is_read_and_goes_on_where_the_table_ends(tmp_path):
    burst = {"camera": "A", "date": "2025-04-01T10:00:00"}
    asked = [(f"animal2_{n}.jpg", None, burst) for n in (60, 61)] + [("stranger_1.jpg", None, {})]
    found = Identifier(herd(), {"planted": Planted()}).identify(listing(*asked))
    found.write(tmp_path)
    read = Ranking.read(tmp_path)
    assert read.encounters == [match.encounter for match in found.matches]
    assert len(read.names) == 14 > len(found.matches[0].candidates)
    for row, match in enumerate(found.matches):
        assert read.probability[row].sum() + match.new == pytest.approx(1, abs=1e-5)
        for candidate in match.candidates:
            who = read.names.index(candidate.name)
            assert read.probability[row, who] == pytest.approx(candidate.probability, rel=1e-6)
            assert read.photographs[read.photograph[row, who]] == candidate.photograph
            assert match.annotations[read.query[row, who]] == candidate.query


def test_individuals_that_are_one_now_have_what_is_most_probable_of_them():
    draw = np.random.default_rng(0)
    chances, (photograph, query) = draw.random((9, 5)), draw.integers(0, 99, (2, 9, 5))
    ranking = Ranking([*"abcdefghi"], [*"VWXYZ"], [], chances, photograph, query)
    found = ranking.called(["P", "Q", None, "P", "R"])
    assert found.names == ["P", "Q", "R"]
    for row in range(9):
        best = max((0, 3), key=lambda column: chances[row, column])
        assert found.probability[row] == pytest.approx(
            [chances[row, 0] + chances[row, 3], chances[row, 1], chances[row, 4]]
        )
        for own, read in ((photograph, found.photograph), (query, found.query)):
            assert read[row].tolist() == own[row, [best, 1, 4]].tolist()


@pytest.mark.parametrize("content", [None, b"", b"not a ranking at all"])
def test_a_damaged_file_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    with pytest.raises(FileError, match=f"{FILE}.*identify write it again"):
        Ranking.read(tmp_path)
