"""What a training has started, launcher, processes and their workers, ends with it."""

import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.engine.tiny_run import command

pytestmark = pytest.mark.cli

KEYS = {"SOLVER__MAX_EPOCH": 999, "DATALOADER__NUM_WORKERS": 1, "INPUT__CACHE": "off"}
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
# As Python 3.14 starts workers: forked from a server, which is no child of the training's launcher.
SCRIPT = """
import multiprocessing, runpy
if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")
    runpy.run_path("tools/train_net.py", run_name="__main__")
"""


@contextmanager
def started(arguments, mark):
    """A command line; yield its process, and find those that it starts by a mark, or end them."""
    with open(mark, "a") as told:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MARK": str(mark)}
        process = subprocess.Popen(
            arguments, cwd=REPOSITORY, env=environment, stdout=told, stderr=told
        )
    try:
        yield process
    finally:
        for number in family(mark):
            os.kill(number, signal.SIGKILL)
        process.wait()


def family(mark):
    """The numbers of all processes that live and have descended from :func:`started`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and f"MARK={mark}\0".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has just ended
            continue
    return found


def wait_until(holds, mark, seconds):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, mark.read_text()
        time.sleep(0.02)


@pytest.mark.parametrize(
    "launcher", ["torchrun", pytest.param("--num-gpus", marks=pytest.mark.slow)]
)
def test_nothing_outlives_a_killed_launcher(launcher, tmp_path, herd_root):
    options = ["--num-gpus", "2"] if launcher == "--num-gpus" else []
    python, *arguments = command(tmp_path / "run", herd_root, *options, **KEYS)
    (tmp_path / "train.py").write_text(SCRIPT)
    if launcher == "torchrun":
        arguments = [*TORCHRUN, str(tmp_path / "train.py"), *arguments[1:]]
    mark = tmp_path / "told.txt"
    with started([python, *arguments], mark) as process:
        wait_until((tmp_path / "run/model_last.pth").exists, mark, 120)
        # A launcher, two processes, what reads for them and, of torchrun's, its server.
        assert len(family(mark)) >= (7 if launcher == "torchrun" else 5)
        process.kill()
        wait_until(lambda: not family(mark), mark, 20)
