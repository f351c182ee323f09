"""Which device a process computes on, and in which precision."""

import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

from openanimals.config import CfgNode
from openanimals.config.checks import train_size
from openanimals.data.loaders import naming_lost_workers
from openanimals.utils import distributed
from openanimals.utils.errors import UserError, naming_memory


class DeviceError(UserError):
    """A device that was asked for and is not there."""


def pick_device(name: str) -> torch.device:
    """Return the device of MODEL.DEVICE; with several processes each has a CUDA device of its own.

    Args:
        name: ``auto`` (CUDA, else MPS, else CPU), ``cpu``, ``cuda``, ``cuda:<n>`` or ``mps``.

    Raises:
        DeviceError: it is not there.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    asked = name
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, index = name.partition(":")
    if kind == "cuda":
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun says so
        if index and processes > 1:
            raise DeviceError(
                f"MODEL.DEVICE is {asked!r}, which {processes} processes cannot share; set cuda"
            )
        number = int(index or os.environ.get("LOCAL_RANK", "0"))
        count = torch.cuda.device_count() if cuda else 0
        if number >= count:
            raise DeviceError(
                f"MODEL.DEVICE is {asked!r} for {processes} process(es), but PyTorch sees {count} "
                f"CUDA devices (torch {torch.__version__}); set MODEL.DEVICE to cpu"
                f"{', or lower --num-gpus' if processes > 1 else ' or auto'}"
            )
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
        return device
    if kind == "mps" and not mps:
        raise DeviceError("MODEL.DEVICE is 'mps', but PyTorch sees no MPS device; set auto or cpu")
    return torch.device(kind)


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to a device, in the memory layout that convolutions are fastest in there."""
    layout = torch.contiguous_format if device.type == "mps" else torch.channels_last
    with naming_memory(f"the model on {device}", "set MODEL.DEVICE to cpu, or take a smaller one"):
        return model.to(device, memory_format=layout)


@contextmanager
def room_to_evaluate(cfg: CfgNode) -> Iterator[None]:
    """Return a context in which a lack of memory, or of a process that reads, names the keys."""
    count, size = cfg.TEST.IMS_PER_BATCH, cfg.INPUT.SIZE_TEST
    remedy = f"lower TEST.IMS_PER_BATCH ({count}) or INPUT.SIZE_TEST ({size})"
    with naming_lost_workers(), naming_memory("an evaluation", remedy):
        yield


def room_to_train(cfg: CfgNode) -> AbstractContextManager:
    """Return a context in which a lack of memory names the keys that a step's depends on."""
    key, size = train_size(cfg)
    return naming_memory(
        "a training step",
        f"lower SOLVER.IMS_PER_BATCH ({cfg.SOLVER.IMS_PER_BATCH}), raise SOLVER.ACCUMULATE "
        f"({cfg.SOLVER.ACCUMULATE}), or lower {key} ({size})",
    )


_HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_HONOURED = {"cuda": ("float16", "bfloat16"), "cpu": ("bfloat16",)}


def amp_dtype(cfg: CfgNode, device: torch.device) -> torch.dtype | None:
    """Return the type for mixed precision, None for float32 throughout.

    CUDA honours both types of SOLVER.AMP.DTYPE, the CPU bfloat16.
    """
    honoured = _HONOURED.get(device.type, ())
    if not cfg.SOLVER.AMP.ENABLED or cfg.SOLVER.AMP.DTYPE not in honoured:
        return None
    return _HALVES[cfg.SOLVER.AMP.DTYPE]


def evaluation_dtype(cfg: CfgNode, device: torch.device) -> torch.dtype | None:
    """Return the half precision that TEST.DTYPE asks for if the device has it, None for float32."""
    honoured = ("float32", *_HONOURED.get(device.type, ()))
    if cfg.TEST.DTYPE not in honoured:
        raise DeviceError(
            f"TEST.DTYPE is {cfg.TEST.DTYPE!r}, which is not to be had on {device.type}; "
            f"it can be {' or '.join(honoured)} there"
        )
    return _HALVES.get(cfg.TEST.DTYPE)


def describe_environment(cfg: CfgNode, device: torch.device) -> str:
    """Return one line: versions, device, precision, processes."""
    dtype = amp_dtype(cfg, device)
    precision = str(dtype).removeprefix("torch.") + " mixed precision" if dtype else "float32"
    if cfg.SOLVER.AMP.ENABLED and not dtype:
        precision += f" (no {cfg.SOLVER.AMP.DTYPE} on this device)"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, {name}, "
        f"{torch.get_num_threads()} threads, {distributed.world_size()} process(es), {precision}"
    )
