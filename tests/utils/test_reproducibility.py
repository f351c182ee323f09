import random

import numpy as np
import torch

from openanimals.utils.reproducibility import derive_seed, generator, seed_global_streams


def test_seeds_never_change():
    """Half of the first 16 hexadecimal digits of SHA-256; checkpoints and results depend on it."""
    assert derive_seed(0, "augment") == 6624757023163322187
    assert derive_seed(0, "augment", 7) == 7594384462932493978


def test_seeds_differ_by_seed_purpose_and_counters():
    seeds = {
        derive_seed(seed, purpose, *counters)
        for seed in (0, 1)
        for purpose in ("augment", "step")
        for counters in ((), (0,), (1,), (0, 1), (1, 0), (11,), (1, 1))
    }
    assert len(seeds) == 2 * 2 * 7
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_generators_do_not_depend_on_each_other():
    first = torch.rand(3, generator=generator(0, "augment", 5))
    torch.rand(100, generator=generator(0, "augment", 4))
    torch.rand(100)
    assert torch.equal(torch.rand(3, generator=generator(0, "augment", 5)), first)
    assert not torch.equal(torch.rand(3, generator=generator(0, "augment", 6)), first)


def test_global_streams_are_all_seeded():
    def draws():
        return [random.random(), np.random.rand(), torch.rand(1).item()]

    seed_global_streams(0, "initialise")
    first = draws()
    assert draws() != first
    seed_global_streams(0, "initialise")
    assert draws() == first
