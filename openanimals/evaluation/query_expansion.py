"""Average query expansion: an image is replaced by the mean of itself and what is most like it.

Source: Radenovic et al., "Fine-tuning CNN image retrieval with no human annotation", 2018; as in
FastReID, gallery images are expanded as well, and among queries and gallery images together.
"""

from dataclasses import dataclass

import numpy as np
import torch

from openanimals.evaluation.distance import Features, joined, nearest
from openanimals.evaluation.rerank import as_sparse
from openanimals.utils.errors import UserError


@dataclass(frozen=True)
class QueryExpansion:
    """How to expand.

    Attributes:
        k: neighbours in the mean, the image itself among them.
        alpha: a neighbour weighs as much as its cosine to this power; 0 weighs all alike.
        rounds: how often, each time from the features of the last.

    Raises:
        UserError: a number is out of its range.
    """

    k: int = 5
    alpha: float = 3.0
    rounds: int = 1

    def __post_init__(self) -> None:
        if self.k < 1 or self.rounds < 1 or self.alpha < 0:
            raise UserError(
                f"query expansion with k = {self.k}, {self.rounds} rounds and alpha = {self.alpha} "
                "(TEST.AQE.QE_K, QE_TIME, ALPHA); expected at least 1, 1 and 0"
            )

    def __str__(self) -> str:
        return f"expanded (k {self.k}, alpha {self.alpha:g}, rounds {self.rounds})"


def expand(
    query: Features,
    gallery: Features,
    expansion: QueryExpansion,
    *,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Expand features.

    Args:
        query: features `[Q, D]`, which need not be of unit length.
        gallery: features `[G, D]`.
        expansion: how to expand.
        device: where to find the neighbours, ``"cpu"`` or a CUDA device.

    Returns:
        New features of the queries and of the gallery, of the same shapes; in float64 if they are,
        else in float32.

    Raises:
        UserError: the features have no rows or different lengths, or one of them is not finite.
    """
    images = joined(query, gallery)
    for _ in range(expansion.rounds):
        rows, distances = nearest(images, expansion.k, "cosine", device=device)
        weights = _weights(1 - distances.astype(np.float64), expansion.alpha) / rows.shape[1]
        mean = as_sparse(rows, weights).astype(images.numpy().dtype)
        images = torch.from_numpy(mean @ images.numpy())
    return images[: len(query)].numpy(), images[len(query) :].numpy()


def _weights(cosines: np.ndarray, alpha: float) -> np.ndarray:
    if alpha != int(alpha):
        cosines = cosines.clip(min=0)  # negative numbers have whole powers only
    return cosines**alpha
