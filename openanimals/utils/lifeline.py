"""Lines between the processes of a run, so that none waits for one that is gone.

Each process holds a connection to process 0. However a process ends, the system closes its
connection, once the workers that it forked have noticed too, which takes them seconds; of a machine
that is lost, the probes of the connection fail. A process that can says its last word first.
Process 0 passes on what it hears, so that all know the cause.
"""

import os
import secrets
import selectors
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

GRACE = 15.0  # seconds in which a process may end by itself once another has gone
NEWS = 5.0  # seconds in which the cause of a failed exchange is heard
MEETING = 60.0  # seconds in which another process connects
GREETING = 5.0  # seconds in which who has connected says who it is
DONE = "done"  # the last word of a process that has done its work
LONGEST = 2000  # characters of an error that are passed on

_PROBES = (  # by name, since not every system has them all; together they take half a minute
    *(("TCP_KEEPIDLE", 15), ("TCP_KEEPALIVE", 15)),  # the latter is macOS's name of the former
    *(("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)),
)


class ProcessLostError(ConnectionError):
    """Another process is gone, so this one cannot go on; names it, and the cause if it is known."""


@contextmanager
def held(
    rank: int, world_size: int, gather: Callable[[Any], list[Any]], grace: float = GRACE
) -> Iterator[None]:
    """Hold the lines for the length of the block, in every process.

    Once another process is gone, this one has some time to notice and to end by itself; one that
    still waits for it then (as it would in an exchange of NCCL) is ended.

    Args:
        rank: this process's number.
        world_size: number of processes, at least 2.
        gather: returns every process's value.
        grace: the time, in seconds.

    Raises:
        ConnectionError: there is no line between this process and process 0.
        ProcessLostError: in place of a RuntimeError that follows from the end of another process.
    """
    try:
        lines = _connect(rank, world_size, gather)
    except (OSError, RuntimeError) as error:
        cause, *_ = str(error).split("\n")
        raise ConnectionError(
            f"process {rank} of {world_size} has no line to "
            f"{'the others' if rank == 0 else 'process 0'} ({cause}). Has one ended, or can "
            f"it not reach the ports of {os.environ['MASTER_ADDR']}?"
        ) from error
    line = _Lines(lines, world_size, grace)
    try:
        yield
    except RuntimeError as error:  # as failed exchanges are; mistakes of the user's never are
        if line.lost.wait(NEWS):
            raise ProcessLostError(line.cause) from error
        line.say(_last_word(rank, world_size, error))
        raise
    except BaseException as error:
        line.say(_last_word(rank, world_size, error))
        raise
    finally:
        line.say(DONE)  # unless it has said something else


def _last_word(rank: int, world_size: int, error: BaseException) -> str:
    return f"process {rank} of {world_size} failed: {type(error).__name__}: {error}"[:LONGEST]


def _connect(
    rank: int, world_size: int, gather: Callable[[Any], list[Any]]
) -> dict[int, socket.socket]:
    """Return process 0's connections by process; the others have one, to process 0."""
    if rank > 0:
        port, secret = gather(None)[0]
        line = socket.create_connection((os.environ["MASTER_ADDR"], port), timeout=MEETING)
        line.sendall(secret + rank.to_bytes(4, "big"))
        return {0: line}
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    secret = secrets.token_bytes(16)
    with socket.create_server(
        ("", 0), family=family, backlog=world_size, dualstack_ipv6=both
    ) as server:
        gather((server.getsockname()[1], secret))
        server.settimeout(MEETING)
        lines: dict[int, socket.socket] = {}
        while len(lines) < world_size - 1:
            line, _ = server.accept()
            line.settimeout(GREETING)
            greeting = _hear(line, len(secret) + 4)
            if greeting.startswith(secret):
                lines[int.from_bytes(greeting[len(secret) :], "big")] = line
            else:
                line.close()  # a stranger, such as a scan of the machine's ports
        return lines


class _Lines:
    """The connections of a process, each for one message: the last word of either end.

    Attributes:
        lost: set when a process is gone that has not done its work.
        cause: which, and why.
    """

    def __init__(self, lines: dict[int, socket.socket], world_size: int, grace: float) -> None:
        self.lines, self.world_size, self.grace = lines, world_size, grace
        self.cause, self.said = "", False
        self.lost, self.left, self.mouth = threading.Event(), threading.Event(), threading.Lock()
        for line in lines.values():
            line.settimeout(None)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _PROBES:
                if hasattr(socket, name):
                    line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        threading.Thread(target=self._listen, name="lifeline", daemon=True).start()

    def say(self, message: str) -> None:
        """Say the last word to the other ends, unless it has been said; this process leaves."""
        self._tell(message)
        self.left.set()

    def _tell(self, message: str) -> None:
        with self.mouth:  # one word, whichever thread comes first
            lines = [] if self.said else list(self.lines.values())
            self.said = True
            for line in lines:
                with suppress(OSError):  # the other end is gone
                    line.sendall(message.encode())
                    line.shutdown(socket.SHUT_WR)

    def _listen(self) -> None:
        with selectors.DefaultSelector() as open_lines:
            for process, line in self.lines.items():
                open_lines.register(line, selectors.EVENT_READ, process)
            while open_lines.get_map() and not self.cause:
                for key, _ in open_lines.select():
                    message = _hear(self.lines[key.data]).decode(errors="replace")
                    if message != DONE and not self.cause:
                        self.cause = message or self._death(key.data)
                    open_lines.unregister(key.fileobj)
        if self.cause:
            self._tell(self.cause)  # before this process's own thread can say that it is done
            self.lost.set()
        if not self.left.wait(self.grace if self.cause else None):
            print(f"error: {self.cause}", file=sys.stderr, flush=True)
            os._exit(2)  # the main thread waits for what will never come
        for line in self.lines.values():
            line.close()

    def _death(self, process: int) -> str:
        return (
            f"process {process} of {self.world_size} is gone without a word: it was killed (for "
            "want of memory, say), or crashed, or its machine is lost"
        )


def _hear(line: socket.socket, most: int = sys.maxsize) -> bytes:
    """Return what the other end says until it falls silent; nothing, if it died without a word."""
    heard = b""
    with suppress(OSError):  # the end of one that died, or too long a wait
        while part := line.recv(min(4096, most - len(heard))):
            heard += part
    return heard
