"""What a training leaves to read: console lines, metrics.json, TensorBoard, and what users add."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from logging import getLogger
from pathlib import Path
from typing import Any, Protocol

from openanimals.config import CfgNode
from openanimals.evaluation.array_io import file_name
from openanimals.solver import Schedule
from openanimals.utils import distributed
from openanimals.utils.errors import FileError, naming
from openanimals.utils.files import write_text
from openanimals.utils.progress import Progress
from openanimals.utils.registry import Registry

logger = getLogger(__name__)


class Writer(Protocol):
    """Takes the scalars of a run, such as losses, rates and results."""

    def write(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Take the scalars of an iteration."""

    def close(self) -> None:
        """Finish; called once, also when the run fails."""


WRITER_REGISTRY: Registry[Callable[[CfgNode, Path, int], Writer]] = Registry("writer")
"""Functions ``f(cfg, folder, start) -> Writer`` by the names in the key ``WRITERS``.

``folder`` is the run's, ``start`` the first iteration of this start of the run: what was written of
it, or of later ones, before a resume is to be forgotten.
"""


class MetricsFile:
    """metrics.json: one JSON object a line; those there of iterations before ``start`` stay."""

    def __init__(self, folder: Path, start: int, iters_per_epoch: int) -> None:
        self.path, self.iters_per_epoch = folder / "metrics.json", iters_per_epoch
        kept = ""
        with naming(self.path):
            for line in self.path.read_text("utf-8").splitlines() if self.path.exists() else ():
                with suppress(ValueError):  # a last line that a kill cut short
                    if json.loads(line)["iteration"] < start:
                        kept += line + "\n"
            write_text(self.path, kept)
            self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (closed in close)

    def write(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Write a line, at once."""
        if not self.path.exists():  # a file that is open would be written to all the same
            raise FileError(
                f"{self.path} was removed in mid-run, perhaps with its folder; what is in memory "
                "has nowhere to go, so the run ends here"
            )
        record = {"iteration": iteration, "epoch": iteration // self.iters_per_epoch, **scalars}
        with naming(self.path):
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class TensorBoard:
    """TensorBoard's curves; where it is missing or broken, a warning and nothing else."""

    def __init__(self, folder: Path, start: int) -> None:
        self.curves: Any = None
        with self._spared():
            from torch.utils.tensorboard import SummaryWriter

            self.curves = SummaryWriter(str(folder), purge_step=start)

    def write(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        with self._spared():
            for name, value in scalars.items() if self.curves else ():
                test_set, slash, measure = name.rpartition("/")
                tag = f"{file_name(test_set)}/{measure}" if slash else name
                self.curves.add_scalar(tag, value, iteration)

    def close(self) -> None:
        """Close the file."""
        with self._spared():
            if self.curves:
                self.curves.close()

    @contextmanager
    def _spared(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # another package's, and the numbers are in metrics.json as well
            self.curves = None
            what = f"{type(error).__name__}: {error}"
            logger.warning("TensorBoard failed (%s); the run goes on without its curves", what)


class Writers:
    """The console, metrics.json, TensorBoard and the writers that WRITERS names.

    Only the first process writes. ``start`` is the first iteration of this start of the run.
    """

    def __init__(self, cfg: CfgNode, folder: Path, start: int, schedule: Schedule) -> None:
        self.iterations, self.iters_per_epoch = schedule.max_iter, schedule.iters_per_epoch
        self.images_per_step, self.writers = cfg.SOLVER.IMS_PER_BATCH, list[Writer]()
        if distributed.is_main():
            added = [WRITER_REGISTRY.get(name)(cfg, folder, start) for name in cfg.WRITERS]
            ours = [MetricsFile(folder, start, self.iters_per_epoch), TensorBoard(folder, start)]
            self.writers = [*ours, *added]
        self.progress = Progress("training", self.iterations, "iteration", done=start)
        self.since, self.since_iteration = time.perf_counter(), start
        self.seconds_per_step, self.note = 0.0, ""
        self.epoch_sums: Counter[str] = Counter()

    def advance(self) -> None:
        """Tell that one more iteration is done."""
        self.progress.update(note=self.note)

    def losses(self, iteration: int, losses: Mapping[str, float], lr: float) -> None:
        """Write mean losses of the iterations since the last time, up to this one, and their speed.

        The base learning rate is that of this one.
        """
        done = iteration + 1 - self.since_iteration
        self.seconds_per_step = (time.perf_counter() - self.since) / done
        rate = self.images_per_step / self.seconds_per_step
        self.restart_clock(iteration + 1)
        self.write(iteration, {**losses, "lr": lr, "images_per_s": round(rate, 2)})
        self.note = _line(losses, lr, rate)
        self.epoch_sums.update({name: value * done for name, value in losses.items()})
        if (iteration + 1) % self.iters_per_epoch == 0:
            self._end_epoch(iteration, lr, rate)

    def _end_epoch(self, iteration: int, lr: float, rate: float) -> None:
        means = {name: value / self.iters_per_epoch for name, value in self.epoch_sums.items()}
        self.epoch_sums.clear()
        epochs = self.iterations // self.iters_per_epoch
        left = timedelta(seconds=round((self.iterations - iteration - 1) * self.seconds_per_step))
        self.progress.bar.clear()
        logger.info(
            f"epoch {iteration // self.iters_per_epoch}/{epochs - 1}  iteration {iteration}  "
            f"{_line(means, lr, rate)}  {left} left"
        )

    def write(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Give scalars of an iteration to every writer."""
        for writer in self.writers:
            writer.write(iteration, scalars)

    def restart_clock(self, iteration: int) -> None:
        """Start timing here, so that evaluations do not count as training time."""
        self.since, self.since_iteration = time.perf_counter(), iteration

    def close(self) -> None:
        """Close every writer, and take the bar away."""
        self.progress.close()
        for writer in self.writers:
            writer.close()


def _line(losses: Mapping[str, float], lr: float, rate: float) -> str:
    text = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
    return f"{text}  lr {lr:.3g}  {rate:.1f} images/s"
