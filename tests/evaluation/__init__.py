import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from openanimals.evaluation.distance import distance_blocks
from openanimals.evaluation.metrics import Ranking
from openanimals.utils import distributed

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
DEVICES = ["cpu", pytest.param("cuda", marks=NO_CUDA)]


def distances(query: np.ndarray, gallery: np.ndarray, metric: str = "cosine") -> np.ndarray:
    """All distances `[Q, G]` at once."""
    return np.concatenate([block for _, block in distance_blocks(query, gallery, metric)])


def equal_rankings(one: Ranking, other: Ranking) -> None:
    """Assert that two rankings are the same in every bit."""
    for name, found, expected in zip(Ranking._fields, one, other, strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=name)


def in_threads(
    function: Callable[[int], Any], count: int, monkeypatch: pytest.MonkeyPatch
) -> list[Any]:
    """Call a function with 0, 1, ... in threads that gather from one another like processes."""
    meeting, values, own = threading.Barrier(count), [None] * count, threading.local()

    def gather(value):
        values[own.rank] = value
        meeting.wait(60)
        everyone = list(values)
        meeting.wait(60)  # until all have read, nobody writes
        return everyone

    def run(rank):
        own.rank = rank
        try:
            return function(rank)
        except Exception:
            meeting.abort()  # else the others would wait
            raise

    monkeypatch.setattr(distributed, "gather", gather)
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))
