"""Pools against recorded values."""

import numpy as np
import pytest
import torch

from openanimals.modeling.layers.pools import POOLS, GeneralizedMeanPooling, GeneralizedMeanPoolingP
from tests.reference import load_arrays


@pytest.fixture(scope="module")
def recorded():
    return load_arrays("layers.npz")


@pytest.mark.parametrize("name", POOLS)
def test_pool(recorded, name):
    x = torch.tensor(recorded["x"], requires_grad=True)
    pool = POOLS[name]().double()
    y = pool(x)
    y.backward(torch.tensor(np.random.default_rng(8).standard_normal(y.shape)))
    np.testing.assert_allclose(y.detach(), recorded[f"{name}__y"], rtol=1e-9)
    np.testing.assert_allclose(x.grad, recorded[f"{name}__grad_x"], rtol=1e-9)
    for parameter in pool.parameters():
        np.testing.assert_allclose(parameter.grad, recorded[f"{name}__grad_p"], rtol=1e-9)


def test_pool_with_another_exponent(recorded):
    y = GeneralizedMeanPooling(6.5)(torch.tensor(recorded["x"]))
    np.testing.assert_allclose(y, recorded["GeneralizedMeanPooling_p6.5__y"], rtol=1e-9)


def test_only_one_of_the_generalised_means_learns_its_exponent():
    assert not list(GeneralizedMeanPooling().parameters())
    assert [name for name, _ in GeneralizedMeanPoolingP().named_parameters()] == ["p"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_generalised_mean_of_nothing_has_a_gradient_in_half_precision(dtype):
    """The third power of the clamp, 1e-18, is 0 in float16, where the root has no slope."""
    x = torch.zeros(2, 4, 3, 3, dtype=dtype, requires_grad=True)
    pool = GeneralizedMeanPoolingP()
    y = pool(x)
    y.sum().backward()
    torch.testing.assert_close(y.detach(), torch.full((2, 4, 1, 1), 1e-6), rtol=0.1, atol=0)
    assert pool.p.grad.isfinite().all() and x.grad.isfinite().all()
