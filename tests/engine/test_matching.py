"""TEST.MATCHER: local features, fusions and matchers of one's own, through the usual commands."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import brier_score_loss

from openanimals.engine.rescore import comparison, rescore
from openanimals.engine.train import evaluate_only, train
from openanimals.matching.matcher import MATCHER_REGISTRY
from openanimals.utils.errors import UserError
from tests.engine.tiny_run import tiny_cfg

HERD = "Animals-SyntheticHerd:identities=10,images=4,pixels=64"
KEYS = {"DATASETS__NAMES": (HERD,), "TEST__BY_INDIVIDUAL": True, "MATCHING__POINTS": 60}


class ByName:
    """Knows the answer: a photograph is near to those of its individual."""

    def prepare(self, photographs):
        pixels, mask = photographs[0]
        assert pixels.shape[2:] == (3,) and pixels.dtype == np.uint8 and mask is None
        return photographs.table["identity"].to_numpy()

    def score_blocks(self, query, gallery, candidates, individuals):
        assert candidates.shape == (len(query), len(gallery))
        distances = (query[:, None] != gallery[None]).astype(float)
        yield slice(0, 1), distances[:1], None
        yield slice(1, len(query)), distances[1:], None


class Broken(ByName):
    def __init__(self, value):
        self.value = value

    def score_blocks(self, query, gallery, candidates, individuals):
        for rows, distances, _ in super().score_blocks(query, gallery, candidates, individuals):
            yield rows, *self.value(distances)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(MATCHER_REGISTRY, "_entries", {"mine": lambda cfg: ByName()})
    return MATCHER_REGISTRY._entries


def cfg_of(folder, root, matcher, **keys):
    return tiny_cfg(folder, root, **{**KEYS, "TEST__MATCHER": matcher, **keys})


def test_local_features_by_photograph_and_by_individual(tmp_path, herd_root):
    results = evaluate_only(cfg_of(tmp_path / "local", herd_root, "local"))
    assert [*results] == [
        HERD,
        f"{HERD} (by individual)",
        f"{HERD} (encounter)",
        f"{HERD} (encounter, by individual)",
    ]
    assert results[HERD].rank(1) > 3 * results[HERD].chance
    named = results[f"{HERD} (by individual)"]
    assert named.metric == "local" and set(named.gallery_identities) == set(
        results[HERD].gallery_identities
    )
    told = json.loads((tmp_path / "local/results.json").read_text())
    assert told[f"{HERD} (by individual)"]["Rank-1"] == named.rank(1)
    again = rescore(tmp_path / "local")
    assert again[HERD].rank(1) == results[HERD].rank(1)
    other = tmp_path / "other"
    evaluate_only(cfg_of(other, herd_root, "local", MATCHING__SHORTLIST=0))
    assert "Rank-1" in comparison(tmp_path / "local", other)


def test_photographs_are_left_out_before_they_are_compared(tmp_path, herd_root, registered):
    """By encounter, a query's own is no candidate, so that it can be no normaliser either."""
    seen = []

    class Candidates(ByName):
        def score_blocks(self, query, gallery, candidates, individuals):
            seen.append(candidates)
            return super().score_blocks(query, gallery, candidates, individuals)

    registered["mine"] = lambda cfg: Candidates()
    results = evaluate_only(cfg_of(tmp_path, herd_root, "mine"))
    assert results[HERD].rank(1) == 100.0 and results[HERD].mAP == 100.0
    everything, own_out = seen
    assert everything.all() and not own_out.all()
    table = pd.read_parquet(next(tmp_path.glob("images_*.parquet")))
    query, gallery = (table[table["part"] == part] for part in ("query", "gallery"))
    days = [[*part["date"].str[:10]] for part in (query, gallery)]
    for row, column in np.argwhere(~own_out):
        assert query["identity"].iloc[row] == gallery["identity"].iloc[column]
        assert days[0][row] == days[1][column]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda d: (d * np.nan, None), "the matcher mine: the score of query row 0 .* is nan"),
        (lambda d: (d[:, 1:], None), r"the matcher mine: scores of the query rows 0 to 0 .* expec"),
        (lambda d: (d, d), "the matcher mine: scores of individuals are of the shape"),
    ],
)
def test_what_a_matcher_must_not_return(value, message, tmp_path, herd_root, registered):
    registered["mine"] = lambda cfg: Broken(value)
    with pytest.raises(UserError, match=message):
        evaluate_only(cfg_of(tmp_path, herd_root, "mine"))


def test_a_fusion_is_calibrated_on_training_individuals(tmp_path, herd_root, registered):
    keys = {"FUSION__MATCHERS": ["local", "mine"]}
    results = evaluate_only(cfg_of(tmp_path, herd_root, "fusion", **keys))
    assert results[HERD].rank(1) == 100.0 and results[HERD].metric == "fusion of local and mine"
    kept = json.loads((tmp_path / "calibration.json").read_text())
    for what in ("photographs", "individuals"):
        assert set(kept[what]["parts"]) == {"local", "mine"}
        measured = kept[what]["individuals left out"]
        assert 0 <= measured["Brier"] < 0.1
        assert sum(row["pairs"] for row in measured["reliability"]) == measured["pairs"]
        asked = kept[HERD][what]
        assert 0 <= asked["Brier"] < 0.1
        assert sum(row["pairs"] for row in asked["reliability"]) == asked["pairs"]
    scores = load_file(next(tmp_path.glob("scores_*")))["scores"]
    same = results[HERD].query_identities[:, None] == results[HERD].gallery_identities[None]
    asked = kept[HERD]["photographs"]
    assert (asked["pairs"], asked["of one individual"]) == (same.size, same.sum())
    assert asked["Brier"] == pytest.approx(brier_score_loss(same.ravel(), 1 - scores.ravel()))


def test_validation_individuals_calibrate_where_there_are_some(tmp_path, herd_root):
    """A trained network knows its training individuals too well."""
    herd = "Animals-SyntheticHerd:identities=16,images=5,pixels=64"
    keys = {"DATASETS__NAMES": (herd,), "FUSION__MATCHERS": ["cosine", "local"]}
    keys |= {"DATASETS__VAL_FRACTION": 0.5, "SOLVER__MAX_EPOCH": 1}
    train(cfg_of(tmp_path, herd_root, "fusion", **keys))
    told = (tmp_path / "log.txt").read_text()
    pairs = 20 * 19  # of half of the training individuals
    assert re.search(rf"calibrated on {pairs} pairs of photographs, .* of validation ind", told)


def test_wrong_matchers_are_told_before_any_work(tmp_path, herd_root, monkeypatch):
    with pytest.raises(UserError, match=r"TEST.MATCHER is 'locale' \(did you mean 'local'\?\)"):
        evaluate_only(cfg_of(tmp_path, herd_root, "locale"))
    with pytest.raises(UserError, match="TEST.MATCHER local has nothing to train; add --eval-only"):
        train(cfg_of(tmp_path, herd_root, "local"))
    with pytest.raises(UserError, match="FUSION.MATCHERS must be two matchers or more"):
        evaluate_only(cfg_of(tmp_path, herd_root, "fusion", FUSION__MATCHERS=["local"]))
    with pytest.raises(UserError, match="TEST.PCA is of features ranked alone"):
        evaluate_only(cfg_of(tmp_path, herd_root, "local", TEST__PCA=3))
    with pytest.raises(
        UserError, match="MATCHING.K is of a gallery's neighbours, and MATCHING.RULE"
    ):
        evaluate_only(cfg_of(tmp_path, herd_root, "local", MATCHING__RULE="ratio", MATCHING__K=2))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="TEST.MATCHER local works in one process"):
        evaluate_only(cfg_of(tmp_path, herd_root, "local"))
    assert not [*tmp_path.glob("*.safetensors")]
