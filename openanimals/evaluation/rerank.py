"""k-reciprocal re-ranking: images are alike whose neighbours are the same.

Source: Zhong et al., "Re-ranking person re-identification with k-reciprocal encoding", CVPR 2017,
as FastReID's evaluator has it: k1 counts the image itself, and neighbours weigh by a softmax of
their squared distances (the paper squares and scales the distances first).

Every image has few neighbours, so the encodings are sparse: memory grows with the number of images,
not with its square.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from openanimals.evaluation.distance import checked, nearest, pair_distances


@dataclass(frozen=True)
class Rerank:
    """How to re-rank.

    Attributes:
        k1: neighbours, the image itself among them, that may be reciprocal.
        k2: nearest images whose encodings are averaged, at most k1; 1 averages nothing.
        weight: weight of the original distance, 0 to 1; the rest is the Jaccard distance's.

    Raises:
        ValueError: a number is out of its range.
    """

    k1: int = 20
    k2: int = 6
    weight: float = 0.3

    def __post_init__(self) -> None:
        if not 1 <= self.k2 <= self.k1:
            raise ValueError(
                f"re-ranking averages over k2 = {self.k2} of k1 = {self.k1} neighbours "
                "(TEST.RERANK.K2 and K1); expected 1 <= k2 <= k1"
            )
        if not 0 <= self.weight <= 1:
            raise ValueError(
                f"the original distance has the weight {self.weight} in re-ranking "
                "(TEST.RERANK.LAMBDA); expected 0 to 1"
            )


def rerank_blocks(
    blocks: Iterable[tuple[slice, np.ndarray]],
    query: np.ndarray,
    gallery: np.ndarray,
    metric: str,
    rerank: Rerank,
    *,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[slice, np.ndarray]]:
    """Mix the Jaccard distance of neighbourhoods into distances.

    Args:
        blocks: query rows and their distances `[rows, G]`, as
            :func:`openanimals.evaluation.distance.distance_blocks` yields them.
        query: features `[Q, D]`.
        gallery: features `[G, D]`; galleries smaller than ``k1`` are fine.
        metric: by which neighbours are found: that of the distances.
        rerank: how to re-rank.
        device: where to find the neighbours, ``"cpu"`` or a CUDA device.

    Yields:
        The query rows, and ``(1 - weight) * jaccard + weight * distance`` `[rows, G]` in float32.

    Raises:
        ValueError: the features have no rows or different lengths, or one of them is not finite.
    """
    images = torch.cat(checked(query, gallery))
    codes = _encode(images, metric, rerank, device)
    members = codes[len(query) :].T.tocsr()  # [Q + G, G], by neighbour
    for rows, distances in blocks:
        jaccard = np.stack([_jaccard(codes, row, members) for row in range(rows.start, rows.stop)])
        mixed = (1 - rerank.weight) * jaccard + rerank.weight * distances
        yield rows, mixed.astype(np.float32)


def _encode(
    images: Tensor, metric: str, rerank: Rerank, device: torch.device | str
) -> sparse.csr_array:
    """Return each image as weights of its neighbours `[N, N]`, which sum to 1 in each row."""
    ranked, _ = nearest(images, rerank.k1, metric, device=device)
    mutual = _reciprocal(ranked)
    close = _reciprocal(ranked[:, : round(rerank.k1 / 2) + 1])
    # A neighbour's close ones are welcome as well if more than 2/3 of them are neighbours already.
    common = mutual.multiply(mutual @ close.T).tocsr()
    common.data = (3 * common.data > 2 * np.diff(close.indptr)[common.indices]).astype(np.int64)
    common.eliminate_zeros()
    neighbours = (mutual + common @ close).tocoo()

    squared = pair_distances(images, neighbours.row, neighbours.col, metric, device=device)
    if metric == "cosine":
        squared = 2 * squared  # the squared distance of features of unit length
    weights = np.exp(-squared.astype(np.float64))
    total = np.bincount(neighbours.row, weights, minlength=len(images))
    pairs = neighbours.row, neighbours.col
    codes = sparse.csr_array((weights / total[neighbours.row], pairs), neighbours.shape)
    if rerank.k2 > 1:
        averaged = ranked[:, : rerank.k2]
        codes = _indicator(averaged) @ codes / averaged.shape[1]
    return codes


def _reciprocal(ranked: np.ndarray) -> sparse.csr_array:
    """Return `[N, N]` with 1 where two images stand in one another's lists `[N, k]`."""
    listed = _indicator(ranked)
    return listed.multiply(listed.T).tocsr()


def _indicator(ranked: np.ndarray) -> sparse.csr_array:
    images, k = ranked.shape
    starts = np.arange(0, ranked.size + 1, k)
    ones = np.ones(ranked.size, dtype=np.int64)
    return sparse.csr_array((ones, ranked.ravel(), starts), shape=(images, images))


def _jaccard(codes: sparse.csr_array, query: int, members: sparse.csr_array) -> np.ndarray:
    """Return the Jaccard distances `[G]` of one query: 1 - sum of minima / sum of maxima."""
    own = slice(*codes.indptr[query : query + 2])
    having = members[codes.indices[own]]  # a row for each neighbour: who else has it
    shared = np.minimum(having.data, np.repeat(codes.data[own], np.diff(having.indptr)))
    minima = np.bincount(having.indices, shared, minlength=members.shape[1])
    return np.maximum(1 - minima / (2 - minima), 0)  # the sums of the two rows are 1 each
