"""Command lines in processes of their own, without paying for the imports of PyTorch each time."""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import tests.tiny  # noqa: F401  (registers the backbone "tiny", here and in the processes)
from openanimals.engine import train

REPOSITORY = Path(__file__).parent.parent

# Each process is forked from a server that has done nothing but import these.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["openanimals.cli", "openanimals.engine.train", "torch.utils.tensorboard"]
)


def run(
    arguments: Sequence[str],
    *,
    cwd: Path = REPOSITORY,
    timeout: float = 240,
    **environment: str,
) -> subprocess.CompletedProcess:
    """Run ``[python, script, argument, ...]`` on one thread, and return its output as text.

    Like ``subprocess.run``, but faster. The script's path is relative to the repository.
    """
    return run_together(arguments, [environment], cwd=cwd, timeout=timeout)[0]


def environments(count: int) -> list[dict[str, str]]:
    """Return what torchrun tells each of some processes, as :func:`run_together` takes it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    return [{**group, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def run_together(
    arguments: Sequence[str],
    environments: Sequence[dict[str, str]],
    *,
    cwd: Path = REPOSITORY,
    timeout: float = 240,
) -> list[subprocess.CompletedProcess]:
    """Run the same command line at once in several environments, as :func:`run` does."""
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            _SERVER.Process(
                target=_child, args=(list(arguments), str(cwd), environment, f"{folder}/{number}")
            )
            for number, environment in enumerate(environments)
        ]
        for process in processes:
            process.start()
        end = time.monotonic() + timeout
        for process in processes:
            process.join(max(0, end - time.monotonic()))
        late = any(process.is_alive() for process in processes)
        for process in processes:
            process.kill()
            process.join()
        finished = [
            subprocess.CompletedProcess(
                arguments,
                process.exitcode,
                Path(f"{folder}/{number}.1").read_text(errors="replace"),
                Path(f"{folder}/{number}.2").read_text(errors="replace"),
            )
            for number, process in enumerate(processes)
        ]
    if late:
        raise subprocess.TimeoutExpired(arguments, timeout, finished[0].stdout, finished[0].stderr)
    return finished


def _child(arguments: list[str], cwd: str, environment: dict[str, str], output: str):
    for descriptor in (1, 2):
        file = os.open(f"{output}.{descriptor}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, descriptor)
    os.environ.update(environment, OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    os.chdir(cwd)
    sys.argv = arguments[1:]
    train.draw_results = lambda *_: None  # pictures would take most of a run's time
    runpy.run_path(str(REPOSITORY / arguments[1]), run_name="__main__")
