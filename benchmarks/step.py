"""A training step on the CPU: precision, layout, compilation, optimiser, and its peak memory."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import Report, in_process, in_turn, matrix_rate, options
from benchmarks.training import herd, step_on, trainer
from openanimals.config import load
from openanimals.engine.device import place
from openanimals.modeling import ReIDModel, build_model

CONFIG = "configs/Base-ARBase.yml"
CLASSES = 145  # of HyenaID2022
CPU = torch.device("cpu")
ADAM = {"lr": 3.5e-4, "weight_decay": 5e-4}


def main() -> None:
    """Time steps and optimisers in turn, measure memory, and report."""
    parser = options(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--batch", type=int, default=8, help="images of a step that is timed")
    parser.add_argument("--memory-batch", type=int, default=8, help="of one that is measured")
    parser.add_argument("--size", type=int, default=384, help="height and width in pixels")
    asked = parser.parse_args()
    report = Report("step", "python -m benchmarks.step")
    rates = {kind: matrix_rate(getattr(torch, kind)) for kind in ("float32", "bfloat16")}
    report.line(
        f"A matrix product in bfloat16 takes {rates['float32'] / rates['bfloat16']:.2f} of the "
        f"time of one in float32, which runs at {rates['float32'] / 1e9:.0f} GFLOP/s."
    )
    time_steps(report, asked.batch, asked.size, asked.rounds, rates)
    time_optimizers(report, asked.rounds)
    measure_memory(report, asked.memory_batch, asked.size)
    report.publish(asked.write)


# Steps


def time_steps(report: Report, batch: int, size: int, rounds: int, rates: dict[str, float]) -> None:
    """Report the steps of a training, each with one thing changed."""
    layout = torch.contiguous_format
    variants = {
        "float32": step("float32", batch, size),
        "bfloat16": step("bfloat16", batch, size),
        "bfloat16, not channels-last": step("bfloat16", batch, size, layout),
        "bfloat16, `SOLVER.COMPILE`": step("bfloat16", batch, size, compiled=True),
    }
    start = time.perf_counter()
    variants["bfloat16, `SOLVER.COMPILE`"]()
    first = time.perf_counter() - start
    work = flop(size) * batch
    report.line(
        f"A step of ARBase at {size}x{size} with {batch} images is {work / 1e9:.0f} GFLOP. The "
        f"first compiled one took {first:.0f} s."
    )
    times = in_turn(variants, rounds)
    rows = []
    for name in variants:
        seconds = times.median(name)
        least = work / rates[name.split(",")[0]]
        rows.append(
            {
                "step": name,
                "s": seconds,
                "times as fast as float32": 1 / times.ratio(name, over="float32"),
                "share of the matrix rate": f"{least / seconds:.0%}",
            }
        )
    report.table(rows)


def model() -> ReIDModel:
    """Return ARBase as it is trained, from random weights."""
    torch.manual_seed(0)
    return place(build_model(load(CONFIG, ["MODEL.BACKBONE.PRETRAIN", "False"]), CLASSES), CPU)


def step(
    kind: str,
    batch: int,
    size: int,
    layout: torch.memory_format = torch.channels_last,
    compiled: bool = False,
) -> Callable[[], object]:
    """Return a call that does an iteration on random images.

    Args:
        kind: ``float32`` or ``bfloat16``.
        batch: images.
        size: of an image, in pixels.
        layout: of the images; the model has the same.
        compiled: by SOLVER.COMPILE.
    """
    keys = {
        "MODEL.DEVICE": "cpu",
        "MODEL.BACKBONE.PRETRAIN": False,
        "SOLVER.IMS_PER_BATCH": batch,
        "SOLVER.AMP.ENABLED": kind == "bfloat16",
        "SOLVER.AMP.DTYPE": "bfloat16",
        "SOLVER.COMPILE": compiled,
    }
    cfg = load(CONFIG, [part for pair in keys.items() for part in pair])
    made = trainer(cfg, herd([Path("none")], 4 * CLASSES))
    made.model.to(memory_format=layout)
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    return step_on(made, images.contiguous(memory_format=layout))


def flop(size: int) -> float:
    """Return what an image takes to train: forward, and the two products of each backward."""
    with torch.device("meta"):
        counted = build_model(load(CONFIG, ["MODEL.BACKBONE.PRETRAIN", "False"]), CLASSES).train()
        images, targets = torch.zeros(2, 3, size, size), torch.zeros(2, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        output = counted(images, targets)
        sum(logits.sum() for logits in output.logits.values()).backward()
    return counter.get_total_flops() / 2


# Optimisers


def time_optimizers(report: Report, rounds: int) -> None:
    """Report Adam's step on the weights of ARBase."""
    weights = [weight for weight in model().parameters() if weight.requires_grad]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    by_tensor = [{"params": [weight]} for weight in weights]
    adam = torch.optim.Adam
    optimizers = {
        "ours: fused": adam(weights, **ADAM, fused=True),
        "for-each": adam(weights, **ADAM, foreach=True),
        "by tensor": adam(weights, **ADAM, foreach=False),
        "by tensor, a group each (as released)": adam(by_tensor, **ADAM, foreach=False),
    }
    times = in_turn({name: each.step for name, each in optimizers.items()}, rounds)
    report.line(f"A step of Adam on {sum(map(Tensor.numel, weights)) / 1e6:.1f} M weights:")
    report.table(
        [
            {
                "Adam": name,
                "ms": 1000 * times.median(name),
                "times as fast as by tensor": 1 / times.ratio(name, over="by tensor"),
            }
            for name in optimizers
        ]
    )


# Memory


def measure_memory(report: Report, batch: int, size: int) -> None:
    """Report the peak memory of a training in either precision, each in a process of its own."""
    peaks = {
        kind: in_process("benchmarks.step:train", kind, batch, size)[1]
        for kind in ("float32", "bfloat16")
    }
    ratio = peaks["bfloat16"] / peaks["float32"]
    report.line(
        f"Peak memory of a process that trains with {batch} images: float32 "
        f"{peaks['float32']:.0f} MiB, bfloat16 {peaks['bfloat16']:.0f} MiB, {ratio:.2f} of it."
    )


def train(kind: str, batch: int, size: int) -> None:
    """Do two iterations: in the second there are old gradients and the optimiser's state, too."""
    iterate = step(kind, batch, size)
    iterate()
    iterate()


if __name__ == "__main__":
    main()
