"""Groups by hand, and whole trainings against what the release recorded."""

import pytest
import torch
from torch import nn

from openanimals.config import get_cfg, load
from openanimals.modeling import EmbeddingHead, Losses, LossTerm, build_losses, build_model
from openanimals.modeling.layers.norms import IBN, NORMS, make_norm
from openanimals.solver import (
    OPTIMIZER_REGISTRY,
    build_optimizer,
    build_schedule,
    clip_gradients,
)
from openanimals.utils.errors import UserError
from tests.conftest import REPOSITORY
from tests.modeling import released
from tests.reference import load_json
from tests.reference.fill_rule import fill_value, make_images

RECORDED = load_json("train_steps.json")


class Net(nn.Module):
    """One parameter of each kind."""

    def __init__(self):
        super().__init__()
        self.stem = nn.ModuleDict(
            {"conv": nn.Conv2d(3, 4, 1), "norm": nn.BatchNorm2d(4), "ln": nn.LayerNorm(4)}
        )
        self.heads = nn.ModuleDict({"neck": nn.BatchNorm1d(4), "linear": nn.Linear(4, 2)})
        self.heads["neck"].bias.requires_grad_(False)


def solver_cfg(**keys):
    cfg = get_cfg()
    cfg.merge_from_list([part for k, v in keys.items() for part in (f"SOLVER.{k}", v)])
    return cfg


def test_rates_and_decays_of_each_kind_of_parameter():
    cfg = solver_cfg(
        BASE_LR=1.0,
        BIAS_LR_FACTOR=2.0,
        HEADS_LR_FACTOR=10.0,
        WEIGHT_DECAY=0.1,
        WEIGHT_DECAY_NORM=0.2,
        WEIGHT_DECAY_BIAS=0.3,
    )
    net = Net()
    optimizer = build_optimizer(cfg, net)
    names = {parameter: name for name, parameter in net.named_parameters()}
    found = {
        names[parameter]: (group["initial_lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert found == {
        "stem.conv.weight": (1, 0.1),
        "stem.conv.bias": (2, 0.3),
        "stem.norm.weight": (1, 0.2),
        "stem.norm.bias": (2, 0.3),
        "stem.ln.weight": (1, 0.2),
        "stem.ln.bias": (2, 0.3),
        "heads.neck.weight": (10, 0.2),
        "heads.linear.weight": (10, 0.1),
        "heads.linear.bias": (20, 0.3),
    }  # heads.neck.bias is never trained
    assert len(optimizer.param_groups) == len(set(found.values()))


@pytest.mark.parametrize("norm", [name for name in NORMS if name != "FrozenBN"])
def test_every_norm_decays_as_a_norm(norm):
    cfg = solver_cfg(WEIGHT_DECAY=0.1, WEIGHT_DECAY_NORM=0.2, WEIGHT_DECAY_BIAS=0.3)
    layers = nn.Sequential(make_norm(norm, 32), IBN(64, norm))
    groups = build_optimizer(cfg, layers).param_groups
    decays = {p: group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in layers.named_parameters():
        assert decays.pop(parameter) == (0.3 if name.endswith("bias") else 0.2), name
    assert not decays


def test_the_exponent_of_a_pool_is_trained_with_the_heads():
    heads = nn.ModuleDict({"heads": EmbeddingHead(8, 2, pool="GeneralizedMeanPoolingP")})
    groups = build_optimizer(solver_cfg(BASE_LR=1.0, HEADS_LR_FACTOR=3.0), heads).param_groups
    assert any(heads["heads"].pool.p is p for group in groups for p in group["params"])
    assert {group["lr"] for group in groups} == {3.0}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("Adam", torch.optim.Adam), ("AdamW", torch.optim.AdamW), ("SGD", torch.optim.SGD)],
)
def test_kinds_of_optimizers(name, kind):
    optimizer = build_optimizer(solver_cfg(OPT=name), Net())
    assert type(optimizer) is kind
    assert len(optimizer.param_groups) == 1  # the defaults tell no parameters apart


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_steps_as_torchs_plain_one_with_weights_that_were_frozen_before(momentum):
    ours, theirs = (nn.ParameterList([torch.ones(3), torch.full((3,), 2.0)]) for _ in range(2))
    plain = torch.optim.SGD(theirs, lr=0.1, momentum=momentum, weight_decay=5e-4, fused=False)
    built = build_optimizer(solver_cfg(OPT="SGD", BASE_LR=0.1, MOMENTUM=momentum), ours)
    for learning in (1, 1, 2, 2):
        for weights, optimizer in ((ours, built), (theirs, plain)):
            for weight in weights[:learning]:
                weight.grad = weight.detach().square()
            optimizer.step()
    torch.testing.assert_close(list(ours), list(theirs))


def test_an_optimizer_of_ones_own(monkeypatch):
    monkeypatch.setattr(OPTIMIZER_REGISTRY, "_entries", dict(OPTIMIZER_REGISTRY._entries))

    @OPTIMIZER_REGISTRY.register("RMSprop")
    def rmsprop(groups, cfg):
        return torch.optim.RMSprop(groups, momentum=cfg.SOLVER.MOMENTUM)

    (group,) = build_optimizer(solver_cfg(OPT="RMSprop", BASE_LR=0.5), Net()).param_groups
    assert (group["momentum"], group["initial_lr"], group["weight_decay"]) == (0.9, 0.5, 5e-4)
    with pytest.raises(UserError, match=r"SOLVER\.OPT. 'RMSprob' .did you mean 'RMSprop'"):
        build_optimizer(solver_cfg(OPT="RMSprob"), Net())


def test_parameters_of_losses_come_last():
    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.proxies = nn.Parameter(torch.zeros(2))

    net, loss = Net(), Loss()
    losses = Losses([LossTerm("loss_proxies", "features", loss)])
    keys = {"BASE_LR": 1.0, "HEADS_LR_FACTOR": 10.0, "WEIGHT_DECAY": 0.1, "WEIGHT_DECAY_NORM": 0.2}
    plain, both = (
        build_optimizer(solver_cfg(**keys), net, *others).param_groups for others in ((), (losses,))
    )
    assert [g["lr"] for g in plain] == [g["lr"] for g in both]
    (taking,) = (g for g in both if g["params"][-1] is loss.proxies)
    assert (taking["lr"], taking["weight_decay"]) == (1.0, 0.1)
    taking["params"].pop()
    for ours, theirs in zip(both, plain, strict=True):
        assert [id(p) for p in ours["params"]] == [id(p) for p in theirs["params"]]


def test_clipping_takes_each_parameter_on_its_own():
    large, small, unused = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    large.grad, small.grad = torch.tensor([3.0, 4.0]), torch.tensor([0.3, 0.4])
    clip_gradients([large, small, unused], "norm", 1.0, 2.0)
    torch.testing.assert_close(large.grad, torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(small.grad, torch.tensor([0.3, 0.4]))
    clip_gradients([large, small, unused], "value", 0.35, 2.0)
    torch.testing.assert_close(large.grad, torch.tensor([0.35, 0.35]))
    torch.testing.assert_close(small.grad, torch.tensor([0.3, 0.35]))


@pytest.mark.parametrize("steps", [3, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("variant", RECORDED)
def test_follows_the_recorded_training(variant, steps):
    recorded = RECORDED[variant]
    steps = steps if variant != "adam_freeze7" else None  # its layers learn from the eighth on
    cfg = load(REPOSITORY / "configs/Base-bagtricks.yml", recorded["overrides"])
    schedule = build_schedule(cfg, iters_per_epoch=5)
    rates = [schedule.lr_at(i, cfg.SOLVER.BASE_LR) for i in range(schedule.max_iter)]
    assert rates == pytest.approx(recorded["lr"], rel=1e-12)

    model = _recorded_model(cfg)
    optimizer, terms = build_optimizer(cfg, model), build_losses(cfg)
    groups = {(group["initial_lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert groups == {tuple(group) for group in recorded["groups"]}

    targets = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    losses = recorded["losses"][:steps]
    for iteration, expected in enumerate(losses):
        model.freeze(cfg.MODEL.FREEZE_LAYERS if iteration < cfg.SOLVER.FREEZE_ITERS else [])
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr_at(iteration, group["initial_lr"])
        images = torch.from_numpy(make_images(8, 64, 64, 1000 + iteration)).double()
        values = terms(model(images, targets), targets)
        assert [value.item() for value in values.values()] == pytest.approx(expected, rel=1e-9)
        if expected is losses[-1]:
            break  # what this step would do nobody sees
        optimizer.zero_grad()
        sum(values.values()).backward()
        clip = cfg.SOLVER.CLIP_GRADIENTS
        if clip.ENABLED:
            clip_gradients(model.parameters(), clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE)
        optimizer.step()


def _recorded_model(cfg):
    model = build_model(cfg, cfg.MODEL.HEADS.NUM_CLASSES)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    filled = {
        key: torch.from_numpy(fill_value(theirs, shapes[key], "unit"))
        for key, theirs in released.their_names(model).items()
    }
    model.load_state_dict(filled)
    return model.double().train()
