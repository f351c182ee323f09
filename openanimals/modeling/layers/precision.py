"""Where half precision ends."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """Return ``x`` as float32 if it is half precision, else unchanged.

    Exponentials of scaled logits, powers and squared distances leave the range or the resolution
    of float16, so whatever feeds a loss goes through this.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def no_autocast(device: torch.device) -> AbstractContextManager:
    """Return a context in which nothing is cast to half precision on a device."""
    if not torch.amp.is_autocast_available(device.type):  # the meta device
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
