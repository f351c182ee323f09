"""The few things a process must know of the others. Alone, it is rank 0 of 1."""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from openanimals.utils.errors import UserError

logger = logging.getLogger(__name__)

LETTING_GO = 0.1  # seconds

T = TypeVar("T")


class InUseError(UserError):
    """A folder that another run, which still goes on, writes to."""


def rank() -> int:
    """Return this process's number, 0 if it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Tell whether this process writes files and talks."""
    return rank() == 0


def restarted() -> bool:
    """Tell whether torchrun has started this process in place of one that died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def gather(value: T) -> list[T]:
    """Return every process's value, in rank order, in every process."""
    if world_size() == 1:
        return [value]
    values: list[T] = [value] * world_size()
    dist.all_gather_object(values, value)
    return values


def check_alike(facts: Mapping[str, Any]) -> None:
    """Raise unless all processes hold the same facts.

    Raises:
        UserError: names each that differs, and which process has what of it.
    """
    everyone = gather(dict(facts))
    lines = []
    for name in dict.fromkeys(chain.from_iterable(everyone)):
        processes: dict[str, list[int]] = {}
        for number, theirs in enumerate(everyone):
            processes.setdefault(repr(theirs.get(name)), []).append(number)
        if len(processes) > 1:
            held = [f"{value} in process {own[0]}" for value, own in processes.items()]
            lines.append(f"\n  - {name}: {', '.join(held)}")
    if lines:
        raise UserError(
            f"the processes of this run do not agree; start all of them alike:{''.join(lines)}"
        )


def shares(count: int, unit: int) -> list[slice]:
    """Cut rows into consecutive shares, one a process, as equal as whole units allow.

    Args:
        count: of the rows. The last unit may be smaller than the others.
        unit: rows that stay together.

    Returns:
        The rows of each process. Where there are fewer units than processes, some have none.
    """
    units, processes = -(-count // unit), world_size()
    borders = [min(count, units * part // processes * unit) for part in range(processes + 1)]
    return list(map(slice, borders[:-1], borders[1:]))


def collect(share: np.ndarray, held: Sequence[slice]) -> np.ndarray:
    """Bring an array that is spread over the processes to the first one.

    Args:
        share: the rows that this process holds, ``[n, D]``; D and the type are the same everywhere.
        held: by process, which rows of the whole it holds; each row is in one process.

    Returns:
        All rows in the first process, which holds no more than them and its share meanwhile; none,
        ``[0, D]``, in the others.
    """
    if world_size() == 1:
        return share
    if not is_main():
        if len(share):
            dist.send(torch.from_numpy(share), dst=0)
        return share[:0]
    whole = np.empty((max(part.stop for part in held), share.shape[1]), dtype=share.dtype)
    whole[held[0]] = share
    for process, part in enumerate(held):
        if process and part.start < part.stop:
            dist.recv(torch.from_numpy(whole[part]), src=process)
    return whole


def from_main(make: Callable[[], T]) -> T:
    """Return, in every process, what a function returns in the first; the others do not call it."""
    if world_size() == 1:
        return make()
    values = [make() if is_main() else None]
    dist.broadcast_object_list(values, src=0)
    return values[0]  # type: ignore[return-value]


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        # What each process makes of the rows counts. They all make the same loss of them: summed
        # here, it is world_size() times as large, and DistributedDataParallel's mean undoes that.
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]


def gather_rows(rows: Tensor) -> Tensor:
    """Return every process's rows, ``[world_size * n, ...]`` in rank order, differentiably.

    A loss of all rows that each process computes thus has, after DistributedDataParallel has taken
    the mean of the gradients, the gradient of that loss in a process that is alone.

    Args:
        rows: ``[n, ...]``, of the same shape in all processes.
    """
    return rows if world_size() == 1 else _GatherRows.apply(rows)


def share_buffers(module: nn.Module) -> None:
    """Give every process the first one's buffers: running statistics follow each one's own batches.

    The parameters need no sharing, they are the same already.
    """
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Have a folder to this run, that is to all its processes, for the length of the block.

    The lock goes with the process that holds it, however that ends. Where a file system has none,
    such as some network shares, the block runs without.

    Raises:
        InUseError: another run has the folder.
    """
    lock = FileLock(folder / ".lock", fallback_to_soft=False)  # which would outlive a kill

    def take() -> str:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            return (
                f"another run, which still goes on, writes to {folder}: wait for its end or stop "
                "it, or choose another OUTPUT_DIR"
            )
        except OSError as error:
            logger.warning("%s cannot be locked (%s): start no other run into it", folder, error)
        return ""

    if taken := from_main(take):
        raise InUseError(taken)
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):
                os.unlink(lock.lock_file)  # first, lest it be another's; filelock minds that
            lock.release()


@contextmanager
def process_group(device: torch.device, seconds: float) -> Iterator[None]:
    """Join the processes that torchrun started, if it did, for the length of the block.

    NCCL joins CUDA devices; gloo all others, and what lies in the memory of the CPU.

    Args:
        device: where to compute.
        seconds: how long to wait for the others, such as for a long ranking.

    Raises:
        UserError: the processes have not met, or one does not answer any more.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    of, timeout = os.environ.get, timedelta(seconds=seconds)
    try:
        store, own, processes = next(rendezvous("env://", timeout=timeout))
        store.set_timeout(timeout)
        if of("TORCHELASTIC_USE_AGENT_STORE") == "True":
            # torchrun's store outlives processes, and would tell new ones where dead ones were.
            store = dist.PrefixStore(f"start {of('TORCHELASTIC_RESTART_COUNT')}", store)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(
            backend, store=store, rank=own, world_size=processes, timeout=timeout
        )
    except RuntimeError as error:
        raise UserError(
            f"process {of('RANK')} of {of('WORLD_SIZE')} has not met the others at "
            f"{of('MASTER_ADDR')}:{of('MASTER_PORT')} ({str(error).splitlines()[0]}). Has each "
            "been started, with the same address, port and number of processes, and can they "
            "reach the port?"
        ) from error
    try:
        yield
    except RuntimeError as error:
        if not re.search(r"(?i)timed out|timeout", str(error)):
            raise
        raise UserError(
            f"process {own} of {processes} has waited {seconds:g} s (TIMEOUT) for another one: it "
            "is stopped, hangs or is very slow. A training goes on with --resume"
        ) from error
    finally:
        # A thread of gloo's that lets go of the last tensors needs Python's lock to do so, and some
        # versions of torch keep that lock while they wait for the thread to end.
        time.sleep(LETTING_GO)
        dist.destroy_process_group()
