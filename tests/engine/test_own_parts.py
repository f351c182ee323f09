"""A loss that learns, beside the model: how they start, and its gradients in two processes."""

import pytest
import torch

from openanimals.data.build import load_sets
from openanimals.engine import checkpoint
from openanimals.engine.trainer import Trainer
from tests.engine import own_parts  # noqa: F401
from tests.engine.test_step import PLAIN
from tests.engine.tiny_run import command, tiny_cfg
from tests.processes import environments, run, run_together

pytestmark = pytest.mark.cli

LOSSES = {"MODEL__LOSSES__NAME": ("CrossEntropyLoss", "Proxies")}


def test_they_change_nothing_of_how_the_model_starts(tmp_path, herd_root):
    cfg = tiny_cfg(tmp_path, herd_root)
    other = tiny_cfg(tmp_path, herd_root, **LOSSES)
    train_set, device = load_sets(cfg).train, torch.device("cpu")
    ours, theirs = (Trainer(each, train_set, device).model.state_dict() for each in (cfg, other))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_processes_share_the_gradients_of_a_loss(tmp_path, herd_root):
    keys = {
        **LOSSES,
        **PLAIN,
        "IMPORTS": ["tests.tiny", "tests.engine.own_parts"],
        "SOLVER__ACCUMULATE": 2,
        "SOLVER__MAX_EPOCH": 1,
        "INPUT__FLIP__ENABLED": False,
        "INPUT__PADDING__ENABLED": False,
        "MODEL__HEADS__WITH_BNNECK": False,
        "MODEL__FREEZE_LAYERS": ["backbone", "b1", "b2", "b3"],  # no statistics of a batch
        "SOLVER__FREEZE_ITERS": 99,
    }
    alone = run(command(tmp_path / "one", herd_root, **keys))
    together = run_together(command(tmp_path / "two", herd_root, **keys), environments(2))
    assert [process.returncode for process in (alone, *together)] == [0, 0, 0], together[0].stderr
    one, two = (checkpoint.read(tmp_path / name / "model_final.pth") for name in ("one", "two"))
    for part in ("model", "losses"):
        torch.testing.assert_close(two[part], one[part], rtol=1e-4, atol=1e-6)
