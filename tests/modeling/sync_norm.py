"""What each of two processes does in test_sync_norm.py; what goes wrong is an error."""

import copy

import torch
from torch import nn

from openanimals.modeling.layers.norms import make_norm
from openanimals.utils import distributed

SHARES = ([5, 5], [7, 3])  # images of each process


def compare(images: list[int]) -> None:
    """Normalise a share here and the whole batch beside it, both forward and backward."""
    torch.manual_seed(0)
    rank = distributed.rank()
    x = 5 + torch.randn(10, 4, 3, 2, dtype=torch.float64)
    gradient = torch.randn(x.shape, dtype=torch.float64)
    ours, alone = make_norm("syncBN", 4).double(), nn.BatchNorm2d(4).double()
    for parameter in alone.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    ours.load_state_dict(alone.state_dict())

    whole = x.clone().requires_grad_()
    expected = alone(whole)
    expected.backward(gradient)
    share = x.split(images)[rank].to(memory_format=torch.channels_last).requires_grad_()
    given = ours(share)
    given.backward(gradient.split(images)[rank])

    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(given, expected.split(images)[rank], **close)
    torch.testing.assert_close(share.grad, whole.grad.split(images)[rank], **close)
    for name, parameter in ours.named_parameters():
        total = sum(distributed.gather(parameter.grad))
        torch.testing.assert_close(total, alone.get_parameter(name).grad, **close)
    state = alone.state_dict()
    assert list(ours.state_dict()) == list(state)
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, state[name], **close)
    assert given.is_contiguous(memory_format=torch.channels_last)

    before = copy.deepcopy(ours.state_dict())
    torch.testing.assert_close(ours.eval()(share), alone.eval()(share), **close)
    assert all(torch.equal(before[key], value) for key, value in ours.state_dict().items())


if __name__ == "__main__":
    with distributed.process_group(torch.device("cpu"), 240):
        for shares in SHARES:
            compare(shares)
