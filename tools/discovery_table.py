"""How well unknown animals are grouped, on catalogues whose individuals are known.

python tools/discovery_table.py holstein.csv --model configs/ARBase/holstein-lite.yml

The individuals are divided in halves. One teaches: our calibration, and the thresholds with which
scikit-learn's DBSCAN, HDBSCAN and agglomerative clustering of the same evidence reach the highest
adjusted Rand index there. The other is grouped, as if nobody had a name. Then they change places.
Where photographs have a viewpoint, --one-by-one groups each by itself, without comparing those of
one encounter; an animal is then counted once for each side that it was seen from.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from identification_table import read_thinned
from openanimals.engine.matchers import CatalogueImages
from openanimals.identification.build import build_matchers
from openanimals.identification.catalogue_file import as_catalogue
from openanimals.identification.discovery.discover import Units, score_pairs, units_of
from openanimals.identification.discovery.grouping import group
from openanimals.identification.discovery.pair_evidence import PairEvidence, expect, pair_weights
from openanimals.identification.learning import Settings
from openanimals.identification.listing import Listing
from openanimals.identification.pooling import Photos

MOST = 300  # encounters of a half
FAR = 30.0  # what cannot be compared, in units of evidence below the best
Cluster = Callable[[np.ndarray, float], np.ndarray]


def halves(listing: Listing) -> Iterator[Listing]:
    """Give two listings that share no individual, each with so many encounters at most."""
    table = listing.table
    sizes = table.groupby("identity")["sequence"].nunique()
    names = np.random.default_rng(0).permutation(sorted(sizes.index))
    for own in (names[::2], names[1::2]):
        kept = own[sizes[own].cumsum().to_numpy() <= MOST]
        yield Listing(table[table["identity"].isin(kept)].reset_index(drop=True), listing.root)


def truth_of(listing: Listing, units: Units, settings: Settings) -> np.ndarray:
    """Return whom each encounter shows; one by one, or where it has one side, which side of it."""
    views = listing.table["viewpoint"].fillna("").to_numpy(str)
    seen = ["+".join(sorted(set(views[rows]))) for rows in units.rows]
    one_sided = not settings.pooled or not any("+" in own for own in seen)
    own = [
        str(name) + (side if one_sided else "")
        for name, side in zip(units.individuals, seen, strict=True)
    ]
    return np.unique(own, return_inverse=True)[1]


def baselines() -> dict[str, tuple[Cluster, np.ndarray]]:
    """Return clusterings of distances, and what their thresholds are chosen from."""
    from sklearn.cluster import DBSCAN, HDBSCAN, AgglomerativeClustering

    def agglomerative(linkage: str) -> Cluster:
        return lambda distances, threshold: AgglomerativeClustering(
            None, metric="precomputed", linkage=linkage, distance_threshold=threshold
        ).fit_predict(distances)

    steps = np.linspace(0.5, 20, 79)
    return {
        "DBSCAN": (
            lambda distances, eps: alone(
                DBSCAN(eps=eps, min_samples=2, metric="precomputed").fit_predict(distances)
            ),
            steps,
        ),
        "HDBSCAN": (
            lambda distances, size: alone(
                HDBSCAN(
                    2 + int(size) // 2,
                    min_samples=1,
                    cluster_selection_method=("eom", "leaf")[int(size) % 2],
                    metric="precomputed",
                    copy=True,
                ).fit_predict(distances)
            ),
            np.arange(12.0),  # the smallest group, and how it chooses
        ),
        "agglomerative, average": (agglomerative("average"), steps),
        "agglomerative, complete": (agglomerative("complete"), steps),
    }


def alone(labels: np.ndarray) -> np.ndarray:
    """Make each of those that belong to nobody (-1) a group of its own."""
    return np.where(labels < 0, labels.max() + 1 + np.arange(len(labels)), labels)


def measured(
    teach: tuple[np.ndarray, np.ndarray], asked: tuple[np.ndarray, np.ndarray]
) -> dict[str, tuple[float, int]]:
    """Return by method the adjusted Rand index and the number of groups.

    Args:
        teach: scores `[E, E, M]` of encounters to learn from, and whom they show `[E]`.
        asked: those of encounters to be grouped.
    """
    from sklearn.metrics import adjusted_rand_score

    model = PairEvidence.fit(*teach)
    learnt, evidence = model(teach[0]), model(asked[0])
    expected = expect(evidence, model.partners, np.ones(len(evidence), bool))
    ours = group(pair_weights(evidence, expected))
    found = {"ours": (adjusted_rand_score(asked[1], ours), int(ours.max()) + 1)}
    best = max(np.nanmax(learnt), np.nanmax(evidence))
    there, here = (np.nan_to_num(best - each, nan=FAR) for each in (learnt, evidence))
    for distances in (there, here):
        np.fill_diagonal(distances, 0)
    for name, (cluster, thresholds) in baselines().items():
        chosen = max(thresholds, key=lambda t: adjusted_rand_score(teach[1], cluster(there, t)))
        labels = cluster(here, chosen)
        found[name] = adjusted_rand_score(asked[1], labels), len(np.unique(labels))
    return found


def main() -> None:
    """Print a row for each matcher and half."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("catalogue", help="a CSV file, or the name of a data set")
    parser.add_argument("--root", type=Path, default=Path("datasets"), help="of data sets")
    parser.add_argument("--model")
    parser.add_argument("--matchers", nargs="+", default=["local"])
    parser.add_argument("--one-by-one", action="store_true")
    parser.add_argument("--opts", nargs="*", default=[], help="KEY VALUE, of the model")
    options = parser.parse_args()
    settings = Settings(pooled=not options.one_by_one)
    parts = [*halves(read_thinned(options.catalogue, options.root))]
    place = Path(options.catalogue).absolute()
    columns = ["ours", *baselines()]
    print("| matcher | encounters | individuals | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 3) + "|")
    for name in options.matchers:
        model, opts = (None, []) if name == "local" else (options.model, options.opts)
        matchers, _ = build_matchers(name, model, place, overrides=opts)
        scored = []
        for part in parts:
            units = units_of(part.table, settings)
            photos = Photos.of(matchers, CatalogueImages(as_catalogue(*part), masked=True))
            scores, _ = score_pairs(matchers, photos, units, np.ones(len(units.rows), bool))
            scored.append((scores, truth_of(part, units, settings)))
        for teach, asked in (scored, scored[::-1]):
            found = measured(teach, asked)
            cells = [f"{index:.3f} ({count})" for index, count in found.values()]
            counts = f"{len(asked[1])} | {len(pd.unique(asked[1]))}"
            print(f"| {name} | {counts} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
