"""What the keys make of an evaluation: protocols, distances, and what features are made with."""

import logging
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from openanimals.config import ConfigError, load
from openanimals.data.build import load_sets
from openanimals.engine import device
from openanimals.engine import evaluate as module
from openanimals.engine import train as run
from openanimals.engine.device import DeviceError
from openanimals.evaluation import QueryExpansion, Rerank, evaluate, extract_features
from openanimals.evaluation.build import (
    build_blocks,
    build_protocols,
    judge_test_set,
    protocol_notes,
)
from openanimals.evaluation.protocols import ProtocolError
from openanimals.modeling import build_model
from tests.engine import photographs
from tests.engine.tiny_run import tiny_cfg

CPU = torch.device("cpu")
COLUMNS = ["path", "identity", "bbox", "camera", "date", "sequence", "viewpoint"]
MAY, JUNE = "2025-05-01", "2025-06-01"
QUERY = [
    ["q0", "ada", None, "1", MAY, "s1", "left"],
    ["q1", "bo", None, "1", MAY, None, "right"],
    ["q2", "cy", None, "1", None, "s2", "front"],
]
GALLERY = [
    ["g0", "ada", None, "1", MAY, "s1", "left"],  # of the same day and sequence as q0
    ["g1", "ada", None, "2", JUNE, "s3", "right"],
    ["g2", "bo", None, "2", MAY, "s1", "right"],
    ["g3", "bo", None, "2", JUNE, None, "backleft"],
    ["g4", "cy", None, "2", MAY, "s2", "left"],
    ["g5", "cy", None, "2", None, None, None],
]


@dataclass
class Herd:
    """A test set whose gallery, in every ranking, is in its own order: distances are 0, 1, 2 ..."""

    images: tuple[pd.DataFrame, pd.DataFrame]
    query: np.ndarray
    gallery: np.ndarray

    def labels(self, column: str) -> list[list]:
        return [images[column].tolist() for images in self.images]


def herd(query=QUERY, gallery=GALLERY, cameras_count=False):
    tables = [pd.DataFrame(rows, columns=COLUMNS, dtype=object) for rows in (query, gallery)]
    for table in tables:
        table["counted_camera"] = table["camera"] if cameras_count else None
    angles = np.linspace(0, 1, len(gallery))
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return Herd(tuple(tables), np.tile(features[:1], (len(query), 1)), features)


def score(cfg, herd, device, extras=True) -> dict[str, Any]:
    how = build_blocks(cfg, herd.query, herd.gallery, device)
    return judge_test_set(cfg, "herd", herd.images, *how, extras=extras)


def cfg(**keys):
    pairs = [(f"TEST.{key.replace('__', '.')}", value) for key, value in keys.items()]
    return load(None, [part for pair in pairs for part in pair])


def first_hits(result):
    return result.ranking.first_hit.tolist()


def test_beside_the_papers_protocol_stands_the_encounters(caplog):
    caplog.set_level(logging.INFO, "openanimals")
    results = score(cfg(), herd(), CPU)
    assert list(results) == ["herd", "herd (encounter)"]
    assert [result.as_dict()["protocol"] for result in results.values()] == [
        *("paper", "encounter by date")
    ]
    assert first_hits(results["herd"]) == [1, 3, 5]
    # q0 loses g0, q1 loses g2; q2 has no date and loses nothing.
    assert first_hits(results["herd (encounter)"]) == [1, 3, 5]
    assert results["herd (encounter)"].top[0].tolist()[:5] == [1, 2, 3, 4, 5]
    assert results["herd (encounter)"].top[1].tolist()[:5] == [0, 1, 3, 4, 5]
    assert not caplog.text  # it is evaluated more than once, and noted once
    assert protocol_notes(cfg(), "herd", herd().images) == [
        "herd (encounter): 2 of 9 images have no date, each is an encounter of its own"
    ]


@pytest.mark.parametrize(
    ("keys", "rule", "removed"),
    [
        ({"ENCOUNTER__BY": "sequence"}, "encounter by sequence", [{0}, set(), {4}]),
        ({"ENCOUNTER__BY": "date"}, "encounter by date", [{0}, {2}, set()]),
    ],
)
def test_encounters_by_date_and_sequence(keys, rule, removed):
    results = score(cfg(PROTOCOL="encounter", **keys), herd(), CPU)
    assert list(results) == ["herd", "herd (paper)"]
    assert (results["herd"].protocol, results["herd (paper)"].protocol) == (rule, "paper")
    left = [set(range(6)) - set(row.tolist()) for row in results["herd"].top]
    assert left == removed


def test_encounters_by_gaps_chain_over_query_and_gallery():
    times = [f"{MAY}T09:{minute:02}:00" for minute in (0, 50, 25)]
    query = [["q", "ada", None, None, times[0], None, None]]
    gallery = [
        ["g0", "ada", None, None, times[1], None, None],  # 50 minutes later, by way of g1
        ["g1", "ada", None, None, times[2], None, None],
        ["g2", "ada", None, None, MAY, None, None],  # no time of day
    ]
    options = {"PROTOCOL": "encounter", "ENCOUNTER__BY": "gap"}
    results = score(cfg(**options, ENCOUNTER__GAP=30.0), herd(query, gallery), CPU)
    assert results["herd"].protocol == "encounter by gap of 30 minutes"
    assert results["herd"].top.tolist() == [[2, -1, -1]]
    apart = score(cfg(**options, ENCOUNTER__GAP=24.0), herd(query, gallery), CPU)
    assert apart["herd"].top.tolist() == [[0, 1, 2]]


def test_flanks_are_reported_by_side():
    results = score(cfg(PROTOCOL="flank"), herd(), CPU)
    assert set(results) == {"herd", "herd (flank left)", "herd (flank right)", "herd (paper)"}
    assert list(results)[0] == "herd"
    whole = results["herd"]
    assert whole.top.tolist()[0][:4] == [0, 3, 4, -1] and whole.top.tolist()[1][:3] == [1, 2, -1]
    reported = {name: result.as_dict() for name, result in results.items()}
    counts = ("queries", "queries without match", "gallery")
    assert [reported["herd"][key] for key in counts] == [2, 1, 6]  # q2 shows no side
    assert [reported["herd (flank left)"][key] for key in counts] == [1, 0, 3]
    assert [reported["herd (flank right)"][key] for key in counts] == [1, 0, 2]
    sides = [reported[f"herd (flank {side})"]["mAP"] for side in ("left", "right")]
    assert reported["herd"]["mAP"] == pytest.approx(np.mean(sides))
    assert results["herd (flank right)"].top.tolist() == [[0, 1, -1, -1, -1, -1]]


def test_a_roc_curve_is_of_the_whole_not_of_a_side():
    gallery = [row for row in GALLERY if row[0] != "g1"]  # the right sides are all of one animal
    results = score(cfg(PROTOCOL="flank", ROC__ENABLED=True), herd(QUERY, gallery), CPU)
    assert [name for name, result in results.items() if result.roc] == ["herd", "herd (paper)"]
    assert "herd (flank right)" in results


def test_a_side_without_a_match_is_skipped():
    flank, some = cfg(PROTOCOL="flank"), herd(QUERY[:1], GALLERY)
    results = score(flank, some, CPU)
    assert "herd (flank left)" in results and "herd (flank right)" not in results
    notes = protocol_notes(flank, "herd", some.images)
    assert "herd: without the side right: no match for its 0 queries" in notes


def test_curves_get_the_first_protocol_only(caplog):
    caplog.set_level(logging.INFO, "openanimals")
    assert list(score(cfg(PROTOCOL="flank"), herd(), CPU, extras=False)) == ["herd"]
    assert not caplog.text


DATELESS = [[row[:4] + [None] + row[5:] for row in part] for part in (QUERY, GALLERY)]


@pytest.mark.parametrize(
    ("images", "by", "message"),
    [
        (DATELESS, "date", "none of the 9 images has a date"),
        ((QUERY, GALLERY), "gap", "none of the 9 images has a time of day"),
        ((QUERY[:1], GALLERY[:1]), "date", "none of the 1 queries has .* of their own encounters"),
    ],
)
def test_encounters_that_cannot_be_applied(images, by, message):
    with pytest.raises(ProtocolError, match=message):
        build_protocols(cfg(PROTOCOL="encounter", ENCOUNTER__BY=by), "herd", herd(*images).images)
    assert list(score(cfg(ENCOUNTER__BY=by), herd(*images), CPU)) == ["herd"]
    (note,) = protocol_notes(cfg(ENCOUNTER__BY=by), "herd", herd(*images).images)
    assert re.search(f"^herd: without the protocol encounter: .*{message}", note)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("PROTOCOL", "encounter", "none of the 8 images has a date"),
        ("PCA", 99, "TEST.PCA is 99, but the gallery has . images"),
    ],
)
def test_what_cannot_be_applied_ends_a_run_before_it_begins(key, value, message, tmp_path):
    name = photographs.source(tmp_path / "data", photographs.herd())
    keys = {"DATASETS__NAMES": (name,), f"TEST__{key}": value}
    with pytest.raises(ProtocolError, match=message):
        run.train(tiny_cfg(tmp_path / "run", tmp_path, **keys))
    assert not (tmp_path / "run").exists()


def test_a_wrong_date_is_no_reason_to_leave_a_protocol_out():
    images = herd([[*QUERY[0][:4], "1/5/2025", None, None]])
    with pytest.raises(ValueError, match="'1/5/2025' is no date"):
        score(cfg(), images, CPU)


def test_flanks_that_nobody_knows():
    images = herd([[*QUERY[2][:-1], "up"]], GALLERY).images
    with pytest.raises(ProtocolError, match="1 queries and 1 gallery images have no side"):
        build_protocols(cfg(PROTOCOL="flank"), "herd", images)


def test_cameras_count_under_every_protocol_of_a_person_set():
    person = herd(cameras_count=True)
    results = score(cfg(), person, CPU)
    identities, cameras = person.labels("identity"), person.labels("camera")
    alone = evaluate(person.query, person.gallery, *identities, *cameras)
    assert results["herd"].as_dict() == alone.as_dict()
    assert 0 not in results["herd (encounter)"].top[0]


def test_the_caveat_is_part_of_every_result():
    marked = load(None, ["MODEL.CAVEAT", "has seen these animals"])
    results = score(marked, herd(), CPU)
    assert [r.as_dict()["caveat"] for r in results.values()] == ["has seen these animals"] * 2
    assert "caveat" not in score(cfg(), herd(), CPU)["herd"].as_dict()


def test_keys_become_arguments_of_the_evaluation():
    keys = {
        **{"TEST.METRIC": "euclidean", "TEST.ROC.ENABLED": True, "TEST.AQE.ENABLED": True},
        **{"TEST.AQE.ALPHA": 2, "TEST.AQE.QE_TIME": 3, "TEST.AQE.QE_K": 7},
        **{"TEST.RERANK.ENABLED": True, "TEST.RERANK.K1": 9, "TEST.RERANK.K2": 4},
        **{"TEST.RERANK.LAMBDA": 0.5},
    }
    chosen = load(None, [part for pair in keys.items() for part in pair])
    images = herd()
    for cfg, options in (
        (load(None), {}),
        (
            chosen,
            {
                "metric": "euclidean",
                "expansion": QueryExpansion(k=7, alpha=2.0, rounds=3),
                "rerank": Rerank(k1=9, k2=4, weight=0.5),
                "roc": True,
            },
        ),
    ):
        expected = evaluate(images.query, images.gallery, *images.labels("identity"), **options)
        for place in (CPU, torch.device("mps")):  # which has no float64
            assert score(cfg, images, place)["herd"].as_dict() == expected.as_dict()


def test_fewer_dimensions():
    results = score(cfg(PCA=1), herd(), CPU)
    assert {result.metric for result in results.values()} == {"PCA 1, cosine"}
    # On a line all cosines are 1.
    np.testing.assert_allclose(results["herd"].ranking.top_distances, 0, atol=1e-6)
    both = score(cfg(PCA=2), herd(), CPU)["herd"]
    np.testing.assert_array_equal(both.top, score(cfg(), herd(), CPU)["herd"].top)
    with pytest.raises(ValueError, match=r"to 3 dimensions \(TEST.PCA\): .* span 2"):
        score(cfg(PCA=3), herd(), CPU)


@pytest.fixture
def features(tmp_path, herd_root, monkeypatch):
    """Features of the test images, as an evaluation with some keys extracts them."""

    def extract(**keys) -> np.ndarray:
        cfg = tiny_cfg(tmp_path, herd_root, **keys)
        torch.manual_seed(0)
        model = build_model(cfg, 0)
        for name, value in model.named_buffers():
            if name.endswith("running_var"):
                value.fill_(4.0)
        found = []

        def note(*arguments, **options):
            found.append(extract_features(*arguments, **options))
            return found[-1]

        monkeypatch.setattr(module, "extract_features", note)
        module.evaluate(cfg, model, load_sets(cfg, train=False).tests, CPU)
        return np.concatenate(found)

    return extract


@pytest.mark.parametrize(
    ("keys", "tolerance"),
    [({"TEST__FOLD_NORMS": True}, 1e-5), ({"TEST__DTYPE": "bfloat16"}, 2e-2)],
)
def test_features_differ_by_rounding(features, keys, tolerance):
    plain, other = features(), features(**keys)
    assert other.dtype == np.float32
    error = abs(other - plain).max() / abs(plain).max()
    assert 0 < error < tolerance


@pytest.mark.parametrize("start", [run.train, run.evaluate_only])
def test_what_the_device_has_not_is_refused_at_once(start, tmp_path, herd_root):
    keys = {"TEST__DTYPE": "float16", "MODEL__BACKBONE__PRETRAIN": True}
    with pytest.raises(
        ConfigError, match=r"TEST\.DTYPE is 'float16'.*on cpu; it can be float32 or b"
    ):
        start(tiny_cfg(tmp_path, herd_root, **keys))


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_types_by_device(dtype, kind, tmp_path, herd_root):
    cfg = tiny_cfg(tmp_path, herd_root, TEST__DTYPE=dtype)
    honoured = {"cpu": ("float32", "bfloat16"), "mps": ("float32",)}
    if dtype in honoured.get(kind, (dtype,)):
        found = device.evaluation_dtype(cfg, torch.device(kind))
        assert found == (None if dtype == "float32" else getattr(torch, dtype))
    else:
        with pytest.raises(DeviceError, match="TEST.DTYPE"):
            device.evaluation_dtype(cfg, torch.device(kind))
