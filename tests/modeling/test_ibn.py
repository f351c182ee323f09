"""IBN against PyTorch's own instance norm and batch norm."""

import pytest
import torch
import torch.nn.functional as F

from openanimals.modeling.layers.norms import IBN, NORMS, InstanceNorm, make_norm

LAYOUTS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}


def example(dtype: torch.dtype, layout: torch.memory_format, channels: int = 6):
    """A layer that is not as it starts, a map far from zero, and a gradient of the output."""
    torch.manual_seed(0)
    layer = IBN(channels)
    for parameter in layer.parameters():
        torch.nn.init.uniform_(parameter, 0.5, 1.5)
    x = 3 + torch.randn(4, channels, 5, 7)
    gradient = torch.randn(x.shape)
    return layer, *(t.to(dtype).contiguous(memory_format=layout) for t in (x, gradient))


def reference(layer: IBN, x: torch.Tensor) -> torch.Tensor:
    """What the layer is defined as, by PyTorch's functions."""
    half = x.shape[1] // 2
    instance = F.instance_norm(x[:, :half], weight=layer.IN.weight, bias=layer.IN.bias)
    weight, bias = layer.BN.weight, layer.BN.bias
    return torch.cat([instance, F.batch_norm(x[:, half:], None, None, weight, bias, True)], dim=1)


def with_gradients(function, layer, x, gradient):
    """The output and the gradients of the map and of the parameters."""
    x = x.clone().requires_grad_()
    y = function(x)
    return [y, *torch.autograd.grad(y, [x, *layer.parameters()], gradient)]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_values_and_gradients(layout):
    layer, x, gradient = example(torch.float64, layout)
    layer.double()
    ours = with_gradients(layer, layer, x, gradient)
    theirs = with_gradients(lambda x: reference(layer, x), layer, x, gradient)
    for given, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(given, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_other_precisions(dtype, tolerance):
    """Half precision rounds what goes in and comes out, and nothing in between."""
    layer, x, gradient = example(dtype, torch.channels_last)
    ours = with_gradients(layer, layer, x, gradient)
    layer.double()
    exact = with_gradients(lambda x: reference(layer, x), layer, x.double(), gradient.double())
    assert ours[0].dtype == ours[1].dtype == dtype
    assert all(gradient.dtype == torch.float32 for gradient in ours[2:])
    for given, expected in zip(ours, exact, strict=True):
        torch.testing.assert_close(given.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_layout_stays(layout, dtype, training):
    layer, x, gradient = example(dtype, layout)
    y, of_x, *_ = with_gradients(layer.train(training), layer, x, gradient)
    assert y.is_contiguous(memory_format=layout)
    assert of_x.is_contiguous(memory_format=layout)


def test_one_copy_of_the_map_is_kept_and_in_its_precision():
    layer, x, _ = example(torch.bfloat16, torch.channels_last)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(x.requires_grad_())
    maps = [tensor for tensor in kept if tensor.ndim == 4 and tensor.shape[2:] == x.shape[2:]]
    assert sum(tensor.numel() for tensor in maps) == x.numel()
    assert {tensor.dtype for tensor in maps} == {torch.bfloat16}


@pytest.mark.parametrize("norm", NORMS)
def test_the_other_half_is_the_norm(norm):
    ibn = IBN(64, norm)
    assert type(ibn.BN) is type(make_norm(norm, 32))
    x = torch.randn(4, 64, 3, 3)
    torch.testing.assert_close(ibn(x)[:, :32], F.instance_norm(x[:, :32]))


def test_one_position_has_no_variance_and_a_finite_gradient():
    x = torch.randn(2, 4, 1, 1, requires_grad=True)
    y = InstanceNorm(4)(x)
    y.sum().backward()
    assert not y.any() and x.grad.isfinite().all()
