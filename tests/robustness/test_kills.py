"""Trainings in one process and two, killed at any moment: nothing is lost, and nothing goes on."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.engine.test_resume import assert_same_outcome
from tests.engine.tiny_run import command

pytestmark = pytest.mark.cli

KEYS = {
    "DATASETS__NAMES": ("Animals-SyntheticHerd:identities=13,images=5,pixels=48",),
    "SOLVER__MAX_EPOCH": 4,
    "SOLVER__CHECKPOINT_PERIOD": 3,
    "TEST__EVAL_PERIOD": 2,
    "DATALOADER__NUM_WORKERS": 1,
    "INPUT__CACHE": "off",
}
SECONDS = 120  # for what takes 10 on an idle machine
FORK_SERVER = "import multiprocessing as m, runpy; m.set_start_method('forkserver'); "
SCRIPT = FORK_SERVER + "runpy.run_path('tools/train_net.py', run_name='__main__')"


@contextmanager
def started(arguments, mark, **environment):
    """A command line; yield its process, and find those that it starts by a mark, or end them."""
    with open(mark, "a") as told:
        process = subprocess.Popen(
            arguments,
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MARK": str(mark), **environment},
            stdout=told,
            stderr=told,
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


def assert_none_is_left(mark):
    wait_until(lambda: not family(mark), mark, 20)


@pytest.mark.parametrize(
    "launcher", ["torchrun", pytest.param("--num-gpus", marks=pytest.mark.slow)]
)
def test_nothing_outlives_a_killed_launcher(launcher, tmp_path, herd_root):
    options = ["--num-gpus", "2"] if launcher == "--num-gpus" else []
    arguments = command(tmp_path / "run", herd_root, *options, **{**KEYS, "SOLVER__MAX_EPOCH": 999})
    if launcher == "torchrun":
        module = "torch.distributed.run"
        arguments[1:1] = ["-m", module, "--standalone", "--nproc-per-node=2"]
    mark = tmp_path / "told.txt"
    with started(arguments, mark) as process:
        wait_until((tmp_path / "run/model_last.pth").exists, mark)
        assert len(family(mark)) >= 5  # a launcher, two processes, and what reads for them
        process.kill()
        assert_none_is_left(mark)


def test_a_fork_server_and_its_workers_end_with_a_killed_training(tmp_path, herd_root):
    arguments = command(tmp_path / "run", herd_root, **{**KEYS, "SOLVER__MAX_EPOCH": 999})
    mark = tmp_path / "told.txt"
    with started([sys.executable, "-c", SCRIPT, *arguments[2:]], mark) as process:
        wait_until((tmp_path / "run/model_last.pth").exists, mark)
        assert len(family(mark)) >= 3
        process.kill()
        assert_none_is_left(mark)


@pytest.mark.parametrize("who", ["worker", pytest.param("rank", marks=pytest.mark.slow)])
def test_a_stopped_process_is_told_of(who, tmp_path, herd_root):
    keys = {**KEYS, "SOLVER__MAX_EPOCH": 999, "TIMEOUT": 4}
    if who == "rank":
        keys |= {"DATALOADER__NUM_WORKERS": 0}
    options = ["--num-gpus", "2"] if who == "rank" else []
    mark = tmp_path / "told.txt"
    with started(command(tmp_path / "run", herd_root, *options, **keys), mark) as process:
        wait_until((tmp_path / "run/model_last.pth").exists, mark)
        others = set(family(mark)) - {process.pid}
        os.kill(max(others), signal.SIGSTOP)
        wait_until(lambda: "with --resume" in mark.read_text(), mark, 60)
        told = mark.read_text()
        assert "come for 4 s (TIMEOUT)" in told or "waited 4 s (TIMEOUT) for another one" in told
        # Afterwards older PyTorch, at its exit, may show one of its own.
        assert who == "rank" or "Traceback" not in told.partition("with --resume")[0]
    assert_none_is_left(mark)


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
    return command(folder, root, "--resume", *options, **KEYS)


def kill_and_resume(seed, processes, whole, tmp_path, root):
    """Kill a training at a random moment of its length, go on with it, and compare the outcome."""
    expected, seconds = whole(processes)
    folder, mark = tmp_path / "run", tmp_path / "told.txt"
    with started(line(folder, root, processes), mark) as process:
        time.sleep(random.Random(seed).uniform(0, 1) * seconds)
        process.kill()
        assert_none_is_left(mark)
    with started(line(folder, root, processes), mark) as process:
        assert process.wait(SECONDS) == 0, mark.read_text()
    assert_none_is_left(mark)
    assert_same_outcome(folder, expected)
    assert not list(folder.glob(".*")), "a lock or half a file is left"


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("seed", range(15))
def test_killed_at_a_random_moment(seed, processes, whole, tmp_path, herd_root):
    kill_and_resume(seed, processes, whole, tmp_path, herd_root)
