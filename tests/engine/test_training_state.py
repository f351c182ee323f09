"""What a run goes on from: whole or refused, and taken up as it was."""

import copy

import pytest
import torch

from openanimals.data.build import load_sets
from openanimals.engine import checkpoint
from openanimals.engine.trainer import Trainer
from openanimals.utils.errors import UserError
from tests.engine.tiny_run import tiny_cfg


@pytest.mark.parametrize("opt", ["SGD", "Adam", "AdamW"])
def test_what_any_optimiser_keeps_is_accepted_and_kept(opt, tmp_path, herd_root):
    cfg = tiny_cfg(tmp_path, herd_root, SOLVER__OPT=opt)
    trainer = Trainer(cfg, load_sets(cfg).train, torch.device("cpu"))
    for parameter in [*trainer.model.parameters()][:3]:  # others never had a gradient
        parameter.grad = torch.ones_like(parameter)
    trainer.optimizer.step()
    before = copy.deepcopy(trainer.state())
    checkpoint.write(tmp_path / "a.pth", before)
    trainer.resume(checkpoint.read_training_state(tmp_path / "a.pth"))
    after = trainer.state()
    for key, value in before["model"].items():
        assert torch.equal(after["model"][key], value)
    assert after["optimizer"]["state"].keys() == before["optimizer"]["state"].keys()
    for number, kept in before["optimizer"]["state"].items():
        for name, value in kept.items():
            ours = after["optimizer"]["state"][number][name]
            assert ours is value is None or torch.equal(ours, value)
    for part in set(before) - {"model"}:
        less = {key: value for key, value in before.items() if key != part}
        checkpoint.write(tmp_path / "less.pth", less)
        with pytest.raises(UserError, match=f"missing in it: {part}|no training state"):
            checkpoint.read_training_state(tmp_path / "less.pth")
