"""Local features: extraction against OpenCV alone, matching as HotSpotter does, and how it grows.

The photographs are drawn (:func:`benchmarks.photographs.photograph`), 336 pixels wide. Galleries
are of keypoints drawn from theirs, a little changed, 600 a photograph. Extraction is timed on one
core, and so is OpenCV; the rest on all. Each gallery has a process of its own.
"""

import resource
import time

import numpy as np
import torch

from benchmarks.harness import Report, in_process, in_turn, options, peak_memory
from benchmarks.photographs import photograph
from openanimals.matching.keypoints import Keypoints, extract_keypoints
from openanimals.matching.lnbnn import KeypointTable, as_table
from openanimals.matching.local import LocalMatcher

WIDTH, HEIGHT, POINTS = 336, 252, 600
DRAWN = 40  # photographs
CHANGE = 12  # by which numbers of a descriptor, of 0 to 255, differ at most
QUERIES = 8  # of a growing gallery


def main() -> None:
    """Measure and report."""
    parser = options(__doc__)
    parser.add_argument("--galleries", type=int, nargs="+", default=[100, 500, 2000, 8000, 20000])
    asked = parser.parse_args()
    report = Report("matching", "python -m benchmarks.matching")
    compare_extraction(report, asked.rounds)
    answer, peak = in_process("benchmarks.matching:match", 170, 808)
    report.line(
        f"170 queries against 808 photographs, matched and checked by geometry: "
        f"{answer['index'] + answer['match']:.0f} s, {answer['index']:.0f} of which make the index "
        f"({answer['cpu']:.0f} s of CPU time, {peak:.0f} MiB)."
    )
    rows = []
    for photographs in asked.galleries:
        answer, peak = in_process("benchmarks.matching:match", QUERIES, photographs)
        rows.append(
            {
                "gallery photographs": photographs,
                "descriptors": photographs * POINTS,
                "index, s": answer["index"],
                "a query, s": answer["match"] / QUERIES,
                "peak MiB": peak,
                "MiB besides packages and keypoints": peak - answer["before"],
            }
        )
    report.table(rows)
    report.publish(asked.write)


def compare_extraction(report: Report, rounds: int) -> None:
    """Compare our keypoints with OpenCV's SIFT, of the same photographs on one core."""
    import cv2

    pictures = [np.asarray(photograph(HEIGHT, WIDTH, seed)) for seed in range(10)]
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    sift = cv2.SIFT_create(POINTS, contrastThreshold=0.01)  # type: ignore[attr-defined]

    everything = cv2.SIFT_create(0, contrastThreshold=0.01)  # type: ignore[attr-defined]

    def upright(own: np.ndarray) -> None:
        """Find, then describe without turning: OpenCV has no single call for it."""
        found = sorted(everything.detect(own, None), key=lambda point: -point.response)[:POINTS]
        for point in found:
            point.angle = 0
        everything.compute(own, found)

    def ours(detector: str) -> None:
        for picture in pictures:
            extract_keypoints(picture, detector=detector, longest=WIDTH, points=POINTS)

    times = in_turn(
        {
            "OpenCV's SIFT alone": lambda: [sift.detectAndCompute(own, None) for own in grey],
            "OpenCV's SIFT alone, upright": lambda: [upright(own) for own in grey],
            "differences of Gaussians, upright RootSIFT": lambda: ours("dog"),
            "Hessian blobs, upright RootSIFT": lambda: ours("hessian"),
        },
        rounds,
    )
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])
    alone = next(iter(times))
    report.table(
        [
            {
                f"{POINTS} keypoints, {WIDTH} x {HEIGHT} pixels": name,
                "ms a photograph": 1000 * times.median(name) / len(pictures),
                "times OpenCV alone": times.ratio(name, alone),
            }
            for name in times
        ]
    )


def match(queries: int, photographs: int) -> dict[str, float]:
    """Match queries with a gallery.

    Returns:
        Seconds for the index and for matching, of the CPU for both, and the peak memory before them
        in MiB.
    """
    drawn = as_table([_keypoints(seed) for seed in range(DRAWN)])
    gallery, query = drawn_table(drawn, photographs, seed=0), drawn_table(drawn, queries, seed=1)
    candidates = np.ones((queries, photographs), dtype=bool)
    matcher, before = LocalMatcher(), peak_memory()
    cpu, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    matcher.spots(query, gallery, candidates, np.arange(photographs) // 4)(0, 0)  # makes the index
    index = time.perf_counter() - start
    for _ in matcher.score_blocks(query, gallery, candidates, np.arange(photographs) // 4):
        pass
    total = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime
    return {"index": index, "match": total - index, "cpu": cpu_seconds, "before": before}


def _keypoints(seed: int) -> Keypoints:
    return extract_keypoints(
        np.asarray(photograph(HEIGHT, WIDTH, seed)), longest=WIDTH, points=POINTS
    )


def drawn_table(drawn: KeypointTable, photographs: int, seed: int) -> KeypointTable:
    """Return photographs of keypoints that are drawn from others, and a little changed."""
    rng = np.random.default_rng(seed)
    count = photographs * POINTS
    rows = rng.integers(len(drawn.descriptors), size=count, dtype=np.int32)
    descriptors = drawn.descriptors[rows]
    for part in np.array_split(descriptors, max(1, photographs // 100)):
        change = rng.integers(0, CHANGE + 1, part.shape, dtype=np.uint8)
        part += np.minimum(change, 255 - part)
    xy = rng.uniform(0, WIDTH, (count, 2)).astype(np.float32)
    return KeypointTable(
        np.repeat(np.arange(photographs, dtype=np.int64), POINTS),
        xy,
        drawn.scale[rows],
        np.ones(count, dtype=np.float32),
        descriptors,
        np.full(photographs, np.hypot(WIDTH, HEIGHT)),
    )


if __name__ == "__main__":
    main()
