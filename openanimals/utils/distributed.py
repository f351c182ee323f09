"""The few things a process must know of the others. Alone, it is rank 0 of 1."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

T = TypeVar("T")


def rank() -> int:
    """Return this process's number, 0 if it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Tell whether this process writes files and talks."""
    return rank() == 0


def gather(value: T) -> list[T]:
    """Return every process's value, in rank order, in every process."""
    if world_size() == 1:
        return [value]
    values: list[T] = [value] * world_size()
    dist.all_gather_object(values, value)
    return values


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

    NCCL joins CUDA devices, gloo all others.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        barrier()  # one that fails before all have met takes the others down with a traceback
        yield
    finally:
        dist.destroy_process_group()


def local_rank() -> int:
    """Return this process's number on its machine: which CUDA device is its own."""
    return int(os.environ.get("LOCAL_RANK", "0"))
