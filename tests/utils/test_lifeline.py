"""Processes that hold lifelines; how each ends, a line on its standard input says."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from openanimals.utils import lifeline

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 60  # seconds until a process that should have ended counts as stuck

PROCESS = """
import os, signal, sys
from openanimals.utils import lifeline

lifeline.NEWS = 60
rank, processes, port = map(int, sys.argv[1:4])

def gather(own):
    if rank == 0:
        print(own[0], own[1].hex(), flush=True)
    return [(port, bytes.fromhex(sys.argv[4]))]

try:
    with lifeline.held(rank, processes, gather, grace=0.1):
        print("holds", flush=True)
        act = sys.stdin.readline().strip()
        if act == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if act == "mistake":
            raise ValueError("no such image")
        if act == "failed exchange":
            raise RuntimeError("connection closed by peer")
    print("left")
    sys.stdin.readline()
except (RuntimeError, ValueError, OSError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def processes():
    """Three of them, each in its block; strangers have come to process 0 before the others."""
    started = []

    def start(port="0", secret=""):
        arguments = [sys.executable, "-c", PROCESS, str(len(started)), "3", port, secret]
        process = subprocess.Popen(
            arguments,
            cwd=REPOSITORY,
            env={**os.environ, "MASTER_ADDR": "127.0.0.1"},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    try:
        port, secret = start().stdout.readline().split()
        for greeting in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(20)):
            with socket.create_connection(("127.0.0.1", int(port))) as stranger:
                stranger.sendall(greeting)
        start(port, secret), start(port, secret)
        for process in started:
            assert process.stdout.readline() == "holds\n"
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def tell(process, act):
    process.stdin.write(act + "\n")
    process.stdin.flush()


def ends(process):
    """Return how a process has ended and what it said last; its standard input stays open."""
    return process.wait(PATIENCE), process.stderr.read().strip()


@pytest.mark.parametrize("lost", [0, 1])
def test_processes_that_wait_for_a_dead_one_are_ended_and_told_which(processes, lost):
    tell(processes[lost], "kill")
    for rank, process in enumerate(processes):
        if rank != lost:
            code, message = ends(process)
            assert code == 2 and message.startswith(f"error: process {lost} of 3 is gone")
    assert processes[lost].wait(PATIENCE) == -signal.SIGKILL


def test_the_last_word_of_a_process_reaches_all(processes):
    tell(processes[2], "mistake")
    assert ends(processes[2]) == (1, "ValueError: no such image")
    told = (2, "error: process 2 of 3 failed: ValueError: no such image")
    assert [ends(process) for process in processes[:2]] == [told, told]


def test_a_failed_exchange_is_told_as_the_death_that_caused_it(processes):
    for process in processes[1:]:
        tell(process, "failed exchange")  # before or after it hears of the death: both may be
    tell(processes[0], "kill")
    said = [ends(process)[1] for process in processes[1:]]
    assert all("process 0 of 3 is gone" in message for message in said), said


def test_processes_that_have_done_their_work_are_not_missed(processes):
    for process in processes:
        tell(process, "")
    for process in processes:
        assert process.stdout.readline() == "left\n"
    for process in processes:
        tell(process, "")
        assert ends(process) == (0, "")


def test_a_process_passes_on_what_it_hears_before_it_can_leave():
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = [socket.create_connection(server.getsockname()) for _ in range(3)]
        near = {process: server.accept()[0] for process in (1, 2, 3)}
    lines = lifeline._Lines(near, 4, grace=PATIENCE)
    far[0].close()
    assert lines.lost.wait(PATIENCE)
    lines.say(lifeline.DONE)
    for line in far[1:]:
        with line, line.makefile() as heard:
            assert heard.read() == lines.cause
