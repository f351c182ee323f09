"""Maps stay in channels-last memory, and are not copied for stripes and pools."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from openanimals.engine.device import place
from openanimals.modeling import EmbeddingHead, ReIDModel, model
from openanimals.modeling.backbones.resnet import resnet
from openanimals.modeling.layers import pools

TARGETS = torch.tensor([0, 0, 1, 1])
ARBASE = ((1,), (1, 2), (1, 3))
VARIANTS = {
    "ARBase": ({"ibn": True}, {}, "rows"),
    "ARBase, 50 layers": ({"depth": "50x", "ibn": True}, {}, "rows"),
    "SE and non-local": ({"ibn": True, "se": True, "non_local": True}, {}, "rows"),
    "columns": ({"ibn": True}, {"embedding_dim": 8, "pool": "GeneralizedMeanPoolingP"}, "cols"),
}


def is_channels_last(x: torch.Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def photographs(pixels: int = 48) -> torch.Tensor:
    """Four images as the loaders give them: uint8 ``[4, 3, H, W]``, the colours last in memory."""
    return torch.randint(0, 256, (4, pixels, pixels, 3), dtype=torch.uint8).permute(0, 3, 1, 2)


def build(variant: str) -> ReIDModel:
    backbone, head, stripes = VARIANTS[variant]
    model = ReIDModel(
        resnet(**{"depth": "18x", **backbone}),
        ARBASE,
        lambda channels: EmbeddingHead(channels, 2, **head),
        stripes=stripes,
    )
    return place(model, torch.device("cpu"))


@pytest.mark.parametrize(
    ("variant", "autocast"),
    [*((name, False) for name in VARIANTS), ("ARBase", True), ("SE and non-local", True)],
)
def test_every_convolution_receives_channels_last(variant, autocast):
    model = build(variant)
    wrong = []

    def look(name):
        def forward(_, inputs, output):
            if not is_channels_last(inputs[0]):
                wrong.append(f"input of {name}")
            if output.requires_grad:
                output.register_hook(backward)

        def backward(gradient):
            if not is_channels_last(gradient):
                wrong.append(f"gradient of {name}")

        return forward

    convolutions = {k: m for k, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    for name, module in convolutions.items():
        module.register_forward_hook(look(name))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = model.train()(photographs(), TARGETS)
        sum(x.float().square().sum() for x in output.features.values()).backward()
        with torch.inference_mode():
            model.eval()(photographs())
    assert len(convolutions) > 30 and not wrong
    weights = [module.weight for module in convolutions.values() if module.weight.grad is not None]
    assert all(is_channels_last(weight.grad) for weight in weights)


class Recorder(TorchDispatchMode):
    """Notes the operations that write at least so many numbers."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers, self.written = numbers, []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **kwargs or {})
        if operation.is_view:
            return result
        for x in result if isinstance(result, tuple | list) else [result]:
            if isinstance(x, torch.Tensor) and x.numel() >= self.numbers:
                self.written.append(operation.overloadpacket.__name__)
        return result


def test_pixels_are_normalised_in_three_passes(tiny_model):
    model = tiny_model([[1]]).eval()
    images = photographs()
    with torch.no_grad(), Recorder(images.numel()) as recorder:
        model(images)
    assert recorder.written[:3] == ["_to_copy", "sub", "div_"]


@pytest.mark.parametrize("stripes", ["rows", "cols"])
def test_stripes_and_pools_copy_no_map(tiny_model, stripes):
    model = tiny_model(stripes=stripes)
    feature_map = place(torch.nn.Conv2d(3, 8, 1), torch.device("cpu"))(photographs(24).float())
    with Recorder(feature_map.numel() // 3) as recorder:
        for count, names in model.cuts["b3"].items():
            for name, part in zip(names, model._cut(feature_map, count), strict=True):
                model.heads[name](part, TARGETS)
    assert recorder.written == []


@pytest.mark.parametrize("dim", [2, 3])
def test_gradients_of_stripes_and_means(dim):
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64).to(memory_format=torch.channels_last)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    factors = torch.randn(3, 2, 4, 1, 1, dtype=torch.float64)
    for x, cut, mean in (
        (ours, model.cut, pools.mean),
        (theirs, torch.chunk, lambda part: part.mean((2, 3), keepdim=True)),
    ):
        parts = zip(cut(x, 3, dim), factors, strict=True)
        sum((factor * mean(part)).sum() for part, factor in parts).backward()
    assert torch.equal(ours.grad, theirs.grad)
    assert is_channels_last(ours.grad)
