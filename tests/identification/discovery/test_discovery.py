"""Groups of unknown animals, by a matcher whose features are planted, in Python and by commands."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from openanimals.cli import main
from openanimals.identification.catalogue_file import annotation_ids, write_catalogue
from openanimals.identification.decisions.evidence import Evidence
from openanimals.identification.discovery.discover import discover, learn_pairs
from openanimals.identification.discovery.pair_evidence import (
    Expected,
    PairEvidence,
    expect,
    pair_probabilities,
    pair_weights,
)
from openanimals.identification.discovery.run import how_many
from openanimals.identification.learning import Settings
from openanimals.identification.listing import decisions_of
from openanimals.matching.matcher import MATCHER_REGISTRY
from openanimals.utils.errors import UserError
from tests.identification.planted import Planted, listing

MATCHERS = {"planted": Planted(noise=0.06)}


def herd(named=10, unknown=6, each=4, **more):
    """Rows of animals with names and of others without."""
    rows = [(f"named{n}_{k}.jpg", f"named{n}", more) for n in range(named) for k in range(each)]
    return rows + [(f"wild{n}_{k}.jpg", None, more) for n in range(unknown) for k in range(each)]


def found_in(rows, **how):
    return discover(listing(*rows), MATCHERS, **how)


def animals_by_group(discovery) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for member in discovery.members:
        found.setdefault(member.group, set()).add(member.annotations[0].split("_")[0])
    return found


def test_unknown_animals_are_grouped_and_known_ones_are_joined():
    rows = [*herd(), *((f"named{n}_{k}.jpg", None, {}) for n in (2, 3) for k in (8, 9))]
    discovery = found_in(rows)
    groups = animals_by_group(discovery)
    assert sorted(map(sorted, groups.values())) == sorted(
        [*([f"named{n}"] for n in range(10)), *([f"wild{n}"] for n in range(6))]
    )
    again = [member for member in discovery.unknown() if member.annotations[0][:5] == "named"]
    assert [member.individual for member in again] == ["named2", "named2", "named3", "named3"]
    counts = discovery.counts()
    assert counts["known individuals met"] == 2
    assert counts["new groups"] == counts["new animals at most"] == 6
    assert discovery.expected.partners == pytest.approx(3.3, abs=0.5)


def test_what_is_learnt_from_another_catalogue_serves_where_nobody_is_named():
    unknown = herd(0, 9, 3)
    with pytest.raises(UserError, match="0 pairs of encounters of one animal .* --learn-from"):
        found_in(unknown)
    named = listing(*herd(12, 0))
    model = learn_pairs(named, MATCHERS, Settings())
    assert all(
        len(animals) == 1 for animals in animals_by_group(found_in(unknown, model=model)).values()
    )
    assert found_in(unknown, model=model).counts()["new groups"] == 9
    with pytest.raises(UserError, match="nobody has a name"):
        learn_pairs(listing(*unknown), MATCHERS, Settings())


def test_decisions_boxes_and_names_are_kept(tmp_path):
    boxes = [
        (f"wild0_{k}.jpg", None, {"bbox": box}) for k in (7, 8) for box in ("0 0 9 9", "20 0 9 9")
    ]
    rows = [*herd(), *boxes]
    ids = annotation_ids(listing(*rows).table)
    with Evidence(tmp_path / "decisions.sqlite") as evidence:
        evidence.decide("different", "wild1_0.jpg", "wild1_1.jpg", by="Ada")
        evidence.undo(
            evidence.decide("different", "wild2_0.jpg", "wild2_1.jpg", by="Ada"), by="Ada"
        )
        discovery = found_in(rows, decisions=evidence.decisions())
    group = {name: member.group for member in discovery.members for name in member.annotations}
    assert group["wild1_0.jpg"] != group["wild1_1.jpg"]
    assert group["wild2_0.jpg"] == group["wild2_1.jpg"]
    for path in ("wild0_7.jpg", "wild0_8.jpg"):
        assert len({group[name] for name in ids if name.startswith(path)}) == 2
    known = {member.group for member in discovery.members if member.known}
    assert len(known) == 10
    unknown = discovery.unknown()
    pairs = {
        frozenset((unknown[i].encounter, unknown[j].encounter)) for i, j, *_ in discovery.pairs
    }
    assert frozenset(("wild1_0.jpg", "wild1_1.jpg")) not in pairs
    assert frozenset(("wild2_0.jpg", "wild2_1.jpg")) in pairs


def test_flanks_that_never_meet_are_two_groups_and_counted_as_a_range():
    named = [
        (f"named{n}_{view}{k}.jpg", f"named{n}", {"viewpoint": view})
        for n in range(8)
        for view in ("left", "right")
        for k in range(3)
    ]
    sides = {0: ("left",), 1: ("left",), 2: ("left", "right"), 3: ("right",), 4: ("both",)}
    rows = list(named)
    for n, views in sides.items():
        for view in views:
            for k in range(3):
                visit = {"sequence": f"visit {n} {view} {k}"}
                both = ("left", "right") if view == "both" else (view,)
                rows += [(f"wild{n}_{v}{k}.jpg", None, {"viewpoint": v, **visit}) for v in both]
    counts = found_in(rows).counts()
    # 0, 1 and half of 2 from the left; half of 2 and 3 from the right; 4 from both at once.
    assert (counts["new, left only"], counts["new, right only"], counts["new, linked"]) == (3, 2, 1)
    assert (counts["new animals at least"], counts["new animals at most"]) == (4, 6)


def test_encounters_are_called_as_they_were_when_identified():
    rows = herd()
    called = {f"wild3_{k}.jpg": "one visit" for k in range(4)}
    member = next(m for m in found_in(rows, called=called).members if m.encounter == "one visit")
    assert member.annotations == tuple(called)


def drawn(count: int, animals: int, seed: int, apart: float = 3.0):
    """Scores of encounters: normal, those of one animal higher."""
    draw = np.random.default_rng(seed)
    own = draw.integers(0, animals, count)
    scores = draw.normal(size=(count, count, 1)) + apart * (own[:, None] == own)[:, :, None]
    scores[np.arange(count), np.arange(count)] = np.nan
    return scores, own


def test_probabilities_are_nearly_true_among_more_animals_than_were_learnt_from():
    model = PairEvidence.fit(*drawn(150, 30, 0))
    scores, own = drawn(300, 100, 1)
    evidence = model(scores)
    expected = expect(evidence, model.partners, np.ones(300, bool))
    same = own[:, None] == own
    there = (same.sum() - 300) / 300
    # In twice as many others the largest stand out more by chance, so these are a few too many.
    assert 0.8 * there < expected.partners < 1.25 * there < 0.9 * model.partners
    chances = pair_probabilities(evidence, expected)
    for low in (0.2, 0.4, 0.6, 0.8):
        some = (chances >= low) & (chances < low + 0.2)
        assert same[some].mean() == pytest.approx(chances[some].mean(), abs=0.2)


def test_what_cannot_be_compared_says_nothing():
    scores, own = drawn(60, 8, 0)
    model = PairEvidence.fit(scores, own)
    scores[0, 1:] = scores[1:, 0] = np.nan
    scores[3, 4] = np.nan  # one direction is enough
    evidence, expected = model(scores), Expected(0.1, 6.0)
    assert np.isnan(evidence[0]).all() and np.isfinite(evidence[3, 4])
    assert not pair_weights(evidence, expected)[0].any()
    assert not pair_probabilities(evidence, expected)[0].any()
    assert np.allclose(evidence, evidence.T, equal_nan=True)


def test_by_commands_and_how_many_there_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MATCHER_REGISTRY._entries, "planted", lambda cfg: MATCHERS["planted"])
    left = {"viewpoint": "left"}
    rows = [*herd(9, 5, **left), ("wild0_=1+1.jpg", None, left)]
    write_catalogue("herd.csv", listing(*rows).table)
    Path("new").mkdir()
    Image.new("RGB", (8, 8)).save("new/wild0_left.png")
    asked = ("--catalogue", "herd.csv", "--matcher", "planted")
    assert main(["discover", *asked, "--new", "new"]) == 0
    assert "known individuals met: 0\nnew groups: " in capsys.readouterr().out

    groups = pd.read_csv("matches/groups.csv")
    assert len(groups) == 22 and {*groups["file"]} >= {"new/wild0_left.png", "wild0_=1+1.jpg"}
    animals = groups["file"].str.extract(r"(wild\d)")[0]
    assert (animals.groupby(groups["group"]).nunique() == 1).all()
    content = json.loads(Path("matches/groups.json").read_text())
    for one, other, chance, first, second in content["pairs"]:
        assert first in content["encounters"][one]["annotations"] and 0.001 <= chance <= 1
        assert second in content["encounters"][other]["annotations"]

    # How many there are: not before people have decided.
    assert main(["discover", *asked]) == 0
    assert "too few decisions yet" in how_many(Path("herd.csv"), Path("matches"))
    # That each is none of those known does not say that they are not one another.
    with Evidence(decisions_of("herd.csv")) as evidence:
        numbers = [evidence.decide("new", path, by="Ada") for path, who, _ in rows if not who]
    assert "too few decisions yet" in how_many(Path("herd.csv"), Path("matches"))
    with Evidence(decisions_of("herd.csv")) as evidence:
        for number in numbers:
            evidence.undo(number, by="Ada")
    with Evidence(decisions_of("herd.csv")) as evidence:
        for path, identity, _ in rows:
            if identity is None:
                evidence.decide("name", path, path.split("_")[0], by="Ada")
    assert main(["discover", *asked, "--how-many"]) == 0
    told = capsys.readouterr().out
    assert "seen from the left" in told and "5 individuals, 95 % interval" in told


def test_bad_input_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match="every photograph has a name"):
        found_in(herd(4, 0))
    write_catalogue(tmp_path / "herd.csv", listing(*herd()).table)
    with pytest.raises(UserError, match="groups.json .*let openanimals discover write it"):
        how_many(tmp_path / "herd.csv", tmp_path / "matches")
