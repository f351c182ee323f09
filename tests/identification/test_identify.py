"""Names, "new" and "unsure" for encounters, by a matcher whose features are planted."""

import numpy as np
import pandas as pd
import pytest

from openanimals.identification.identify import Identifier, identify
from openanimals.identification.learning import Settings
from openanimals.identification.listing import Listing
from openanimals.utils.errors import UserError
from tests.identification.planted import Planted, listing

EASY = Settings(wrong_names=0.05, wrong_new=0.2)


def herd(individuals=14, each=4) -> Listing:
    return listing(
        *(
            (f"animal{who}_{number}.jpg", f"animal{who}", {})
            for who in range(individuals)
            for number in range(each)
        )
    )


@pytest.fixture(scope="module")
def identifier():
    return Identifier(herd(), {"planted": Planted()}, EASY)


def test_known_animals_get_their_name_and_strangers_are_new(identifier):
    asked = [(f"animal{who}_{n}.jpg", None, {}) for who in range(14) for n in (90, 91)]
    asked += [(f"stranger{who}_1.jpg", None, {}) for who in range(28)]
    found = identifier.identify(listing(*asked))
    truth = [path.split("_")[0] for path, _, _ in asked]
    said = [match.proposed for match in found.matches]
    named = [(own, name) for own, name in zip(truth, said, strict=True) if name not in ("", "new")]
    assert sum(own == name for own, name in named) >= 24
    assert sum(own != name for own, name in named) <= 0.05 * len(asked)
    strangers = said[28:]
    assert strangers.count("new") >= 14
    assert said[:28].count("new") <= 2


def test_a_wrong_name_in_the_catalogue_is_found():
    wrong = herd()
    wrong.table.loc[wrong.table["path"] == "animal3_2.jpg", "identity"] = "animal5"
    found = Identifier(wrong, {"planted": Planted()}, EASY).identify(
        listing(("animal1_77.jpg", None, {}))
    )
    assert found.to_check[0].startswith("animal3_2.jpg: called animal5, looks like animal3 (")
    right = Identifier(herd(), {"planted": Planted()}, EASY)
    assert not right.identify(listing(("animal1_77.jpg", None, {}))).to_check


def test_the_likeliest_answer_is_decided_or_none():
    many_new = Settings(wrong_names=1e-9, wrong_new=0.9)
    identifier = Identifier(herd(), {"planted": Planted()}, many_new)
    asked = [(f"animal{who}_9{n}.jpg", None, {}) for who in range(5) for n in range(3)]
    asked += [(f"stranger_{n}.jpg", None, {}) for n in range(8)]
    matches = identifier.identify(listing(*asked)).matches
    likely = [match.new > match.candidates[0].probability for match in matches]
    assert 0 < sum(likely) < len(asked)
    assert [match.decision == "new" for match in matches] == likely


def test_that_no_name_can_be_given_is_said():
    strict = Identifier(herd(), {"planted": Planted()}, Settings(wrong_names=1e-9))
    found = strict.identify(listing(("animal1_77.jpg", None, {})))
    assert found.counts()["known"] == 0
    assert "no name is given" in found.note
    assert ("threshold: name", "none is high enough") in found.about()


def test_probabilities_make_one(identifier):
    small = Identifier(herd(5, 5), {"planted": Planted()}, EASY)
    found = small.identify(listing(("animal1_77.jpg", None, {}), ("stranger_1.jpg", None, {})))
    for match in found.matches:
        assert len(match.candidates) == 5
        assert sum(c.probability for c in match.candidates) + match.new == pytest.approx(1)


def test_a_candidate_shows_its_best_photograph(identifier):
    (match,) = identifier.identify(listing(("animal3_50.jpg", None, {}))).matches
    features = Planted().prepare(
        type(
            "",
            (),
            {"table": pd.concat([listing(("animal3_50.jpg", None, {})).table, herd().table])},
        )
    )
    own = [row for row, path in enumerate(herd().table["path"]) if path.startswith("animal3_")]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    best = max(own, key=lambda row: features[0] @ features[1 + row])
    assert match.candidates[0].name == "animal3"
    assert match.candidates[0].photograph == herd().table["path"][best]


def test_only_the_same_flank_is_compared():
    flanks = [
        (f"animal{who}_{view}{number}.jpg", f"animal{who}", {"viewpoint": view})
        for who in range(12)
        for view in ("left", "right")
        for number in range(3)
        if (who, view) != (0, "left")
    ]
    identifier = Identifier(listing(*flanks), {"planted": Planted()}, EASY)
    asked = listing(("stranger_1.jpg", None, {"viewpoint": "left"}))
    (match,) = identifier.identify(asked).matches
    chances = {c.name: c.probability for c in match.candidates}
    # Nobody has seen animal 0 from the left: it may be this one, as likely as before.
    assert chances["animal0"] / match.new == pytest.approx(1 / 12, rel=1e-6)
    shown = [c.photograph for c in match.candidates if c.name != "animal0"]
    assert all("_left" in photograph for photograph in shown)


def test_an_encounter_is_asked_about_once_and_pooled(identifier):
    burst = {"camera": "A", "date": "2025-04-01T10:00:00"}
    later = {"camera": "A", "date": "2025-04-01T10:20:00"}
    other = {"camera": "A", "date": "2025-04-01T15:00:00"}
    asked = listing(
        ("animal2_60.jpg", None, burst),
        ("animal2_61.jpg", None, later),
        ("animal2_62.jpg", None, other),
    )
    found = identifier.identify(asked).matches
    assert [match.annotations for match in found] == [
        ("animal2_60.jpg", "animal2_61.jpg"),
        ("animal2_62.jpg",),
    ]
    alone = identify(asked, herd(), Planted(), Settings(pooled=False))
    assert len(alone.matches) == 3 and not any(match.remark for match in alone.matches)


def test_two_boxes_in_a_photograph_are_never_one_animal(identifier):
    boxes = [("animal4_70.jpg", None, {"bbox": box}) for box in ("0 0 9 9", "20 0 9 9")]
    found = identifier.identify(listing(*boxes)).matches
    # A person who names one does not name the other.
    assert len({match.encounter for match in found}) == 2
    assert [match.proposed for match in found].count("animal4") <= 1


def test_evidence_takes_an_encounter_of_two_animals_apart(identifier):
    seen = enumerate((5, 6, 6, 5))
    asked = listing(*((f"animal{who}_8{n}.jpg", None, {"sequence": "visit"}) for n, who in seen))
    found = identifier.identify(asked).matches
    assert len({match.encounter for match in found}) == 4
    assert all("more than one" in match.remark for match in found)


@pytest.mark.parametrize("catalogue", [herd(14, 1), herd(1, 6)])
def test_with_too_little_to_learn_from_candidates_are_ranked_and_nothing_decided(catalogue):
    found = identify(listing(("animal0_9.jpg", None, {})), catalogue, Planted())
    (match,) = found.matches
    assert match.decision == "unsure"
    assert match.candidates[0].name == "animal0"
    assert "too few" in found.note


class Blind(Planted):
    """Sees nothing in photographs whose path has a word."""

    def __init__(self, word):
        super().__init__()
        self.word = word

    def prepare(self, images):
        blind = images.table["path"].str.contains(self.word).to_numpy()
        return np.where(blind[:, None], np.nan, super().prepare(images))

    def score_blocks(self, query, gallery, candidates, individuals):
        both = map(np.nan_to_num, (query, gallery))
        with np.errstate(invalid="ignore"):
            yield from super().score_blocks(*both, candidates, individuals)


def test_what_nobody_can_see_is_told():
    asked = listing(("dark_1.jpg", None, {}), ("animal1_9.jpg", None, {}))
    found = identify(asked, herd(), Blind("dark"), EASY)
    assert [match.decision for match in found.matches] == ["cannot tell", "known"]
    nothing = identify(asked, herd(1, 1), Blind("jpg"))
    assert nothing.counts()["cannot tell"] == 2 and "nothing is seen" in nothing.note


def test_bad_input_is_one_clear_error(identifier):
    with pytest.raises(UserError, match="no photograph to identify"):
        identifier.identify(listing())
    with pytest.raises(UserError, match="no photograph in the catalogue has the name"):
        Identifier(listing(("a.jpg", None, {})), {"planted": Planted()})
    with pytest.raises(UserError, match="wrong_names is 1; expected a share"):
        Settings(wrong_names=1)
