"""Trainings in one process and two, killed at any moment: nothing is lost, and nothing goes on."""

import os
import random
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.engine.test_resume import assert_same_outcome
from tests.engine.tiny_run import command

pytestmark = pytest.mark.cli

KEYS = {"SOLVER__MAX_EPOCH": 999, "DATALOADER__NUM_WORKERS": 1, "INPUT__CACHE": "off"}
SHORT = {
    **KEYS,
    "DATASETS__NAMES": ("Animals-SyntheticHerd:identities=13,images=5,pixels=48",),
    "SOLVER__MAX_EPOCH": 4,
    "SOLVER__CHECKPOINT_PERIOD": 3,
    "TEST__EVAL_PERIOD": 2,
}
SECONDS = 120  # for what takes 10 on an idle machine
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


def wait_until(holds, mark, seconds=SECONDS):
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
        wait_until((tmp_path / "run/model_last.pth").exists, mark)
        # A launcher, two processes, what reads for them and, of torchrun's, its server.
        assert len(family(mark)) >= (7 if launcher == "torchrun" else 5)
        process.kill()
        wait_until(lambda: not family(mark), mark, 20)


@pytest.mark.slow
def test_a_stopped_process_is_told_of(tmp_path, herd_root):
    keys = {**KEYS, "TIMEOUT": 4, "DATALOADER__NUM_WORKERS": 0}
    mark = tmp_path / "told.txt"
    with started(command(tmp_path / "run", herd_root, "--num-gpus", "2", **keys), mark) as process:
        wait_until((tmp_path / "run/model_last.pth").exists, mark)
        os.kill(max(set(family(mark)) - {process.pid}), signal.SIGSTOP)
        wait_until(lambda: "with --resume" in mark.read_text(), mark, 60)
        assert "waited 4 s (TIMEOUT) for another one" in mark.read_text()
    wait_until(lambda: not family(mark), mark, 20)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, herd_root):
    """A function from a number of processes to the folder of a run that nothing interrupts."""
    folders = {}

    def trained(processes):
        if processes not in folders:
            folder = tmp_path_factory.mktemp(f"whole{processes}")
            begin = time.monotonic()
            with started(line(folder, herd_root, processes), folder.parent / "told") as process:
                assert process.wait(SECONDS) == 0, (folder.parent / "told").read_text()
            folders[processes] = folder, time.monotonic() - begin
        return folders[processes]

    return trained


def line(folder, root, processes):
    options = ["--num-gpus", str(processes)] if processes > 1 else []
    return command(folder, root, "--resume", *options, **SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("seed", range(15))
def test_killed_at_a_random_moment(seed, processes, whole, tmp_path, herd_root):
    expected, seconds = whole(processes)
    folder, mark = tmp_path / "run", tmp_path / "told.txt"
    with started(line(folder, herd_root, processes), mark) as process:
        time.sleep(random.Random(seed).uniform(0, 1) * seconds)
        process.kill()
        wait_until(lambda: not family(mark), mark, 20)
    with started(line(folder, herd_root, processes), mark) as process:
        assert process.wait(SECONDS) == 0, mark.read_text()
    wait_until(lambda: not family(mark), mark, 20)
    assert_same_outcome(folder, expected)
    assert not list(folder.glob(".*")), "a lock or half a file is left"
