"""What a training leaves to read: console lines, metrics.json and TensorBoard curves."""

import json
import sys
import time
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

    def step(self) -> None:
        """Move the progress bar on by one iteration."""
        self.bar.update()

    def losses(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Write losses and rates of an iteration, with the speed since the last time."""
        done = iteration + 1 - self.since_iteration
        if done > 0:
            self.seconds_per_step = (time.perf_counter() - self.since) / done
        self.restart_clock(iteration + 1)
        rate = self.images_per_step / self.seconds_per_step if self.seconds_per_step else 0.0
        self.write(iteration, {**scalars, "images_per_s": round(rate, 2)})
        left = timedelta(seconds=round((self.iterations - iteration - 1) * self.seconds_per_step))
        text = "  ".join(f"{name} {value:.4g}" for name, value in scalars.items())
        self.bar.set_postfix_str(text, refresh=False)
        if self.bar.disable and (iteration + 1) % self.iters_per_epoch == 0:
            epochs = self.iterations // self.iters_per_epoch
            logger.info(
                f"epoch {iteration // self.iters_per_epoch}/{epochs - 1}  iteration {iteration}  "
                f"{text}  {rate:.1f} images/s  {left} left"
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

    def losses(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Do nothing."""

    def write(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Do nothing."""

    def restart_clock(self, iteration: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


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
