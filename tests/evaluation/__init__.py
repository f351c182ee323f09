import numpy as np
import pytest
import torch

from openanimals.evaluation.distance import distance_blocks
from openanimals.evaluation.metrics import Ranking
from openanimals.evaluation.ranking import rank_queries

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
DEVICES = ["cpu", pytest.param("cuda", marks=NO_CUDA)]


def distances(query: np.ndarray, gallery: np.ndarray, metric: str = "cosine") -> np.ndarray:
    """All distances `[Q, G]` at once."""
    return np.concatenate([block for _, block in distance_blocks(query, gallery, metric)])


def equal_rankings(one: Ranking, other: Ranking) -> None:
    """Assert that two rankings are the same in every bit."""
    for name, found, expected in zip(Ranking._fields, one, other, strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=name)


def rank(distances: np.ndarray, matches: np.ndarray, removed=None, *, top: int = 10) -> Ranking:
    """Rank by whole masks `[Q, G]`; leaves its arguments alone."""
    return rank_queries(
        distances.copy(),
        lambda rows: (matches[rows], None if removed is None else removed[rows]),
        top=top,
    )
