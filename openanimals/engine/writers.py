"""What a training leaves to read: console lines, metrics.json and TensorBoard curves."""

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from logging import getLogger
from pathlib import Path

from openanimals.utils.files import atomic_path

logger = getLogger(__name__)


class Logbook:
    """Writes scalars by iteration. A resumed run forgets what was written past its checkpoint.

    Args:
        folder: gets metrics.json (one JSON object a line) and TensorBoard's events.
        start: first iteration of this start of the run.
        iterations: of the whole run.
        iters_per_epoch: iterations of an epoch.
        images_per_step: images of an iteration, over all processes.
    """

    def __init__(
        self, folder: Path, start: int, iterations: int, iters_per_epoch: int, images_per_step: int
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from tqdm import tqdm

        self.iterations, self.iters_per_epoch = iterations, iters_per_epoch
        self.images_per_step = images_per_step
        self.path = folder / "metrics.json"
        _forget_from(self.path, start)
        self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (closed in close)
        self.curves = SummaryWriter(str(folder), purge_step=start)
        self.bar = tqdm(
            total=iterations, initial=start, disable=not sys.stdout.isatty(), unit="it", leave=False
        )
        self.since, self.since_iteration = time.perf_counter(), start
        self.seconds_per_step = 0.0
        self.epoch_sums: Counter[str] = Counter()

    def step(self) -> None:
        """Move the progress bar on by one iteration."""
        self.bar.update()

    def losses(self, iteration: int, losses: Mapping[str, float], lr: float) -> None:
        """Write mean losses of the iterations since the last time, and their speed.

        Args:
            iteration: the last of them.
            losses: their means.
            lr: the base learning rate of the last one.
        """
        done = iteration + 1 - self.since_iteration
        self.seconds_per_step = (time.perf_counter() - self.since) / done
        rate = self.images_per_step / self.seconds_per_step
        self.restart_clock(iteration + 1)
        self.write(iteration, {**losses, "lr": lr, "images_per_s": round(rate, 2)})
        self.bar.set_postfix_str(_line(losses, lr, rate), refresh=False)
        self.epoch_sums.update({name: value * done for name, value in losses.items()})
        if (iteration + 1) % self.iters_per_epoch == 0:
            self._end_epoch(iteration, lr, rate)

    def _end_epoch(self, iteration: int, lr: float, rate: float) -> None:
        means = {name: value / self.iters_per_epoch for name, value in self.epoch_sums.items()}
        self.epoch_sums.clear()
        epochs = self.iterations // self.iters_per_epoch
        left = timedelta(seconds=round((self.iterations - iteration - 1) * self.seconds_per_step))
        self.bar.clear()
        logger.info(
            f"epoch {iteration // self.iters_per_epoch}/{epochs - 1}  iteration {iteration}  "
            f"{_line(means, lr, rate)}  {left} left"
        )

    def write(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Write scalars of an iteration to metrics.json and TensorBoard."""
        record = {"iteration": iteration, "epoch": iteration // self.iters_per_epoch, **scalars}
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()
        for name, value in scalars.items():
            self.curves.add_scalar(name, value, iteration)

    def restart_clock(self, iteration: int) -> None:
        """Start timing here, so that evaluations do not count as training time."""
        self.since, self.since_iteration = time.perf_counter(), iteration

    def close(self) -> None:
        """Close the files and take the bar away."""
        self.bar.close()
        self.curves.close()
        self.file.close()


class NoLogbook:
    """For all processes but the first: takes everything, writes nothing."""

    def step(self) -> None:
        """Do nothing."""

    def losses(self, iteration: int, losses: Mapping[str, float], lr: float) -> None:
        """Do nothing."""

    def write(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Do nothing."""

    def restart_clock(self, iteration: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _line(losses: Mapping[str, float], lr: float, rate: float) -> str:
    text = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
    return f"{text}  lr {lr:.3g}  {rate:.1f} images/s"


def _forget_from(path: Path, start: int) -> None:
    """Drop the lines of iterations from ``start`` on, and a last line cut short by a kill."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            if json.loads(line)["iteration"] < start:
                kept.append(line + "\n")
        except ValueError:
            continue
    with atomic_path(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
