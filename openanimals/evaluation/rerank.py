"""k-reciprocal re-ranking: images are alike whose neighbours are the same.

Source: Zhong et al., "Re-ranking person re-identification with k-reciprocal encoding", CVPR 2017,
as FastReID's evaluator has it: k1 counts the image itself, and neighbours weigh by a softmax of
their squared distances (the paper squares and scales the distances first).

Every image has few neighbours, so the encodings are sparse: memory grows with the number of images,
not with its square.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from openanimals.evaluation.distance import Features, joined, nearest, pair_distances
from openanimals.evaluation.score_blocks import ScoreBlocks
from openanimals.utils.errors import UserError

SPARE = 4  # neighbours beyond the last, any of which may change places with it
CLOSE = 1e-6  # distances that products in float32 cannot tell apart
QUERIES = 32  # compared with the whole gallery at once: 5 MiB for each 20 000 images


@dataclass(frozen=True)
class Rerank:
    """How to re-rank.

    Attributes:
        k1: neighbours, the image itself among them, that may be reciprocal.
        k2: nearest images whose encodings are averaged, at most k1; 1 averages nothing.
        weight: weight of the original distance, 0 to 1; the rest is the Jaccard distance's.

    Raises:
        UserError: a number is out of its range.
    """

    k1: int = 20
    k2: int = 6
    weight: float = 0.3

    def __post_init__(self) -> None:
        if not 1 <= self.k2 <= self.k1:
            raise UserError(
                f"re-ranking averages over k2 = {self.k2} of k1 = {self.k1} neighbours "
                "(TEST.RERANK.K2 and K1); expected 1 <= k2 <= k1"
            )
        if not 0 <= self.weight <= 1:
            raise UserError(
                f"the original distance has the weight {self.weight} in re-ranking "
                "(TEST.RERANK.LAMBDA); expected 0 to 1"
            )

    def __str__(self) -> str:
        return f"re-ranked (k1 {self.k1}, k2 {self.k2}, lambda {self.weight:g})"


def rerank_blocks(
    blocks: ScoreBlocks,
    query: Features,
    gallery: Features,
    metric: str,
    rerank: Rerank,
    *,
    device: torch.device | str = "cpu",
) -> ScoreBlocks:
    """Mix the Jaccard distance of neighbourhoods into distances.

    Args:
        blocks: the distances, which are replaced where they lie.
        query: features `[Q, D]`.
        gallery: features `[G, D]`; galleries smaller than ``k1`` are fine.
        metric: by which neighbours are found: that of the distances.
        rerank: how to re-rank.
        device: where to find the neighbours, ``"cpu"`` or a CUDA device.

    Yields:
        The query rows, and ``(1 - weight) * jaccard + weight * distance`` `[rows, G]` in float32.

    Raises:
        UserError: the features have no rows or different lengths, or one of them is not finite.
    """
    images = joined(query, gallery)
    codes = _encode(images, metric, rerank, device)
    members = codes[len(query) :].T.tocsr()  # [Q + G, G], by neighbour
    for rows, distances in blocks:
        for start in range(0, len(distances), QUERIES):
            part = distances[start : start + QUERIES]
            first = rows.start + start
            jaccard = _jaccard(codes[first : first + len(part)], members)
            part[:] = (1 - rerank.weight) * jaccard + rerank.weight * part
        yield rows, distances


def _encode(
    images: Tensor, metric: str, rerank: Rerank, device: torch.device | str
) -> sparse.csr_array:
    """Return each image as weights of its neighbours `[N, N]`, which sum to 1 in each row."""
    ranked, distances = _neighbours(images, rerank.k1, metric, device)
    mutual = _reciprocal(ranked)
    close = _reciprocal(ranked[:, : round(rerank.k1 / 2) + 1])
    # A neighbour's close ones are welcome as well if more than 2/3 of them are neighbours already.
    common = mutual.multiply(mutual @ close.T).tocsr()
    common.data = (3 * common.data > 2 * np.diff(close.indptr)[common.indices]).astype(np.int64)
    common.eliminate_zeros()
    welcome = (common @ close).astype(bool)
    welcome = (welcome > mutual.astype(bool)).tocoo()  # those that are no neighbours yet

    pairs = welcome.row, welcome.col
    further = pair_distances(images, *pairs, metric, device=device)
    codes = mutual.multiply(as_sparse(ranked, _weights(distances, metric))).tocsr()
    codes += sparse.csr_array((_weights(further, metric), pairs), welcome.shape)
    total = np.maximum(codes @ np.ones(len(images)), np.finfo(float).tiny)  # of none: 0
    codes.data /= np.repeat(total, np.diff(codes.indptr))
    if rerank.k2 > 1:
        averaged = ranked[:, : rerank.k2]
        codes = as_sparse(averaged, np.full(averaged.shape, 1 / averaged.shape[1])) @ codes
    return codes


def _neighbours(
    images: Tensor, k: int, metric: str, device: torch.device | str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and distances of each image's nearest `[N, k]`, nearest first.

    One neighbour more or less in a list changes the ranks of many images, so those that are almost
    equally near are put in order by sums in float64.
    """
    ranked, distances = nearest(images, k + SPARE, metric, device=device)
    alike = np.diff(distances) < CLOSE
    rows, places = np.nonzero(np.pad(alike, ((0, 0), (0, 1))) | np.pad(alike, ((0, 0), (1, 0))))
    pairs = rows, ranked[rows, places]
    distances[rows, places] = pair_distances(images, *pairs, metric, device=device)
    order = np.lexsort((ranked, distances), axis=1)[:, :k]
    return np.take_along_axis(ranked, order, axis=1), np.take_along_axis(distances, order, axis=1)


def _weights(distances: np.ndarray, metric: str) -> np.ndarray:
    # The squared distance of features of unit length is twice their cosine distance.
    return np.exp((-2.0 if metric == "cosine" else -1.0) * distances.astype(np.float64))


def _reciprocal(ranked: np.ndarray) -> sparse.csr_array:
    """Return `[N, N]` with 1 where two images stand in one another's lists `[N, k]`."""
    listed = as_sparse(ranked, np.ones(ranked.shape, dtype=np.int64))
    return listed.multiply(listed.T).tocsr()


def as_sparse(ranked: np.ndarray, values: np.ndarray) -> sparse.csr_array:
    """Return `[N, N]` with a value for each image in each list of rows `[N, k]`."""
    images, k = ranked.shape
    starts = np.arange(0, ranked.size + 1, k)
    return sparse.csr_array((values.ravel(), ranked.ravel(), starts), shape=(images, images))


def _jaccard(codes: sparse.csr_array, members: sparse.csr_array) -> np.ndarray:
    """Return the Jaccard distances `[Q, G]` of some queries: 1 - sum of minima / sum of maxima.

    Args:
        codes: the encodings of the queries `[Q, N]`.
        members: those of the gallery, by neighbour `[N, G]`.
    """
    queries, gallery = len(codes.indptr) - 1, members.shape[1]
    having = members[codes.indices]  # a row for each neighbour of each query: who else has it
    counts = np.diff(having.indptr)
    shared = np.minimum(having.data, np.repeat(codes.data, counts))
    query = np.repeat(np.repeat(np.arange(queries), np.diff(codes.indptr)), counts)
    places = query * gallery + having.indices
    minima = np.bincount(places, shared, minlength=queries * gallery).reshape(queries, gallery)
    return np.maximum(1 - minima / (2 - minima), 0)  # the sums of the two rows are 1 each
