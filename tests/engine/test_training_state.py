"""A damaged training state is one clear error; torch would crash on some, and go on with others."""

import copy

import pytest
import torch

from openanimals.data.build import load_sets
from openanimals.engine import checkpoint, training_state
from openanimals.engine.trainer import Trainer
from openanimals.engine.training_state import check_optimizer
from openanimals.utils.errors import UserError
from tests.engine.tiny_run import tiny_cfg


@pytest.fixture(scope="module")
def trainer(tmp_path_factory, herd_root):
    """After a step with made-up gradients."""
    cfg = tiny_cfg(tmp_path_factory.mktemp("run"), herd_root)
    trainer = Trainer(cfg, load_sets(cfg).train, torch.device("cpu"))
    for parameter in trainer.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    trainer.optimizer.step()
    trainer.iteration = 1
    return trainer


def resumed(trainer, state, path):
    checkpoint.write(path, state)
    trainer.resume(training_state.read(path))


PARTS = ("losses", "optimizer", "scaler", "iteration", "best_map", "identities", "config")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("value", [None, "text", 3.5, {"a": None}, [None], torch.zeros(2)])
def test_a_part_of_another_type(trainer, tmp_path, part, value):
    if (part, type(value)) in {("best_map", float), ("config", str)}:
        return
    with pytest.raises(UserError, match=r"damaged"):
        resumed(trainer, {**trainer.state(), part: value}, tmp_path / "a.pth")


@pytest.mark.parametrize("part", PARTS[1:])
def test_a_missing_part(trainer, tmp_path, part):
    state = trainer.state()
    del state[part]
    with pytest.raises(UserError, match=f"{part} .missing|no training state"):
        resumed(trainer, state, tmp_path / "a.pth")


def test_each_tensor_of_the_optimiser_is_compared(trainer):
    whole = trainer.optimizer.state_dict()
    for number in (0, len(whole["state"]) - 1):
        for name, value in whole["state"][number].items():
            others = [None, 1.0, value.long(), value.to_sparse(), value[None], torch.zeros(7, 7)]
            for other in others:
                kept = {**whole["state"], number: {**whole["state"][number], name: other}}
                with pytest.raises(UserError, match=f"{name} of weight {number} is "):
                    check_optimizer(trainer.optimizer, {**whole, "state": kept}, 1)
    first = whole["state"][0]
    for other in (None, {}, {0: None}, {0: {}}, {10**6: first}, {None: first}):
        with pytest.raises(UserError, match="optimiser state is damaged"):
            check_optimizer(trainer.optimizer, {**whole, "state": other}, 1)


@pytest.mark.parametrize("groups", [None, [], [None], [{"lr": 1}], {"params": [0]}])
def test_groups_of_the_optimiser(trainer, tmp_path, groups):
    state = trainer.state()
    with pytest.raises(UserError, match="optimiser"):
        resumed(
            trainer,
            {**state, "optimizer": {**state["optimizer"], "param_groups": groups}},
            tmp_path / "a.pth",
        )


@pytest.mark.parametrize("opt", ["SGD", "Adam", "AdamW"])
def test_what_any_optimiser_keeps_is_accepted_and_kept(opt, tmp_path, herd_root):
    cfg = tiny_cfg(tmp_path, herd_root, SOLVER__OPT=opt)
    trainer = Trainer(cfg, load_sets(cfg).train, torch.device("cpu"))
    for parameter in [*trainer.model.parameters()][:3]:  # others never had a gradient
        parameter.grad = torch.ones_like(parameter)
    trainer.optimizer.step()
    before = copy.deepcopy(trainer.state())
    resumed(trainer, before, tmp_path / "a.pth")
    after = trainer.state()
    for key, value in before["model"].items():
        assert torch.equal(after["model"][key], value)
    assert after["optimizer"]["state"].keys() == before["optimizer"]["state"].keys()
    for number, kept in before["optimizer"]["state"].items():
        for name, value in kept.items():
            ours = after["optimizer"]["state"][number][name]
            assert ours is value is None or torch.equal(ours, value)
