"""Command lines in processes of their own, without paying for the imports of PyTorch each time."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

REPOSITORY = Path(__file__).parent.parent

# Each process is forked from a server that has done nothing but import these.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["openanimals.cli", "openanimals.engine.run", "matplotlib.pyplot", "torch.utils.tensorboard"]
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
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, "stdout"), Path(folder, "stderr")]
        process = _SERVER.Process(
            target=_child, args=(list(arguments), str(cwd), environment, streams)
        )
        process.start()
        process.join(timeout)
        late = process.is_alive()
        if late:
            process.kill()
            process.join()
        stdout, stderr = (stream.read_text(errors="replace") for stream in streams)
    if late:
        raise subprocess.TimeoutExpired(arguments, timeout, stdout, stderr)
    return subprocess.CompletedProcess(arguments, process.exitcode, stdout, stderr)


def _child(arguments: list[str], cwd: str, environment: dict[str, str], streams: list[Path]):
    for descriptor, stream in enumerate(streams, 1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.environ.update(environment, OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    os.chdir(cwd)
    sys.argv = arguments[1:]
    runpy.run_path(str(REPOSITORY / arguments[1]), run_name="__main__")
