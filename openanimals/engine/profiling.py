"""A trace of some iterations of a training, and the operations that take most of their time."""

import gzip
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from logging import getLogger
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path
from openanimals.utils.logging import table

logger = getLogger(__name__)

TRACE = "trace.json.gz"
WARM_UP = 4  # iterations before the trace: memory is allocated, algorithms are chosen, ...
_ROWS = 12  # of the table


def check(steps: int, left: int) -> None:
    """Raise unless so many iterations can be traced.

    Args:
        steps: to trace; 0 for none.
        left: that the training has left.

    Raises:
        ValueError: too few are left, or the number is negative.
    """
    if steps < 0:
        raise UserError(f"--profile {steps}: expected the number of iterations to trace")
    if steps and steps + WARM_UP > left:
        raise UserError(
            f"--profile {steps} needs {steps + WARM_UP} iterations, {WARM_UP} of them to warm up, "
            f"but the training has {left} left"
        )


@contextmanager
def tracing(steps: int, folder: Path) -> Iterator[Callable[[], None]]:
    """Trace ``steps`` iterations of the training in the block, after some to warm up.

    Args:
        steps: to trace; 0 for none.
        folder: gets trace.json.gz, for chrome://tracing or ui.perfetto.dev.

    Yields:
        What is to be called after each iteration.
    """
    if not steps:
        yield lambda: None
        return
    window = schedule(wait=WARM_UP - 1, warmup=1, active=steps, repeat=1)
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    ready = partial(_write, steps, folder / TRACE)
    with profile(activities=activities, schedule=window, on_trace_ready=ready) as profiler:
        yield profiler.step


def _write(steps: int, path: Path, profiler: profile) -> None:
    """Write the trace, and log the operations that take most time themselves."""
    with atomic_path(path) as packed, TemporaryDirectory() as scratch:
        plain = Path(scratch, "trace.json")
        profiler.export_chrome_trace(str(plain))
        with open(plain, "rb") as source, gzip.open(packed, "wb") as target:
            shutil.copyfileobj(source, target)
    logger.info("trace of %d iterations in %s\n%s", steps, path, _costliest(profiler))


def _costliest(profiler: profile) -> str:
    """Return a table of the operations that take most time themselves, over all iterations."""
    # The profiler's own marks cover whole iterations.
    found = [entry for entry in profiler.key_averages() if "ProfilerStep" not in entry.key]
    on_cpu = {entry.key: entry.self_cpu_time_total for entry in found}
    on_device = {entry.key: entry.self_device_time_total for entry in found}
    calls = {entry.key: entry.count for entry in found}
    times = on_device if any(on_device.values()) else on_cpu  # microseconds
    total = sum(times.values())
    costliest = sorted(times, key=lambda key: -times[key])[:_ROWS]
    rows = [
        [key[:60], str(calls[key]), f"{times[key] / 1000:.1f}", f"{100 * times[key] / total:.1f}"]
        for key in costliest
    ]
    return table([["operation", "calls", "ms", "%"], *rows])
