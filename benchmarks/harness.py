"""What every benchmark does: alternatives in turn, medians, a section of docs/performance.md."""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


class Times(dict[str, list[float]]):
    """Seconds of each alternative, one for each round."""

    def median(self, name: str) -> float:
        """Return the median seconds of an alternative."""
        return statistics.median(self[name])

    def ratio(self, name: str, over: str) -> float:
        """Return how many times longer one alternative took than another.

        It is the median of the ratios within the rounds, so that a machine that slows down for a
        while slows both.
        """
        return statistics.median(a / b for a, b in zip(self[name], self[over], strict=True))


def in_turn(
    alternatives: Mapping[str, Callable[[], Any]], rounds: int = 7, device: str = "cpu"
) -> Times:
    """Time alternatives in turn, round by round; each runs once before, untimed.

    Args:
        alternatives: by name.
        rounds: of which each gives one time to each alternative.
        device: what they compute on. On ``cuda`` a time ends when the GPU is done, not when the
            work is queued.
    """

    def seconds(alternative: Callable[[], Any]) -> float:
        wait_for(device)
        start = time.perf_counter()
        alternative()
        wait_for(device)
        return time.perf_counter() - start

    return times_in_turn(
        {name: partial(seconds, each) for name, each in alternatives.items()}, rounds
    )


def times_in_turn(alternatives: Mapping[str, Callable[[], float]], rounds: int) -> Times:
    """Do the same with alternatives that return the seconds that count."""
    times = Times({name: [] for name in alternatives})
    for round_number in range(rounds + 1):
        for name, alternative in alternatives.items():
            seconds = alternative()
            if round_number:
                times[name].append(seconds)
    return times


def wait_for(device: str) -> None:
    """Return when a device, ``cpu`` or ``cuda``, has done what it was asked to do."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize(device)


def in_process(function: str, *arguments: Any, **options: Any) -> tuple[Any, float]:
    """Call a function in a process of its own.

    Args:
        function: ``module:name``, such as ``benchmarks.scale:evaluate_gallery``.
        *arguments: its arguments; what JSON can hold, like what it returns.
        **options: more of them, by keyword.

    Returns:
        What it returned, and the process's peak memory in MiB (see :func:`peak_memory`).

    Raises:
        RuntimeError: the process failed, or was killed, for instance for want of memory.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, function, arguments, options))
    process.start()
    theirs.close()  # else the end of the process would not end the pipe
    try:
        answer, peak = json.loads(ours.recv())
    except EOFError as error:
        process.join()
        raise RuntimeError(
            f"{function} ended with exit status {process.exitcode}; what it said stands above"
        ) from error
    process.join()
    return answer, peak


def _serve(pipe: Any, function: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
    module, name = function.split(":")
    answer = getattr(import_module(module), name)(*arguments, **options)
    pipe.send(json.dumps((answer, peak_memory())))


def peak_memory() -> float:
    """Return the peak resident memory of this process so far, in MiB.

    Its children, such as the workers of a loader, do not count; pages of files that it has mapped
    do, as long as they are in memory.
    """
    for line in _lines("/proc/self/status"):
        # Not ru_maxrss: a new process starts with that of the one that made it.
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def matrix_rate(dtype: Any = None, device: str = "cpu", size: int = 2048) -> float:
    """Return the FLOP/s of square matrix products: the roofline of what is made of them.

    Args:
        dtype: torch's type; None is float32.
        device: ``cpu`` or a CUDA device.
        size: rows and columns. A GPU needs 8192 to be busy.
    """
    import torch

    a, b = (torch.randn(size, size, device=device).to(dtype or torch.float32) for _ in "ab")
    times = in_turn({"product": lambda: a @ b}, device=device)
    return 2 * size**3 / times.median("product")


def machine() -> str:
    """Return one line: processor, threads, versions."""
    import torch

    names = [
        line.split(":", 1)[1].strip()
        for line in _lines("/proc/cpuinfo")
        if line.startswith("model name")
    ]
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads of "
        f"{os.cpu_count()}{gpu}; Python {platform.python_version()}, torch {torch.__version__}"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return []


class Report:
    """What a benchmark prints, in Markdown; with ``--write`` also its section of the page.

    Args:
        area: names the section, ``<!-- area -->`` to ``<!-- /area -->`` in docs/performance.md.
        command: what makes this report again.
    """

    def __init__(self, area: str, command: str) -> None:
        self.area = area
        self.parts = [f"`{command}`, {machine()}"]

    def line(self, text: str) -> None:
        """Add a paragraph."""
        self.parts.append(text)

    def table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add a table: the first row's keys are the columns of all; floats get three digits."""
        columns = list(rows[0])
        lines = [columns, ["---"] * len(columns)]
        lines += [[_cell(row[column]) for column in columns] for row in rows]
        self.parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))

    def publish(self, write: bool) -> None:
        """Print the report and, if asked to, put it in the place of its section.

        Raises:
            ValueError: the page has no such section.
        """
        text = "\n\n".join(self.parts)
        print(text)
        if not write:
            return
        start, end = f"<!-- {self.area} -->", f"<!-- /{self.area} -->"
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(start)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{PAGE} has no section {start} ... {end}")
        PAGE.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def options(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--write", action="store_true", help="write docs/performance.md, too")
    parser.add_argument("--rounds", type=int, default=7, help="of which medians are taken")
    return parser
