import numpy as np

from openanimals.evaluation.distance import distance_blocks


def distances(query: np.ndarray, gallery: np.ndarray, metric: str = "cosine") -> np.ndarray:
    """All distances `[Q, G]` at once."""
    return np.concatenate([block for _, block in distance_blocks(query, gallery, metric)])
