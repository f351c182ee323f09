"""CUDA graphs: where they are refused, that recording leaves no trace, that they hold (on CUDA)."""

import copy

import pytest
import torch

from openanimals.config import ConfigError
from openanimals.data.build import load_sets
from openanimals.engine import graphs
from openanimals.engine.trainer import Trainer
from openanimals.engine.writers import NoLogbook
from openanimals.modeling import build_model
from openanimals.utils import distributed
from tests.engine.tiny_run import tiny_cfg


def test_graphs_are_refused_where_they_cannot_be_had(tmp_path, herd_root, monkeypatch):
    cfg = tiny_cfg(tmp_path, herd_root, SOLVER__CUDA_GRAPHS=True)
    with pytest.raises(ValueError, match=r"SOLVER\.CUDA_GRAPHS is True, .* CUDA device, not cpu"):
        Trainer(cfg, load_sets(cfg).train, torch.device("cpu"))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(
        ValueError, match=r"SOLVER\.CUDA_GRAPHS is True, which works in one process"
    ):
        graphs.check(torch.device("cuda"))
    with pytest.raises(ConfigError, match=r"SOLVER\.ACCUMULATE \(2\) parts"):
        tiny_cfg(tmp_path, herd_root, SOLVER__CUDA_GRAPHS=True, SOLVER__ACCUMULATE=2)


def test_recording_moves_no_statistics(tmp_path, herd_root, monkeypatch):
    """A stand-in calls the model as often as PyTorch does before it records."""
    recordings = []

    def record(module, samples):
        recordings.append(samples)
        for _ in range(3):
            module(*samples)
        return module

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    model = build_model(tiny_cfg(tmp_path, herd_root), 4).train()
    plain = copy.deepcopy(model)
    replayed = graphs.Replayed(model)
    targets = torch.arange(12) // 3
    for number in range(2):
        images = torch.randint(0, 256, (12, 3, 48, 48), dtype=torch.uint8)
        ours, expected = replayed(images, targets), plain(images, targets)
        assert all(torch.equal(ours.logits[name], expected.logits[name]) for name in ours.logits)
        assert len(recordings) == 1, number
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("amp", [False, True])
def test_a_replayed_training_is_a_training(amp, tmp_path, herd_root):
    outcomes = []
    for replayed in (False, True):
        cfg = tiny_cfg(
            tmp_path,
            herd_root,
            MODEL__DEVICE="cuda",
            SOLVER__AMP__ENABLED=amp,
            SOLVER__CUDA_GRAPHS=replayed,
            MODEL__FREEZE_LAYERS=["b1"],
            SOLVER__FREEZE_ITERS=4,
        )
        trainer = Trainer(cfg, load_sets(cfg).train, torch.device("cuda"))
        trainer.run(NoLogbook())
        outcomes.append(trainer.model.state_dict())
    torch.testing.assert_close(*outcomes, rtol=1e-2 if amp else 1e-4, atol=1e-4)
