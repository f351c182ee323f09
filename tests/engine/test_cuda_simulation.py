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
from openanimals.modeling import build_losses, build_model
from tests.conftest import REPOSITORY

CONFIGS = REPOSITORY / "configs"
CUDA = torch.device("cuda", 0)
HALVES = [torch.float16, torch.bfloat16]
READS = (DataDependentOutputException, DynamicOutputShapeException)


def recipes() -> dict[str, object]:
    """The shipped recipes by name, one of those that differ in data and schedule only."""
    files = [
        *CONFIGS.glob("*.yml"),
        *CONFIGS.glob("ARBase/*.yml"),
        *CONFIGS.glob("ablations/*.yml"),
    ]
    found = {}
    for path in sorted(files, key=lambda path: (len(path.parts), path)):
        cfg = load(path, ["MODEL.BACKBONE.PRETRAIN", False])
        found.setdefault(f"{cfg.MODEL}{cfg.INPUT}", (path.stem, cfg))
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
        args, kwargs = tree_map_only(Tensor, self.fake, (args, kwargs or {}))
        made = operation(*args, **kwargs)
        devices = {x.device.type for x in tensors}
        ends = {x.device.type for x in tree_leaves(made) if isinstance(x, Tensor)}
        if "cuda" in devices and "cpu" in ends:
            raise ReadBack(f"{operation} copies to the host")
        if "cuda" in devices and any(x.device.type == "cpu" and x.ndim for x in tensors):
            raise ReadBack(f"{operation} copies an index of the host to the device")
        return made

    def fake(self, x: Tensor) -> Tensor:
        return x if isinstance(x, FakeTensor) else self.fakes.from_tensor(x)


@contextmanager
def cuda(dtype=None):
    """A block in which there is a CUDA device, with autocast to a type."""
    with FakeTensorMode() as fakes, Device(fakes):
        torch.set_autocast_dtype("cuda", dtype or torch.float16)
        torch.set_autocast_enabled("cuda", dtype is not None)
        torch.autocast_increment_nesting()
        try:
            yield
        finally:
            if torch.autocast_decrement_nesting() == 0:
                torch.clear_autocast_cache()
            torch.set_autocast_enabled("cuda", False)
            torch.set_autocast_dtype("cuda", torch.float16)


def on_device(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights on the device, in the layout that the engine gives them there."""
    state = {}
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        layout = torch.channels_last if value.ndim == 4 else torch.contiguous_format
        placed = torch.empty(value.shape, dtype=value.dtype, device=CUDA, memory_format=layout)
        state[name] = placed.requires_grad_(value.requires_grad)
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
def test_a_recipe_computes_on_the_device(name):
    cfg = RECIPES[name]
    with torch.device("meta"):
        model = build_model(cfg, 10)
    wrong, losses, transforms = watch_layouts(model), build_losses(cfg), build_transforms(cfg)
    for dtype in HALVES:
        with cuda(dtype):
            weights = on_device(model)
            targets = torch.zeros(8, dtype=torch.long, device=CUDA)
            images = photographs(8, *cfg.INPUT.SIZE_TRAIN)
            images = transforms(images, torch.Generator().manual_seed(0))
            output = functional_call(model.train(), weights, (images, targets))
            terms = losses(output, targets)
            features = functional_call(
                model.eval(), weights, (photographs(8, *cfg.INPUT.SIZE_TEST),)
            )
        assert all(x.device == CUDA and x.dtype == torch.float32 for x in terms.values())
        assert features.device == CUDA
    assert not wrong
