"""SOLVER.COMPILE: which parts are compiled, how often, and that evaluations do not notice.

A stand-in for the compiler, which runs what it is given as it is, makes most of this quick and
exact. What the real one makes takes minutes to test: ``pytest -m slow``.
"""

import copy
import os
import shutil
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from openanimals.config import load
from openanimals.engine import checkpoint
from openanimals.engine import train as run
from openanimals.engine.compiling import CompileError, blocks, compile_blocks, naming_the_key
from openanimals.modeling import build_losses, build_model
from tests.conftest import REPOSITORY
from tests.engine.tiny_run import HERD, tiny_cfg

DEMO = REPOSITORY / "configs/ARBase/demo.yml"


@pytest.fixture(autouse=True)
def _fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@contextmanager
def stand_in(compiler=lambda graph, inputs: graph.forward):
    """Yield the list of all that is compiled within the block, by ``compiler``."""
    compiled = []

    def noted(graph, inputs):
        compiled.append(graph)
        return compiler(graph, inputs)

    with torch.compiler.set_stance(force_backend=noted):
        yield compiled


# What is compiled


def test_blocks_are_those_of_the_backbone():
    model = build_model(load(DEMO), 4)
    found = blocks(model)
    assert {type(block) for block in found} == {BasicBlock}
    assert len(found) == len(set(found)) == 5 + 3 * 3  # of the stem and of three tails


def test_blocks_of_a_transformer():
    timm = pytest.importorskip("timm")
    model = nn.Sequential(timm.create_model("vit_tiny_patch16_224", depth=3, embed_dim=24))
    assert [type(block).__name__ for block in blocks(model)] == ["Block"] * 3


def test_a_model_without_blocks_is_compiled_whole(tmp_path, herd_root):
    model = build_model(tiny_cfg(tmp_path, herd_root), 4)
    assert blocks(model) == [model]


def test_blocks_of_one_kind_and_shape_are_compiled_once():
    model = nn.Sequential(*(BasicBlock(4, 4) for _ in range(12)))
    names = list(model.state_dict())
    compile_blocks(model)
    with stand_in() as compiled:
        for size in (5, 5, 6):
            model(torch.randn(2, 4, size, size, requires_grad=True))
    assert len(compiled) == 2
    assert list(model.state_dict()) == names


# A run


def train(folder, root, resume=False, **keys):
    """Results of a run that freezes and unfreezes layers, its final weights, and what compiled."""
    frozen = {"MODEL__FREEZE_LAYERS": ["backbone", "b1"], "SOLVER__FREEZE_ITERS": 4}
    cfg = tiny_cfg(folder, root, **frozen, **{"TEST__EVAL_PERIOD": 1} | keys)
    with stand_in() as compiled:
        results = run.train(cfg, resume=resume)
    return results, checkpoint.read(folder / "model_final.pth")["model"], compiled


def test_a_compiled_run_is_a_run_and_resumes(tmp_path, herd_root):
    folder, keys = tmp_path / "ours", {"SOLVER__COMPILE": True, "SOLVER__CHECKPOINT_PERIOD": 1}
    ours, weights, compiled = train(folder, herd_root, **keys)
    plain, expected, nothing = train(tmp_path / "plain", herd_root)
    assert not nothing
    assert len(compiled) == 2  # once while layers are frozen, once after; evaluations are not
    assert list(weights) == list(expected)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    path = str(folder / "model_final.pth")
    again = tiny_cfg(tmp_path / "again", herd_root, MODEL__WEIGHTS=path, SOLVER__COMPILE=True)
    with stand_in() as compiled:
        assert run.evaluate_only(again)[HERD].as_dict() == ours[HERD].as_dict()
    assert not compiled
    for name in ("model_0001.pth", "model_final.pth"):
        (folder / name).unlink()
    (folder / "last_checkpoint").write_text("model_0000.pth")
    _, weights, _ = train(folder, herd_root, resume=True, **keys)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_failing_compiler_is_one_error_that_names_the_key(tmp_path, herd_root):
    def broken(graph, inputs):
        raise RuntimeError("no compiler today\n\nand much advice")

    cfg = tiny_cfg(tmp_path, herd_root, SOLVER__COMPILE=True)
    with stand_in(broken), pytest.raises(CompileError) as caught:
        run.train(cfg)
    message = str(caught.value)
    assert message.startswith("SOLVER.COMPILE is True, but torch.compile fails on this model here:")
    assert "no compiler today" in message and "advice" not in message
    assert "C++ compiler such as g++" in message and message.endswith("set SOLVER.COMPILE False")
    assert not list(tmp_path.glob("model_*"))


# The real compiler


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="needs a C++ compiler")
@pytest.mark.parametrize("kind", ["float64", "float32", "bfloat16"])
def test_compiled_blocks_compute_what_is_written(kind):
    cfg = load(DEMO)
    torch.manual_seed(0)
    model = build_model(cfg, 4).to(memory_format=torch.channels_last).train()
    if kind == "float64":
        model.double()
    written = copy.deepcopy(model)
    compile_blocks(model)
    images = torch.randint(0, 256, (8, 3, 48, 64), dtype=torch.uint8)
    targets = torch.arange(8) // 2
    outcomes = []
    for one in (model, written):
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16"):
            output = one(images, targets)
        loss = sum(build_losses(cfg)(output, targets).values())
        loss.backward()
        outcomes.append((loss.detach(), torch.cat([p.grad.flatten() for p in learning(one)])))
    (loss, gradient), (expected, written_gradient) = outcomes
    tolerance = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 1e-2}[kind]
    torch.testing.assert_close(loss, expected, rtol=tolerance, atol=0)
    # Rounding that flips a ReLU or another hardest pair is amplified in gradients, not in float64.
    if kind == "float64":
        assert (gradient - written_gradient).norm() < 1e-10 * written_gradient.norm()


def learning(model):
    return [parameter for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.slow
def test_a_missing_compiler_is_told(monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", (None, "/nowhere/g++"))
    model = nn.Sequential(BasicBlock(4, 4))
    compile_blocks(model)
    with pytest.raises(CompileError, match="No working C\\+\\+ compiler"), naming_the_key():
        model(torch.randn(2, 4, 3, 3))
