"""From photographs to batches: the released steps, Pillow, the fast way, and the image cache.

The photographs are drawn: like natural ones, their contrast falls with the spatial frequency, and
so the JPEG files have a common number of bits a pixel, which decides what decoding costs. All is
timed on one core, the files in the system's cache.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from benchmarks.harness import Report, in_turn, options, wait_for
from benchmarks.training import herd, trainer
from openanimals.config import CfgNode, load
from openanimals.data.build import TrainSet
from openanimals.data.cache import ImageCache
from openanimals.data.image_io import jpeg_pixels, read_image
from openanimals.data.loaders import build_train_loader

SIZE = (384, 384)
SHAPES = {1: (864, 1152, 6), 10: (2736, 3648, 2)}  # by megapixels: height, width, photographs
QUALITY = 85
BATCH, BATCHES = 64, 50  # of cached images, in a round
WARM = 3  # steps that are not timed
CPU = torch.device("cpu")


def main() -> None:
    """Measure and report."""
    parser = options(__doc__)
    parser.add_argument("--cached", type=int, default=800, help="images in the cache")
    parser.add_argument("--steps", type=int, default=20, help="training steps of a round")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    report = Report("photographs", "python -m benchmarks.photographs")
    with tempfile.TemporaryDirectory() as folder:
        files = {size: draw(Path(folder), size) for size in SHAPES}
        compare_decoders(report, files, asked.rounds)
        train = herd(files[1], asked.cached)
        compare_batches(report, train, Path(folder), asked.rounds)
        compare_steps(report, train, Path(folder), asked.steps)
    report.publish(asked.write)


def draw(folder: Path, megapixels: int) -> list[Path]:
    """Save photographs of a size, and return their paths."""
    height, width, count = SHAPES[megapixels]
    paths = [folder / f"{megapixels}-{number}.jpg" for number in range(count)]
    for seed, path in enumerate(paths):
        photograph(height, width, seed).save(path, quality=QUALITY)
    return paths


def photograph(height: int, width: int, seed: int) -> Image.Image:
    """Draw noise whose amplitude falls with the frequency, in colour less of it."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf  # the mean is set below
    channels = []
    for mean, contrast in ((120, 50), (128, 12), (128, 12)):
        noise = np.fft.rfft2(rng.standard_normal((height, width)))
        waves = np.fft.irfft2(noise / frequency**1.25, s=(height, width))
        channels.append(mean + contrast * waves / waves.std())
    pixels = np.stack(channels, axis=2).clip(0, 255).astype(np.uint8)
    return Image.frombytes("YCbCr", (width, height), pixels.tobytes()).convert("RGB")


def released(path: Path) -> torch.Tensor:
    """Take the steps of the released pipeline, in the test's order: floats ``[3, H, W]``."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
    image = Image.fromarray(np.asarray(upright))
    small = image.resize(SIZE[::-1], Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous().float()


def only_decode(path: Path) -> torch.Tensor | None:
    """Do what no reader can leave out."""
    return jpeg_pixels(torch.from_numpy(np.fromfile(path, np.uint8)))


def fast(path: Path) -> np.ndarray:
    """Read as for training."""
    return read_image(path, SIZE, exact=False)


def exact(path: Path) -> np.ndarray:
    """Read as for evaluation."""
    return read_image(path, SIZE)


def each(read: Callable[[Path], Any], paths: list[Path]) -> None:
    """Read all, and keep none."""
    for path in paths:
        read(path)


def compare_decoders(report: Report, files: dict[int, list[Path]], rounds: int) -> None:
    """Report images/s of each way, and what the fast one changes."""
    speed, difference = [], []
    ways = {"released": released, "Pillow": exact, "fast": fast, "decoding alone": only_decode}
    for size, paths in files.items():
        times = in_turn({name: partial(each, read, paths) for name, read in ways.items()}, rounds)
        height, width, count = SHAPES[size]
        bits = 8 * sum(path.stat().st_size for path in paths)
        speed.append(
            {
                "megapixels": size,
                "bits a pixel": bits / (height * width * count),
                **{f"{name}, images/s": count / times.median(name) for name in ways},
                "times Pillow": times.ratio("Pillow", over="fast"),
                "times released": times.ratio("released", over="fast"),
                "decoding alone, times Pillow": times.ratio("Pillow", over="decoding alone"),
            }
        )
        levels = np.abs([fast(path).astype(int) - exact(path) for path in paths])
        same = all(np.array_equal(only_decode(path), Image.open(path)) for path in paths)
        difference.append(
            {
                "megapixels": size,
                "decoded pixels": "identical" if same else "NOT identical",
                "equal values after the resize": f"{(levels == 0).mean():.2%}",
                "largest difference, levels": int(levels.max()),
            }
        )
    report.line(
        f"Photographs to {SIZE[0]}x{SIZE[1]}, on one core; the columns `times` are of the fast "
        "way's rate over the others'. The last one is what would be left if a resize took no time: "
        "the limit of any way through libjpeg."
    )
    report.table(speed)
    report.line("What the fast way changes:")
    report.table(difference)


def image_cache(folder: Path) -> ImageCache:
    """Return a cache on disk."""
    return ImageCache("disk", limit=2**40, folder=folder / "cache", device=CPU)


def compare_batches(report: Report, train: TrainSet, folder: Path, rounds: int) -> None:
    """Report images/s of batches from the cache, over those of Pillow."""
    keys = ["INPUT.SIZE_TRAIN", [*SIZE], "SOLVER.IMS_PER_BATCH", BATCH]
    start = time.perf_counter()
    cfg = load("configs/Base-ARBase.yml", keys)
    cached_loader = build_train_loader(cfg, train, cache=image_cache(folder))
    batches = iter(cached_loader)
    next(batches)
    seconds = time.perf_counter() - start
    cached = cached_loader.cache.open(cached_loader.dataset)
    paths = sorted({Path(path) for path in cached_loader.dataset.paths})
    rows = [torch.randint(len(train.images), (BATCH,)) for _ in range(BATCHES)]
    target = torch.empty(BATCH, *SIZE, 3, dtype=torch.uint8)

    def gather() -> None:
        for some in rows:
            cached.take(some)

    def load_batches() -> None:
        for _ in rows:
            next(batches)

    def copy() -> None:
        for some in rows:
            start = int(some[0]) % (len(train.images) - BATCH)
            target.copy_(cached.images[start : start + BATCH])

    ways = {
        "released": partial(each, released, paths),
        "Pillow": partial(each, exact, paths),
        "gathered": gather,
        "training loader": load_batches,
        "memory copied": copy,
    }
    times = in_turn(ways, rounds)
    few = len(paths)
    counts = {name: BATCH * BATCHES for name in ways} | {"released": few, "Pillow": few}
    report.line(
        f"Batches of {BATCH} from {len(train.images)} images that are cached on disk (in "
        f"{seconds:.1f} s), on one core:"
    )
    report.table(
        [
            {
                "batches": name,
                "images/s": count / times.median(name),
                "times Pillow": times.ratio("Pillow", over=name) * count / few,
                "times released": times.ratio("released", over=name) * count / few,
            }
            for name, count in counts.items()
        ]
    )


def compare_steps(report: Report, train: TrainSet, folder: Path, steps: int) -> None:
    """Report the share of the time that training on a CPU waits for images."""
    cfg = load("configs/ARBase/demo.yml", ["MODEL.DEVICE", "cpu"])
    share, seconds = waiting(cfg, train, folder, steps)
    height, width = cfg.INPUT.SIZE_TRAIN
    report.line(
        f"Training of the demo (ARBase, {height}x{width}, batch {cfg.SOLVER.IMS_PER_BATCH}; the "
        f"smallest images and so the shortest steps of all configs), with cached images: "
        f"{share:.2%} of a step of {seconds:.2f} s is the loader's."
    )


def waiting(cfg: CfgNode, train: TrainSet, folder: Path, steps: int) -> tuple[float, float]:
    """Train on cached images, on MODEL.DEVICE.

    Args:
        cfg: the training.
        train: its images.
        folder: for the cached images.
        steps: that are timed.

    Returns:
        The share of the time in which the loader was waited for, and the seconds of a step.
    """
    trained = trainer(cfg, train, image_cache(folder))
    batches, device = iter(trained.loader()), trained.device
    waited = start = 0.0
    for number in range(-WARM, steps):
        if number == 0:
            wait_for(device.type)
            waited, start = 0.0, time.perf_counter()
        before = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - before
        trained.train_step(batch)
    wait_for(device.type)
    seconds = time.perf_counter() - start
    return waited / seconds, seconds / steps


if __name__ == "__main__":
    main()
