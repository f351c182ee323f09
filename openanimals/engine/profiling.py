"""A trace of some iterations of a training, and the operations that take most of their time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from openanimals.utils.errors import UserError
from openanimals.utils.logging import table

logger = getLogger(__name__)

TRACE = "trace.json.gz"
WARM_UP = 4  # iterations before the trace: memory is allocated, algorithms are chosen, ...
_ROWS = 12  # of the table


def check_steps(steps: int, left: int) -> None:
    """Raise unless so many iterations can be traced (0: none) of those that training has left."""
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

    def write(profiler: profile) -> None:
        profiler.export_chrome_trace(str(folder / TRACE))
        costliest = _costliest(profiler)
        logger.info("trace of %d iterations in %s\n%s", steps, folder / TRACE, costliest)

    window = schedule(wait=WARM_UP - 1, warmup=1, active=steps, repeat=1)
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities, schedule=window, on_trace_ready=write) as profiler:
        yield profiler.step


def _costliest(profiler: profile) -> str:
    """Return a table of the operations that take most time themselves, over all iterations."""
    # The profiler's own marks cover whole iterations.
    found = [entry for entry in profiler.key_averages() if "ProfilerStep" not in entry.key]
    on_device = any(entry.self_device_time_total for entry in found)
    kind = "self_device_time_total" if on_device else "self_cpu_time_total"
    found.sort(key=lambda entry: -getattr(entry, kind))  # microseconds
    total = sum(getattr(entry, kind) for entry in found)
    rows = [["operation", "calls", "ms", "%"]]
    for entry in found[:_ROWS]:
        time = getattr(entry, kind)
        rows.append(
            [entry.key[:60], str(entry.count), f"{time / 1000:.1f}", f"{100 * time / total:.1f}"]
        )
    return table(rows)
