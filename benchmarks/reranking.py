"""Re-ranking: sparse against a dense implementation of the same formula, in time and memory.

Each runs in a process of its own, in turn. Features are drawn around the centres of individuals.
"""

import statistics
import time

import numpy as np

from benchmarks.evaluation import stable_sort
from benchmarks.harness import Report, in_process, matrix_rate, options, peak_memory

DIMENSIONS, EACH = 2048, 11  # numbers a feature; images of an individual, one of them the query
LATENT = 64  # dimensions in which images differ
NOISE = 1.2  # by how much one of an individual does, where individuals do by 1
K1, K2, WEIGHT = 20, 6, 0.3


def main() -> None:
    """Measure and report."""
    parser = options(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--images", type=int, default=6000, help="queries and gallery together")
    arguments = parser.parse_args()
    images = arguments.images
    report = Report("reranking", f"python -m benchmarks.reranking --images {images}")
    product = 2 * images**2 * DIMENSIONS / matrix_rate()  # seconds
    runs: dict[str, list[dict[str, float]]] = {"dense": [], "sparse": []}
    for _ in range(arguments.rounds):
        for name in runs:
            answer, peak = in_process("benchmarks.reranking:rank", name, images)
            runs[name].append({**answer, "peak": peak, "more": peak - answer["before"]})
    report.table(
        [
            {
                "re-ranking": name,
                "seconds": _median(runs, name, "seconds"),
                "times one product of all with all": _median(runs, name, "seconds") / product,
                "peak MiB": _median(runs, name, "peak"),
                "MiB besides packages and features": _median(runs, name, "more"),
                "mAP": f"{_median(runs, name, 'mAP'):.6f}",
            }
            for name in runs
        ]
    )
    pairs = list(zip(runs["dense"], runs["sparse"], strict=True))
    faster = statistics.median(a["seconds"] / b["seconds"] for a, b in pairs)
    smaller, less = (
        _median(runs, "dense", what) / _median(runs, "sparse", what) for what in ("peak", "more")
    )
    apart = abs(_median(runs, "dense", "mAP") - _median(runs, "sparse", "mAP")) / 100
    report.line(
        f"{images} images of {DIMENSIONS} numbers, k1 {K1}, k2 {K2}, lambda {WEIGHT}, and their "
        f"ranking: sparse is {faster:.1f} times faster, in {smaller:.1f} times less memory "
        f"({less:.1f} times besides packages and features). The mAPs, as shares, are {apart:.1e} "
        "apart."
    )
    report.publish(arguments.write)


def _median(runs: dict[str, list[dict[str, float]]], name: str, what: str) -> float:
    return statistics.median(answer[what] for answer in runs[name])


def rank(name: str, images: int) -> dict[str, float]:
    """Rank by re-ranked distances.

    Returns:
        Its seconds, the mAP in percent, and the peak memory before it in MiB.
    """
    from openanimals.evaluation import Rerank, evaluate

    query, gallery, identities = features(images)
    labels = identities[: len(query)], identities[len(query) :]
    before, start = peak_memory(), time.perf_counter()
    if name == "sparse":
        result = evaluate(query, gallery, *labels, rerank=Rerank(K1, K2, WEIGHT))
        precision = result.ranking.average_precision
    else:
        precision = stable_sort(dense(query, gallery), *labels)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "mAP": 100 * float(np.mean(precision)), "before": before}


def features(images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features of queries and gallery, and the identities of both."""
    rng = np.random.default_rng(0)
    individuals = images // EACH
    identities = np.resize(np.arange(individuals), images)  # the queries: one of each
    latent = NOISE * rng.standard_normal((images, LATENT), dtype=np.float32)
    latent += rng.standard_normal((individuals, LATENT), dtype=np.float32)[identities]
    drawn = latent @ rng.standard_normal((LATENT, DIMENSIONS), dtype=np.float32)
    return drawn[:individuals], drawn[individuals:], identities


def dense(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Return re-ranked distances `[Q, G]`: everything between all images in whole matrices."""
    images = np.concatenate([query, gallery])
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    distances = 1 - images @ images.T
    ranked = np.argsort(distances, axis=1, kind="stable")

    def reciprocal(row: int, k: int) -> np.ndarray:
        listed = ranked[row, :k]
        return listed[(ranked[listed, :k] == row).any(axis=1)]

    codes = np.zeros_like(distances)
    for row in range(len(images)):
        own = reciprocal(row, K1)
        everyone = [own]
        for neighbour in own:
            close = reciprocal(neighbour, round(K1 / 2) + 1)
            if 3 * len(np.intersect1d(close, own)) > 2 * len(close):
                everyone.append(close)
        chosen = np.unique(np.concatenate(everyone))
        weights = np.exp(-2 * distances[row, chosen])
        codes[row, chosen] = weights / weights.sum()
    averaged = np.empty_like(codes)
    for row, nearest in enumerate(ranked[:, :K2]):
        averaged[row] = codes[nearest].mean(axis=0)
    codes = averaged

    queries = len(query)
    mixed = distances[:queries, queries:]
    having = [np.flatnonzero(column) for column in codes[queries:].T]
    for row, code in enumerate(codes[:queries]):
        minima = np.zeros(len(gallery))
        for neighbour in np.flatnonzero(code):
            others = having[neighbour]
            minima[others] += np.minimum(code[neighbour], codes[queries + others, neighbour])
        mixed[row] = (1 - WEIGHT) * (1 - minima / (2 - minima)) + WEIGHT * mixed[row]
    return mixed


if __name__ == "__main__":
    main()
