"""Every random stream has its own generator, derived from the seed, its purpose and a counter.

So no stream depends on the number of workers, on another stream, or on what ran before a resume.
"""

import hashlib
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, purpose: str, *counters: int) -> int:
    """Return a 63-bit seed for one purpose, the same on every machine and Python.

    Args:
        seed: the run's seed (the key ``SEED``).
        purpose: what is drawn, for instance ``"augment"``.
        counters: what tells one draw of that purpose from the next, for instance the iteration.
    """
    text = ":".join([str(seed), purpose, *map(str, counters)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *counters: int) -> "torch.Generator":
    """Return a CPU ``torch.Generator`` seeded with :func:`derive_seed`."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, purpose, *counters))


def seed_global_streams(seed: int, purpose: str, *counters: int) -> None:
    """Seed Python's, numpy's and torch's global streams, for code that draws from those."""
    import torch

    derived = derive_seed(seed, purpose, *counters)
    random.seed(derived)
    np.random.seed(derived % 2**32)
    torch.manual_seed(derived)
