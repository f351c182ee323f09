"""Ranking: from features to average precision, beside slower ways and the bare matrix product.

All take the same features, drawn around the centres of individuals. The product is the least that
an exact search can take; no ranking comes with it.
"""

from functools import partial

import numpy as np

from benchmarks.harness import Report, in_process, in_turn, options, peak_memory

EACH = 20  # images of an individual

Sample = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # features, identities of both sides


def main() -> None:
    """Measure and report."""
    parser = options(__doc__)
    parser.set_defaults(rounds=5)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--gallery", type=int, default=20000)
    parser.add_argument("--dimensions", type=int, default=2048)
    arguments = parser.parse_args()
    sizes = arguments.queries, arguments.gallery, arguments.dimensions
    command = "python -m benchmarks.evaluation --queries {} --gallery {} --dimensions {}"
    report = Report("evaluation", command.format(*sizes))
    memory = {
        name: in_process("benchmarks.evaluation:extra_memory", name, *sizes)[0] for name in WAYS
    }
    sample = features(*sizes)
    times = in_turn({name: partial(way, *sample) for name, way in WAYS.items()}, arguments.rounds)
    report.table(
        [
            {
                "": name,
                "seconds": times.median(name),
                "times the product": times.ratio(name, "product"),
                "extra MiB": memory[name],
            }
            for name in WAYS
        ]
    )
    for what, which in (("these", sample), ("rounded, mostly equal", rounded(*sample))):
        report.line(
            f"Largest difference of an average precision from that of a stable sort of the same "
            f"distances, of {what} features: {difference(*which):.1e}."
        )
    report.publish(arguments.write)


def features(queries: int, gallery: int, dimensions: int) -> Sample:
    """Return features and identities of queries and gallery; takes no more memory than they do."""
    rng = np.random.default_rng(0)
    identities = rng.integers(0, max(1, gallery // EACH), queries + gallery)
    centres = rng.standard_normal((identities.max() + 1, dimensions), dtype=np.float32)
    drawn = around(
        rng, centres, identities, np.empty((queries + gallery, dimensions), dtype=np.float32)
    )
    return drawn[:queries], drawn[queries:], identities[:queries], identities[queries:]


def around(
    rng: np.random.Generator, centres: np.ndarray, identities: np.ndarray, drawn: np.ndarray
) -> np.ndarray:
    """Fill an array with features of individuals, few at a time."""
    for start in range(0, len(drawn), 1000):
        own = identities[start : start + 1000]
        noise = rng.standard_normal((len(own), drawn.shape[1]), dtype=np.float32)
        drawn[start : start + 1000] = 4 * noise + centres[own]
    return drawn


def rounded(query: np.ndarray, gallery: np.ndarray, *identities: np.ndarray) -> Sample:
    """Return a sample most of whose distances are equal: few whole numbers."""
    sides = ((side[:, :4] / 4).round().astype(np.float32) for side in (query, gallery))
    return (*sides, *identities)


def product(query: np.ndarray, gallery: np.ndarray, *_: np.ndarray) -> None:
    """Multiply the features, in float32."""
    import torch

    torch.from_numpy(query) @ torch.from_numpy(gallery).T


def ours(*sample: np.ndarray) -> np.ndarray:
    """Do what the package does."""
    from openanimals.evaluation import evaluate

    return evaluate(*sample).ranking.average_precision


def blocks_sorted(
    query: np.ndarray, gallery: np.ndarray, query_names: np.ndarray, gallery_names: np.ndarray
) -> np.ndarray:
    """Do what the package did before: float64 products and whole sorted blocks."""
    import torch
    import torch.nn.functional as F

    found, rows = [], 2**22 // len(gallery)
    for start in range(0, len(query), rows):
        block = F.normalize(torch.from_numpy(query[start : start + rows]).double())
        parts = torch.from_numpy(gallery).split(1024)
        cosines = [(block @ F.normalize(part.double()).T).float() for part in parts]
        distances = 1 - torch.cat(cosines, dim=1).numpy()
        matches = query_names[start : start + rows, None] == gallery_names
        order = np.argsort(distances, axis=1, kind="stable")
        hits = np.take_along_axis(matches, order, axis=1)
        counts = hits.cumsum(axis=1)
        precisions = counts / np.arange(1, len(gallery) + 1) * hits
        found.append(precisions.sum(axis=1) / counts[:, -1])
    return np.concatenate(found)


def naive(query: np.ndarray, gallery: np.ndarray, *identities: np.ndarray) -> np.ndarray:
    """Sort all distances at once, query by query."""
    query, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, gallery))
    return stable_sort(1 - query @ gallery.T, *identities)


def stable_sort(
    distances: np.ndarray, query_names: np.ndarray, gallery_names: np.ndarray
) -> np.ndarray:
    """Return the average precision of each query by the definition."""
    found = []
    for row, name in zip(distances, query_names, strict=True):
        hits = (gallery_names == name)[np.argsort(row, kind="stable")]
        ranks = np.flatnonzero(hits) + 1
        precisions = np.arange(1, len(ranks) + 1) / ranks
        found.append(precisions.mean() if len(ranks) else np.nan)
    return np.array(found)


WAYS = {"product": product, "ours": ours, "blocks sorted": blocks_sorted, "all sorted": naive}


def extra_memory(name: str, *sizes: int) -> float:
    """Return by how many MiB a way raises the peak memory, features and packages apart."""
    sample = features(*sizes)
    one, identity = np.ones((1, 1), dtype=np.float32), np.zeros(1)
    WAYS[name](one, one, identity, identity)  # imports what it needs
    before = peak_memory()
    WAYS[name](*sample)
    return peak_memory() - before


def difference(query: np.ndarray, gallery: np.ndarray, *identities: np.ndarray) -> float:
    """Return the largest difference of our average precisions from the definition's."""
    from openanimals.evaluation.distance import distance_blocks

    blocks = [
        stable_sort(block, identities[0][rows], identities[1])
        for rows, block in distance_blocks(query, gallery)
    ]
    return float(np.nanmax(abs(ours(query, gallery, *identities) - np.concatenate(blocks))))


if __name__ == "__main__":
    main()
