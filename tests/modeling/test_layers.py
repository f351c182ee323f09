"""Pools, norms and margins against recorded values."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from openanimals.modeling.layers import CLASSIFIERS, IBN, POOLS, BNNeck, GeneralizedMeanPooling
from tests.reference import load_arrays
from tests.reference.fill_rule import fill_value


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


@pytest.mark.parametrize(("name", "layer"), [("IBN", IBN), ("BN", BNNeck)])
@torch.no_grad()
def test_norm(recorded, name, layer):
    norm = layer(32)
    values = {k: fill_value(k, tuple(v.shape), "unit") for k, v in norm.state_dict().items()}
    norm.load_state_dict({key: torch.from_numpy(value) for key, value in values.items()})
    norm.double()
    x = torch.tensor(recorded["xn"])
    np.testing.assert_allclose(norm.eval()(x), recorded[f"{name}__eval"], atol=1e-6)
    np.testing.assert_allclose(norm.train()(x), recorded[f"{name}__train"], atol=1e-6)
    statistics = [key for key in values if "running" in key]
    assert statistics
    for key in statistics:
        after = recorded[f"{name}__after__{key}"]
        np.testing.assert_allclose(norm.state_dict()[key], after, rtol=1e-9)


def test_the_necks_bias_is_frozen_at_zero():
    neck = BNNeck(4)
    assert not neck.bias.requires_grad and not neck.bias.any()
    assert neck.weight.requires_grad


@pytest.mark.parametrize("labels", ["pk", "odd"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_margins(name, labels):
    recorded = load_arrays("losses.npz")
    features = torch.tensor(recorded[f"{labels}__emb"])
    weight = torch.tensor(recorded[f"{labels}__weight"])
    if name != "Linear":
        features, weight = F.normalize(features), F.normalize(weight)
    logits = features @ weight.T
    cases = [key for key in recorded if key.startswith(f"{labels}__f64__{name}_")]
    cases = [key for key in cases if "cls_outputs" in key]
    assert cases
    for case in cases:
        scale, margin = (float(part[1:]) for part in case.split("__")[2].split("_")[1:])
        targets = torch.tensor(recorded[f"{labels}__labels"])
        if case.endswith("neg1"):
            targets[::4] = -1
        given = CLASSIFIERS[name](logits, targets, scale, margin)
        np.testing.assert_allclose(given, recorded[case], rtol=1e-9, atol=1e-12, err_msg=case)


def test_arc_has_a_gradient_at_the_ends():
    cosines = torch.tensor([[1.0, -1.0]], requires_grad=True)
    CLASSIFIERS["ArcSoftmax"](cosines, torch.tensor([0]), 64.0, 0.5).sum().backward()
    assert cosines.grad.isfinite().all()
