import numpy as np
import pytest
import torch

from openanimals.evaluation.distance import distance_blocks

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
DEVICES = ["cpu", pytest.param("cuda", marks=NO_CUDA)]


def distances(query: np.ndarray, gallery: np.ndarray, metric: str = "cosine") -> np.ndarray:
    """All distances `[Q, G]` at once."""
    return np.concatenate([block for _, block in distance_blocks(query, gallery, metric)])
