"""Parity with the release: see ../reference/README.evaluation.md for what was recorded."""

import numpy as np
import pytest

from openanimals.evaluation import evaluate
from openanimals.evaluation.metrics import Result
from openanimals.evaluation.protocols import Protocol
from tests.evaluation import distances, rank
from tests.reference import load_arrays, load_json

RECORDED = load_json("evaluation.json")


@pytest.fixture(scope="module")
def arrays():
    return load_arrays("evaluation.npz")


@pytest.mark.parametrize("case", RECORDED["rank_eval"])
def test_metrics_of_recorded_distances(arrays, case):
    expected = RECORDED["rank_eval"][case]
    dist, query, gallery, query_cameras, gallery_cameras, cmc, precision, penalty = (
        arrays[f"{case}__{name}"]
        for name in ("dist", "q_pids", "g_pids", "q_camids", "g_camids", "cmc", "AP", "INP")
    )
    protocol = Protocol((query, gallery), (query_cameras, gallery_cameras))
    ranking = rank(dist, *protocol.masks(slice(None)))
    result = Result(ranking, query, gallery, max_rank=expected["max_rank"])

    counts = len(result.matched), result.matched.sum()
    assert counts == (expected["n_query"], expected["num_valid"])
    np.testing.assert_allclose(ranking.average_precision[result.matched], precision, rtol=1e-9)
    np.testing.assert_allclose(ranking.inverse_negative_penalty[result.matched], penalty, rtol=1e-9)
    np.testing.assert_allclose(result.cmc[: len(cmc)], 100 * cmc, rtol=1e-6)
    assert (result.cmc[len(cmc) :] == 100).all()  # where a small gallery cut the release's short
    assert result.rank(1) == pytest.approx(100 * expected["rank1"], rel=1e-6)
    assert result.mAP == pytest.approx(100 * expected["mAP"], rel=1e-9)
    assert result.mINP == pytest.approx(100 * expected["mINP"], rel=1e-9)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_distances(arrays, metric):
    queries = int(arrays["ev__num_query"])
    query, gallery = np.split(arrays["ev__features"], [queries])
    recorded = arrays[f"ev__dist_{metric}"]
    np.testing.assert_allclose(distances(query, gallery, metric), recorded, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("cameras", ["animals", "random"])
def test_evaluator(arrays, metric, cameras):
    queries = int(arrays["ev__num_query"])
    sides = [
        np.split(arrays[f"ev__{name}"], [queries])
        for name in ("features", "pids", f"camids_{cameras}")
    ]
    result = evaluate(*sides[0], *sides[1], *sides[2], metric=metric).as_dict()
    expected = RECORDED["evaluator"][f"{cameras}_{metric}"]
    for name in ("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP"):
        assert result[name] == pytest.approx(expected[name], rel=1e-6), name
