"""Every recipe at its size on a CUDA device that is not there: shapes, devices and layouts only.

Fake tensors know their device, so that a tensor of the CPU that meets one of CUDA, a value that is
read back to the host, or a map that is not channels-last in memory is an error here, too. Backward
passes and GradScaler need a real device; the marker ``cuda`` has those tests.
"""

from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from openanimals.config import load
from openanimals.data.loaders import build_transforms
from openanimals.evaluation import distance
from openanimals.modeling import LOSS_REGISTRY, ModelOutput, build_losses, build_model
from tests.conftest import REPOSITORY

CONFIGS = REPOSITORY / "configs"
CUDA = torch.device("cuda", 0)
HALVES = [torch.float16, torch.bfloat16]
READS = (DataDependentOutputException, DynamicOutputShapeException)

# An older torch makes fake CUDA tensors only where there is a driver.
TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])
pytestmark = pytest.mark.skipif(TORCH < (2, 11), reason="fakes CUDA with torch 2.11 or later")


def recipes() -> dict[str, object]:
    """The shipped recipes by name, one of those that compute the same."""
    files = [
        *CONFIGS.glob("*.yml"),
        *CONFIGS.glob("ARBase/*.yml"),
        *CONFIGS.glob("ablations/*.yml"),
    ]
    found = {}
    for path in sorted(files, key=lambda path: (len(path.parts), path)):
        cfg = load(path, ["MODEL.BACKBONE.PRETRAIN", False])
        parts = cfg.MODEL.BACKBONE, cfg.MODEL.HEADS, cfg.INPUT, [*cfg.MODEL.LOSSES.NAME]
        found.setdefault(str(parts), (path.stem, cfg))
    return dict(found.values())


RECIPES = recipes()


class ReadBack(AssertionError):
    """Something waits for the device."""


class Device(TorchDispatchMode):
    """Computes what is of the CPU alone for real, and the rest by shapes."""

    def __init__(self, fakes: FakeTensorMode) -> None:
        super().__init__()
        self.fakes = fakes

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        leaves = tree_leaves((args, kwargs or {}))
        tensors = [x for x in leaves if isinstance(x, Tensor)]
        placed = any(isinstance(x, torch.device) and x.type == "cuda" for x in leaves)
        if not placed and not any(isinstance(x, FakeTensor) for x in tensors):
            with unset_fake_temporarily():
                return operation(*args, **(kwargs or {}))
        if not all(isinstance(x, FakeTensor) for x in tensors):
            args, kwargs = tree_map_only(Tensor, self.fake, (args, kwargs))
        made = operation(*args, **(kwargs or {}))
        devices = {x.device.type for x in tensors}
        ends = {x.device.type for x in tree_leaves(made) if isinstance(x, Tensor)}
        if "cuda" in devices and "cpu" in ends:
            raise ReadBack(f"{operation} copies to the host")
        if "cuda" in devices and any(x.device.type == "cpu" and x.ndim for x in tensors):
            raise ReadBack(f"{operation} copies an index of the host to the device")
        return made

    def fake(self, x: Tensor) -> Tensor:
        return x if isinstance(x, FakeTensor) else self.fakes.from_tensor(x)


@pytest.fixture
def cuda():
    """A CUDA device for the length of a test."""
    with FakeTensorMode() as fakes, Device(fakes), torch.no_grad():
        yield CUDA


@contextmanager
def autocast(dtype: torch.dtype):
    """Do as ``torch.autocast("cuda", dtype)``, which does nothing without a device."""
    torch.set_autocast_dtype("cuda", dtype)
    torch.set_autocast_enabled("cuda", True)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", torch.float16)


def on_device(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights on the device, in the layout that the engine gives them there."""
    state = {}
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        layout = torch.channels_last if value.ndim == 4 else torch.contiguous_format
        placed = torch.empty(value.shape, dtype=value.dtype, device=CUDA, memory_format=layout)
        state[name] = placed
    return state


def photographs(count, height, width) -> Tensor:
    """A batch as the loaders give it: uint8 ``[B, 3, H, W]``, the colours last in memory."""
    shape = (count, height, width, 3)
    return torch.empty(shape, dtype=torch.uint8, device=CUDA).permute(0, 3, 1, 2)


def watch_layouts(model: nn.Module) -> list[str]:
    """Have maps that are not channels-last noted, of all convolutions of a model."""
    wrong: list[str] = []

    def look(name, module, inputs, output):
        kept = output.contiguous(memory_format=torch.channels_last)
        # Without a device, torch does not know that cuDNN keeps this layout for bfloat16 as well.
        given = output if output.dtype != torch.bfloat16 else kept
        for what, x in (("input", inputs[0]), ("output", given)):
            if not x.is_contiguous(memory_format=torch.channels_last):
                wrong.append(f"{what} of {name}")
        return kept

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(partial(look, name))
    return wrong


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_computes_on_the_device(name, cuda):
    cfg = RECIPES[name]
    with torch.device("meta"):
        model = build_model(cfg, 10)
    wrong, losses = watch_layouts(model), build_losses(cfg)
    weights, targets = on_device(model), torch.zeros(8, dtype=torch.long, device=cuda)
    images = photographs(8, *cfg.INPUT.SIZE_TRAIN)
    images = build_transforms(cfg)(images, torch.Generator().manual_seed(0))
    tested = photographs(8, *cfg.INPUT.SIZE_TEST)
    for dtype in HALVES if name.startswith("Base") else HALVES[:1]:
        with autocast(dtype):
            output = functional_call(model.train(), weights, (images, targets))
            terms = losses(output, targets)
            features = functional_call(model.eval(), weights, (tested,))
        assert all(x.device == cuda and x.dtype == torch.float32 for x in terms.values())
        assert features.device == cuda
    assert not wrong


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", list(LOSS_REGISTRY))
def test_a_loss_computes_on_the_device(name, dtype, cuda):
    x = torch.empty(8, 6, dtype=dtype, device=cuda)
    output = ModelOutput(features={"b1": x}, logits={"b1": x})
    targets = torch.zeros(8, dtype=torch.long, device=cuda)
    for keys in ([], ["MODEL.LOSSES.TRI.HARD_MINING", True], ["MODEL.LOSSES.CE.EPSILON", -1.0]):
        losses = build_losses(load(None, ["MODEL.LOSSES.NAME", (name,), *keys]))
        with autocast(dtype):
            assert all(x.device == cuda for x in losses(output, targets).values())


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_distances_are_computed_on_the_device(metric, cuda):
    query, gallery = torch.ones(5, 6).numpy(), torch.ones(700, 6).numpy()
    both = [(part, distance.squared_lengths(part, "query")) for part in (query, gallery)]
    (block,) = distance._tiled_blocks(*both, metric, cuda)
    assert block[1].device == cuda and block[1].shape == (5, 700)


@pytest.mark.parametrize(
    ("kind", "mistake"),
    [
        (READS, lambda x: x.sum().item()),
        (READS, lambda x: x if x.max() > 0 else -x),
        (READS, lambda x: x[x > 0]),
        (ReadBack, lambda x: x.cpu()),
        (ReadBack, lambda x: x[torch.tensor([1, 0])]),
        (RuntimeError, lambda x: x + torch.ones(2)),
    ],
)
def test_mistakes_are_seen(kind, mistake, cuda):
    with pytest.raises(kind):
        mistake(torch.ones(2, device=cuda))


def test_another_layout_is_seen(cuda):
    conv = nn.Sequential(nn.Conv2d(3, 4, 1, device=cuda))
    wrong, images = watch_layouts(conv), photographs(2, 8, 8).float()
    conv(images)
    assert not wrong
    conv(images.contiguous())
    assert "input of 0" in wrong
