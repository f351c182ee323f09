"""Statistics against numpy over everything that a layer saw, and a training that is not touched."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from openanimals.config import ConfigError
from openanimals.data.build import load_sets
from openanimals.data.loaders import build_train_loader
from openanimals.engine import checkpoint
from openanimals.engine import train as run
from openanimals.engine.precise_bn import estimate, update_statistics
from openanimals.engine.trainer import Trainer
from openanimals.modeling.layers.norms import IBN, FrozenBN, GhostBN
from openanimals.utils import distributed
from tests.engine.tiny_run import tiny_cfg


class Net(nn.Module):
    """Norms of each kind; the last one is frozen."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3), IBN(8), GhostBN(8), FrozenBN(8), nn.GroupNorm(2, 8)),
            *(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8), nn.BatchNorm2d(8)),
        )
        self.frozen = self.layers[-1]

    def train(self, mode=True):
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, images, targets):
        assert len(images) == len(targets)
        return self.layers(images)


def statistics(model) -> dict[str, np.ndarray]:
    return {k: v.clone().numpy() for k, v in model.state_dict().items() if "running" in k}


@pytest.mark.parametrize("training", [True, False])
def test_statistics_are_those_of_all_batches_together(training):
    torch.manual_seed(0)
    model = Net().double().train(training)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.momentum = 0.3
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    images = torch.randn(5, 4, 3, 9, 7, dtype=torch.float64)
    images *= torch.arange(1, 6).view(5, 1, 1, 1, 1)  # batches differ from each other
    before, watched = copy.deepcopy(model.state_dict()), copy.deepcopy(model).train()
    seen: dict[str, list[np.ndarray]] = {}
    for name, module in watched.named_modules():
        module.register_forward_pre_hook(
            lambda _, x, name=name: seen.setdefault(name, []).append(x[0].detach().numpy().copy())
        )
    for batch in images:
        watched(batch, torch.zeros(4))

    targets = torch.zeros(4)
    assert estimate(model, [(batch, targets) for batch in images]) == 4

    measured = ["layers.1", "layers.4.BN", "layers.5", "layers.9"]
    after = model.state_dict()
    for name in measured:
        values = np.concatenate(seen[name])
        for key, expected in (
            ("running_mean", values.mean((0, 2, 3))),
            ("running_var", values.var((0, 2, 3))),
        ):
            np.testing.assert_allclose(after[f"{name}.{key}"], expected, rtol=1e-9, atol=1e-12)
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed == {f"{name}.running_{kind}" for name in measured for kind in ("mean", "var")}
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.3}
    assert model.training == training and not model.frozen.training
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_processes_pool_their_shares(monkeypatch):
    images, targets = torch.randn(6, 4, 3, 9, 7, dtype=torch.float64), torch.zeros(4)
    net = Net().double()
    models = [copy.deepcopy(net) for _ in range(3)]
    estimate(models[0], [(batch, targets) for batch in images])
    gathered: list = []
    monkeypatch.setattr(distributed, "gather", lambda own: gathered.append(own) or [*gathered])
    estimate(models[1], [(batch, targets) for batch in images[:3]])
    estimate(models[2], [(batch, targets) for batch in images[3:]])
    alone, together = statistics(models[0]), statistics(models[2])
    for key in alone:
        np.testing.assert_allclose(together[key], alone[key], rtol=1e-9, atol=1e-12)


def test_a_model_without_batch_norm_is_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8))
    assert estimate(model, [(torch.zeros(2, 3, 4, 4), torch.zeros(2))]) == 0


def test_batches_are_the_first_of_the_training(tmp_path, herd_root):
    keys = {"INPUT__FLIP__ENABLED": False, "INPUT__PADDING__ENABLED": False}
    cfg = tiny_cfg(tmp_path, herd_root, TEST__PRECISE_BN__NUM_ITER=3, **keys)
    sets = load_sets(cfg)
    trainer = Trainer(cfg, sets.train, torch.device("cpu"))
    trainer.iteration = 7
    update_statistics(trainer)
    batches = itertools.islice(build_train_loader(cfg, sets.train), 3)
    images = torch.cat([batch.images for batch in batches])
    model = trainer.model
    conv, norm, _ = model.stem
    values = conv((images - model.pixel_mean) / model.pixel_std).detach().numpy()
    np.testing.assert_allclose(norm.running_mean, values.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.running_var, values.var((0, 2, 3)), rtol=1e-4)
    update_statistics(trainer)  # the weights are the same, so nothing changes
    np.testing.assert_allclose(norm.running_var, values.var((0, 2, 3)), rtol=1e-4)


def test_training_goes_on_as_without(tmp_path, herd_root):
    models = []
    for name in ("with", "without"):
        keys = {"TEST__PRECISE_BN__ENABLED": name == "with", "TEST__PRECISE_BN__NUM_ITER": 2}
        cfg = tiny_cfg(tmp_path / name, herd_root, TEST__EVAL_PERIOD=1, **keys)
        run.train(cfg)
        models.append(checkpoint.read(tmp_path / name / "model_final.pth")["model"])
    precise, plain = models
    different = {key for key in plain if not torch.equal(plain[key], precise[key])}
    assert different == {key for key in plain if "running" in key}


def test_an_evaluation_alone_has_no_training_images(tmp_path, herd_root):
    cfg = tiny_cfg(tmp_path, herd_root, MODEL__WEIGHTS="model.pth", TEST__PRECISE_BN__ENABLED=True)
    with pytest.raises(ConfigError, match=r"TEST\.PRECISE_BN\.ENABLED is True.*set it to False"):
        run.evaluate_only(cfg)
