"""What each of three processes does in test_distributed.py; what goes wrong is an error."""

import numpy as np
import pytest
import torch

from openanimals.utils import distributed
from openanimals.utils.errors import UserError

WHOLE = np.arange(14, dtype=np.float32).reshape(7, 2)


def features_are_collected():
    rank, held = distributed.rank(), [slice(0, 4), slice(4, 4), slice(4, 7)]
    found = distributed.collect(WHOLE[held[rank]], held)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, WHOLE if rank == 0 else WHOLE[:0])
    assert distributed.from_main(lambda: {"made by": distributed.rank()}) == {"made by": 0}


def gradients_average_to_those_of_one_process():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    inputs = torch.randn(6, 4, generator=generator, dtype=torch.float64)

    def loss(features):  # looks at pairs of rows, so that shares do not add up to the whole
        return torch.cdist(features, features).square().triu().logsumexp((0, 1))

    (expected,) = torch.autograd.grad(loss(inputs @ weight), weight)
    rank = distributed.rank()
    gathered = distributed.gather_rows(inputs[2 * rank : 2 * rank + 2] @ weight)
    torch.testing.assert_close(gathered, inputs @ weight)
    (own,) = torch.autograd.grad(loss(gathered), weight)
    mean = torch.stack(distributed.gather(own)).mean(0)
    torch.testing.assert_close(mean, expected, rtol=1e-12, atol=1e-12)


def a_difference_is_told_in_all_processes():
    rank = distributed.rank()
    distributed.check_alike({"SEED": 0, "SOLVER.STEPS": [1, 2]})
    facts = {"SEED": rank // 2, "SOLVER.STEPS": [1, 2], **({} if rank else {"MINE": "x"})}
    with pytest.raises(UserError) as told:
        distributed.check_alike(facts)
    assert "SEED: 0 in process 0, 1 in process 2\n" in str(told.value)
    assert "MINE: 'x' in process 0, None in process 1" in str(told.value)
    assert "STEPS" not in str(told.value)


if __name__ == "__main__":
    with distributed.process_group(torch.device("cpu"), 240):
        features_are_collected()
        gradients_average_to_those_of_one_process()
        a_difference_is_told_in_all_processes()
