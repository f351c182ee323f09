"""Norms and attention against recorded values and against loops."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from openanimals.modeling.layers.attention import NonLocal, SqueezeExcitation
from openanimals.modeling.layers.norms import IBN, NORMS, FrozenBN, GhostBN, make_neck, make_norm
from tests.reference import load_arrays
from tests.reference.fill_rule import fill_module

LAYERS = {
    "IBN": lambda: IBN(32),
    "BN": lambda: make_neck("BN", 32),
    "GhostBN_splits2": lambda: make_norm("GhostBN", 32),
    "FrozenBN": lambda: make_norm("FrozenBN", 32),
    "GN": lambda: make_norm("GN", 32),
    "SE": lambda: SqueezeExcitation(32),
    "NL": lambda: NonLocal(32),
}


def filled(layer: nn.Module) -> nn.Module:
    fill_module(layer)
    return layer.double()


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_recorded_layer(name):
    recorded = load_arrays("layers.npz")
    layer = filled(LAYERS[name]())
    x = torch.tensor(recorded["xn"])
    for mode in ("eval", "train"):
        given = layer.train(mode == "train")(x).numpy().ravel()[::7]
        np.testing.assert_allclose(given, recorded[f"{name}__{mode}"], rtol=1e-9, atol=1e-12)
    state = layer.state_dict()
    statistics = [key for key in state if "running" in key]
    assert {f"{name}__after__{k}" for k in statistics} == {
        key for key in recorded if key.startswith(f"{name}__after")
    }
    for key in statistics:
        np.testing.assert_allclose(state[key], recorded[f"{name}__after__{key}"], rtol=1e-9)


@pytest.mark.parametrize("name", ["BN", "syncBN"])
def test_alone_a_process_takes_its_own_statistics(name):
    x = torch.randn(4, 8, 3, 2)
    norm = make_norm(name, 8)
    torch.testing.assert_close(norm(x), F.batch_norm(x, None, None, training=True))
    unbiased = x.transpose(0, 1).flatten(1).var(1)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * unbiased)
    expected = F.batch_norm(x, norm.running_mean, norm.running_var)
    torch.testing.assert_close(norm.eval()(x), expected)


@torch.no_grad()
def test_parts_of_a_ghost_batch():
    """Image i is in part i % 3, and each part has the statistics of a batch of its own."""
    x = torch.randn(6, 4, 2, 3, dtype=torch.float64)
    norm, alone = GhostBN(4, splits=3).double(), nn.BatchNorm2d(4).double()
    y = norm(x)
    means = []
    for part in range(3):
        alone.reset_running_stats()
        torch.testing.assert_close(y[part::3], alone(x[part::3]))
        means.append(alone.running_mean.clone())
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0))
    assert norm.num_batches_tracked == 1
    last = norm(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, y)
    assert last.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match=r"3 parts, which 4 images.*SOLVER\.IMS_PER_BATCH"):
        norm(x[:4])
    norm.eval()(x[:4])


def test_a_ghost_keeps_its_buffers():
    """Processes share them by the tensors that were there at the start."""
    norm = GhostBN(4)
    before = {name: buffer.data_ptr() for name, buffer in norm.named_buffers()}
    norm(torch.randn(2, 4, 2, 2))
    assert {name: buffer.data_ptr() for name, buffer in norm.named_buffers()} == before


def test_frozen_means_constant():
    norm = FrozenBN(4).train()
    assert not list(norm.parameters())
    x = torch.randn(3, 4, 2, 2, requires_grad=True)
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    norm(x).sum().backward()
    assert x.grad is not None
    assert all(torch.equal(before[key], value) for key, value in norm.state_dict().items())
    assert list(before) == ["weight", "bias", "running_mean", "running_var"]


@pytest.mark.parametrize("norm", NORMS)
def test_the_necks_bias_is_frozen_at_zero(norm):
    neck = make_neck(norm, 32)
    assert not neck.bias.requires_grad and not neck.bias.any()
    assert neck.weight.requires_grad == (norm != "FrozenBN")
    backbone_norm = make_norm(norm, 32)
    assert backbone_norm.bias.requires_grad == (norm != "FrozenBN")


@torch.no_grad()
def test_non_local_block_is_a_sum_over_pairs_of_positions():
    block = filled(NonLocal(32)).eval()
    x = torch.randn(2, 32, 3, 4, dtype=torch.float64)
    g, theta, phi = (conv(x).flatten(1) for conv in (block.g, block.theta, block.phi))
    pairs = theta[:, :, None] * phi[:, None, :]  # [B, 12, 12]
    said = (pairs / 12 @ g[:, :, None]).view(2, 1, 3, 4)
    torch.testing.assert_close(block(x), x + block.W(said))


@pytest.mark.parametrize("norm", NORMS)
def test_non_local_block_starts_as_the_identity(norm):
    x = torch.randn(2, 32, 3, 4)
    assert torch.equal(NonLocal(32, norm)(x), x)


def test_groups_need_channels_that_divide():
    with pytest.raises(ValueError, match=r"32 groups, and 100 channels.*EMBEDDING_DIM"):
        make_norm("GN", 100)
