"""A training step and inference on a GPU: what each option of ours is worth, one by one.

Run it on a machine with CUDA; ``--device cpu`` with a small ``--batch`` and ``--size`` only tries
that it works.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import Report, in_turn, matrix_rate, options
from benchmarks.photographs import draw, waiting
from benchmarks.training import herd, step_on, trainer
from openanimals.config import CfgNode, load
from openanimals.engine.device import place
from openanimals.modeling import build_model
from openanimals.modeling.folding import fold_norms

CONFIG = "configs/Base-ARBase.yml"
CLASSES = 1000
REPEATS = 10  # steps of a round
READY = 800  # images that the loader draws from
FASTEST = ("SOLVER.AMP.DTYPE", "bfloat16")
EPOCHS = 120
ITERATIONS = {"hyena": 23, "leopard": 47, "sea turtle": 59, "whale shark": 60}  # an epoch, of 64
BATCH = 64  # of the published recipe


def main() -> None:
    """Time the variants in turn and report them."""
    parser = options(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--size", type=int, default=384, help="height and width in pixels")
    asked = parser.parse_args()
    if asked.device != "cpu" and not torch.cuda.is_available():
        parser.error("PyTorch sees no CUDA device on this machine")
    report = Report("gpu", "python -m benchmarks.gpu")
    report.line(f"ARBase at {asked.size}x{asked.size}, batch {asked.batch}, on {asked.device}.")
    gpu = Bench(asked.device, asked.batch, asked.size, asked.rounds)
    training = gpu.rows(gpu.training())
    report.line(
        "Training steps on a batch that is on the device: forward, losses, backward, update."
    )
    report.table(training)
    share, seconds = gpu.fed()
    report.line(
        f"With the loader and augmentation, in bfloat16 and from images that are ready on disk: "
        f"{asked.batch / seconds:.0f} images/s; the process spent {share:.2%} of the time in the "
        "loader, and the device waited for it no longer than that."
    )
    best = max(row["images/s"] for row in training)
    images = sum(ITERATIONS.values()) * BATCH * EPOCHS
    report.line(
        f"{EPOCHS} epochs of the four species of the paper are {images} images: at {best:.0f} "
        f"images/s, {images / best / 60:.0f} minutes, evaluations not counted."
    )
    report.line("Inference on a batch that is on the device:")
    report.table(gpu.rows(gpu.inference()))
    report.publish(asked.write)


class Bench:
    """The variants for one device and size of batch.

    Args:
        device: ``cuda`` or ``cpu``.
        batch: images of a step.
        size: height and width of an image.
        rounds: of which medians are taken.
    """

    def __init__(self, device: str, batch: int, size: int, rounds: int) -> None:
        self.device, self.rounds = torch.device(device), rounds
        self.batch, self.size = batch, size
        self.repeats = 1 if device == "cpu" else REPEATS
        side = 512 if device == "cpu" else 8192
        self.rate = matrix_rate(torch.bfloat16, device, side)
        shape = (batch, 3, size, size)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.train = herd([Path("none")], 4 * CLASSES)

    def training(self) -> dict[str, Callable[[], object]]:
        """Return the steps: the defaults in bfloat16, then each with one thing changed."""
        variants = {
            "bfloat16": self._step(*FASTEST),
            "float32": self._step("SOLVER.AMP.ENABLED", "False"),
            "bfloat16, images not channels-last": self._step(*FASTEST, channels_last=False),
            "bfloat16, Adam by tensor": self._step(*FASTEST, fused=False),
            "bfloat16, `SOLVER.COMPILE`": self._step(*FASTEST, "SOLVER.COMPILE", "True"),
        }
        if self.device.type == "cuda":
            variants["float16"] = self._step("SOLVER.AMP.DTYPE", "float16")
        return variants

    def _step(
        self, *overrides: str, channels_last: bool = True, fused: bool = True
    ) -> Callable[[], object]:
        trained = trainer(self._config(*overrides), self.train)
        images = self.images
        if not channels_last:
            trained.model.to(memory_format=torch.contiguous_format)
            images = images.contiguous()
        for group in trained.optimizer.param_groups:
            group["fused"], group["foreach"] = fused, False
        return step_on(trained, images)

    def fed(self) -> tuple[float, float]:
        """Return the share of a training's time spent in the loader, and a step's seconds."""
        cfg = self._config(*FASTEST, "INPUT.SIZE_TRAIN", f"[{self.size}, {self.size}]")
        with tempfile.TemporaryDirectory() as folder:
            train = herd(draw(Path(folder), megapixels=1), READY)
            return waiting(cfg, train, Path(folder), steps=self.repeats * self.rounds)

    def inference(self) -> dict[str, Callable[[], object]]:
        """Return the forward passes of an evaluation."""
        model = place(build_model(self._config(), 0), self.device).eval()
        folded = fold_norms(model)

        @torch.no_grad()
        def features(model: nn.Module, dtype: torch.dtype) -> None:
            with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
                model(self.images)

        return {
            "float32": partial(features, model, torch.float32),
            "float32, `TEST.FOLD_NORMS`": partial(features, folded, torch.float32),
            "`TEST.DTYPE bfloat16`": partial(features, model, torch.bfloat16),
            "`TEST.DTYPE bfloat16`, `TEST.FOLD_NORMS`": partial(features, folded, torch.bfloat16),
        }

    def _config(self, *overrides: str) -> CfgNode:
        keys = ["MODEL.DEVICE", self.device.type, "MODEL.BACKBONE.PRETRAIN", "False"]
        return load(CONFIG, [*keys, "SOLVER.IMS_PER_BATCH", str(self.batch), *overrides])

    def rows(self, variants: dict[str, Callable[[], object]]) -> list[dict[str, object]]:
        """Time the variants in turn; return a row for each."""
        first = next(iter(variants))
        with FlopCounterMode(display=False) as counter:
            variants[first]()
        roofline = counter.get_total_flops() / self.rate / self.batch

        def repeated(variant: Callable[[], object]) -> None:
            for _ in range(self.repeats):
                variant()

        work = {name: partial(repeated, variant) for name, variant in variants.items()}
        times = in_turn(work, self.rounds, self.device.type)
        rows = []
        for name in variants:
            seconds = times.median(name) / self.repeats / self.batch
            rows.append(
                {
                    "": name,
                    "images/s": 1 / seconds,
                    f"rate over {first}": 1 / times.ratio(name, first),
                    "share of the bfloat16 matrix rate": f"{roofline / seconds:.0%}",
                }
            )
        return rows


if __name__ == "__main__":
    main()
