import numpy as np
import pytest

from openanimals.evaluation import evaluate


def naive(scores, query, gallery):
    """Rank-1, Rank-5 and mAP of individuals by loops; a query is (individual, camera)."""
    hits, precisions = [], []
    for row, (own, camera) in enumerate(query):
        best = {}
        for column, (name, other) in enumerate(gallery):
            if name == own and other == camera:
                continue
            best[name] = min(best.get(name, np.inf), scores[row, column])
        if own in best:
            first = list(dict.fromkeys(name for name, _ in gallery))
            order = sorted(best, key=lambda name: (best[name], first.index(name)))
            hits.append(1 + order.index(own))
            precisions.append(1 / hits[-1])
    hits = np.array(hits)
    return 100 * (hits == 1).mean(), 100 * (hits <= 5).mean(), 100 * np.mean(precisions)


@pytest.mark.parametrize("seed", range(4))
def test_against_loops(seed):
    generator = np.random.default_rng(seed)
    names, cameras = list("abcdefghij"), ["1", "2", "3"]
    query, gallery = (
        [(generator.choice(names), generator.choice(cameras)) for _ in range(n)] for n in (40, 60)
    )
    scores = generator.integers(0, 9, (40, 60)).astype(np.float32)  # many are tied
    (own, camera), (others, theirs) = (zip(*part, strict=True) for part in (query, gallery))
    result = evaluate(None, None, own, others, camera, theirs, scores=scores, by_individual=True)
    measured = result.rank(1), result.rank(5), result.mAP
    np.testing.assert_allclose(measured, naive(scores, query, gallery), rtol=1e-12)
    assert result.protocol == "paper, by individual"
    assert set(result.gallery_identities) == set(others)
