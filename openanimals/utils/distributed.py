"""The few things a process must know of the others. Alone, it is rank 0 of 1."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from openanimals.utils.errors import UserError

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)  # of waiting for the others, such as for a long ranking


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
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started, if it did, for the length of the block.

    NCCL joins CUDA devices; gloo all others, and what lies in the memory of the CPU.

    Raises:
        UserError: the processes have not met.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    of = os.environ.get
    try:
        store, own, processes = next(rendezvous("env://", timeout=TIMEOUT))
        store.set_timeout(TIMEOUT)
        if of("TORCHELASTIC_USE_AGENT_STORE") == "True":
            # torchrun's store outlives processes, and would tell new ones where dead ones were.
            store = dist.PrefixStore(f"start {of('TORCHELASTIC_RESTART_COUNT')}", store)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(
            backend, store=store, rank=own, world_size=processes, timeout=TIMEOUT
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
    finally:
        dist.destroy_process_group()
