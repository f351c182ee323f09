"""Scale: a gallery of a million images, evaluated in a process of its own, in time and memory.

With ``--folder`` the gallery's features are mapped from a file there, and not held in memory; what
the peak then shows of the file are pages that the system may take away again.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.evaluation import EACH, around, stable_sort
from benchmarks.harness import Report, in_process, matrix_rate, options

CHECKED = 4  # queries whose average precision is compared with the definition's


def main() -> None:
    """Measure and report."""
    parser = options(__doc__)
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--folder", help="for the file of features, as many MiB as they take")
    given = parser.parse_args()
    sizes = given.queries, given.gallery, given.dimensions
    command = "python -m benchmarks.scale --queries {} --gallery {} --dimensions {}"
    report = Report("scale", command.format(*sizes) + (" --folder ..." if given.folder else ""))
    answer, peak = in_process("benchmarks.scale:evaluate_gallery", *sizes, given.folder)
    product = 2 * given.queries * given.gallery * given.dimensions / matrix_rate()
    report.table(
        [
            {
                "queries": given.queries,
                "gallery": f"{given.gallery} x {given.dimensions}",
                "features": f"{'mapped' if given.folder else 'in memory'}, {answer['MiB']:.0f} MiB",
                "seconds": answer["seconds"],
                "times the products at the matrix rate": answer["seconds"] / product,
                "peak MiB": peak,
            }
        ]
    )
    report.line(
        f"Largest difference of an average precision from that of a stable sort, of the first "
        f"{CHECKED} queries: {answer['difference']:.1e}. A single run."
    )
    report.publish(given.write)


def evaluate_gallery(
    queries: int, images: int, dimensions: int, folder: str | None
) -> dict[str, Any]:
    """Evaluate random features; return the seconds, the features' MiB and the AP's error."""
    from openanimals.evaluation import evaluate
    from openanimals.evaluation.distance import distance_blocks

    rng = np.random.default_rng(0)
    names = rng.integers(0, images // EACH + 1, queries + images)
    names = names[:queries], names[queries:]
    centres = rng.standard_normal((images // EACH + 1, dimensions), dtype=np.float32)
    query = around(rng, centres, names[0], np.empty((queries, dimensions), dtype=np.float32))
    with TemporaryDirectory(dir=folder) as scratch:
        if folder:
            path, shape = Path(scratch) / "gallery", (images, dimensions)
            around(rng, centres, names[1], np.memmap(path, np.float32, "w+", shape=shape))
            gallery: np.ndarray = np.memmap(path, np.float32, "r", shape=shape)
        else:
            gallery = around(rng, centres, names[1], np.empty((images, dimensions), np.float32))
        del centres
        start = time.perf_counter()
        result = evaluate(query, gallery, *names)
        seconds = time.perf_counter() - start
        [(_, distances)] = distance_blocks(query[:CHECKED], gallery)
    expected = stable_sort(distances, names[0][:CHECKED], names[1])
    difference = np.nanmax(abs(result.ranking.average_precision[:CHECKED] - expected))
    return {
        "seconds": seconds,
        "MiB": (query.nbytes + gallery.nbytes) / 2**20,
        "difference": float(difference),
    }


if __name__ == "__main__":
    main()
