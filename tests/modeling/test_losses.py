"""Losses against recorded values and against loops."""

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from openanimals.modeling import Losses, LossTerm, ModelOutput, build_losses, losses
from openanimals.modeling.layers.margins import CLASSIFIER_REGISTRY
from tests.reference import load_arrays

RECORDED = load_arrays("losses.npz")
CASES = sorted(key for key in RECORDED if re.match(r"(pk|odd)__f64__.*__loss", key))


def loss_of(name: str, inputs: dict[str, torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
    """The loss that a recorded name stands for."""
    if match := re.fullmatch(r"ce_eps(.*)_alpha(.*)", name):
        return losses.cross_entropy(inputs["logits"], targets, float(match[1]), float(match[2]))
    if match := re.fullmatch(r"triplet_hard(.)_m(.*)_norm(.)", name):
        margin, norm, hard = float(match[2]), match[3] == "1", match[1] == "1"
        return losses.triplet(inputs["emb"], targets, margin, norm, hard)
    if match := re.fullmatch(r"(circle|cosface)_m(.*)_g(.*)", name):
        function = getattr(losses, match[1])
        return function(inputs["emb"], targets, float(match[2]), float(match[3]))
    if match := re.fullmatch(r"focal_a(.*)_g(.*)", name):
        return losses.focal(inputs["logits"], targets, float(match[1]), float(match[2]))
    classifier, scale, margin = re.fullmatch(r"(\w+)_s(.*)_m(.*)", name).groups()
    features, weight = inputs["emb"], inputs["weight"]
    if classifier != "Linear":
        features, weight = F.normalize(features), F.normalize(weight)
    logits = CLASSIFIER_REGISTRY.get(classifier)(
        features @ weight.T, targets, float(scale), float(margin)
    )
    return losses.cross_entropy(logits, targets, 0.1)


@pytest.mark.parametrize("case", CASES)
def test_recorded_loss_and_gradients(case):
    labels, _, name, _ = case.split("__")
    inputs = {
        key: torch.tensor(RECORDED[f"{labels}__{key}"]).requires_grad_()
        for key in ("emb", "logits", "weight")
    }
    loss = loss_of(name, inputs, torch.tensor(RECORDED[f"{labels}__labels"]))
    np.testing.assert_allclose(loss.item(), RECORDED[case], rtol=1e-9)
    loss.backward()
    gradients = {key: RECORDED.get(case.replace("__loss", f"__grad_{key}")) for key in inputs}
    assert any(gradient is not None for gradient in gradients.values())
    for key, gradient in gradients.items():
        if gradient is not None:
            size = abs(gradient).max()
            np.testing.assert_allclose(inputs[key].grad, gradient, rtol=1e-9, atol=1e-12 * size)


def test_cross_entropy_is_the_mean_over_rows_that_are_not_zero():
    logits = torch.tensor(RECORDED["nonzero__logits"], requires_grad=True)
    loss = losses.cross_entropy(logits, torch.tensor(RECORDED["nonzero__labels"]))
    loss.backward()
    np.testing.assert_allclose(loss.item(), RECORDED["nonzero__ce_eps0__loss"], rtol=1e-6)
    np.testing.assert_allclose(logits.grad, RECORDED["nonzero__ce_eps0__grad_logits"], rtol=1e-6)


def test_smoothing_is_torchs_with_another_epsilon():
    logits = torch.randn(6, 5, dtype=torch.float64)
    targets = torch.arange(6) % 5
    theirs = F.cross_entropy(logits, targets, label_smoothing=0.1 * 5 / 4)
    torch.testing.assert_close(losses.cross_entropy(logits, targets, 0.1), theirs)


@pytest.mark.parametrize("margin", [0.3, 0.0])
def test_batch_hard_triplet_is_this_loop(margin):
    features = torch.randn(12, 4, dtype=torch.float64)
    labels = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 4]
    rows = []
    for anchor, label in zip(features, labels, strict=True):
        distances = [math.dist(anchor, other) for other in features]
        pairs = list(zip(distances, labels, strict=True))
        gap = max(d for d, x in pairs if x == label) - min(d for d, x in pairs if x != label)
        rows.append(max(0.0, gap + margin) if margin else math.log1p(math.exp(gap)))
    loss = losses.triplet(features, torch.tensor(labels), margin)
    # The released distance of a row to itself is not 0 but sqrt(1e-12).
    assert loss.item() == pytest.approx(sum(rows) / len(rows), abs=1e-6)


def test_focal_loss_weighs_rows_by_their_doubt():
    logits = torch.randn(6, 5, dtype=torch.float64)
    rows = []
    for row, target in zip(logits.softmax(1).tolist(), [0, 1, 2, 3, 4, 0], strict=True):
        rows.append(-0.5 * (1 - row[target]) ** 3 * math.log(row[target]))
    targets = torch.tensor([0, 1, 2, 3, 4, 0])
    loss = losses.focal(logits, targets, alpha=0.5, gamma=3)
    assert loss.item() == pytest.approx(sum(rows) / 6)
    plain = losses.focal(logits, targets, alpha=1.0, gamma=0.0)
    torch.testing.assert_close(plain, F.cross_entropy(logits, targets))


def test_soft_margin_that_overflows_becomes_a_margin():
    features = torch.tensor(RECORDED["inf_fallback__emb"], requires_grad=True)
    loss = losses.triplet(features, torch.tensor(RECORDED["inf_fallback__labels"]), margin=0.0)
    loss.backward()
    assert loss.item() == pytest.approx(float(RECORDED["inf_fallback__loss"]), rel=1e-5)
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("margin", [0.3, 0.0])
def test_far_negatives_have_a_finite_gradient(margin):
    features = torch.zeros(4, 2)
    features[2:, 0] = 1000.0  # exp(1000) is infinite
    features[1::2, 1] = 1.0
    features.requires_grad_()
    losses.triplet(features, torch.tensor([0, 0, 1, 1]), margin, hard_mining=False).backward()
    assert features.grad.isfinite().all()


def test_equal_features_have_a_finite_gradient():
    features = torch.zeros(12, 16, dtype=torch.float64, requires_grad=True)
    loss = losses.triplet(features, torch.tensor(RECORDED["pk__labels"]))
    loss.backward()
    assert loss.item() == pytest.approx(float(RECORDED["zero_emb__triplet_hard_m0.3__loss"]))
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("margin", [0.3, 0.0])
def test_no_loss_waits_for_the_device(hard, margin):
    # The meta device has no values, so whatever asked for one would raise here.
    x, targets = torch.empty(8, 6, device="meta"), torch.empty(8, device="meta", dtype=torch.long)
    assert losses.triplet(x, targets, margin, hard_mining=hard).shape == ()
    assert losses.cross_entropy(x, targets, -1.0).shape == ()
    assert losses.circle(x, targets).shape == losses.cosface(x, targets).shape == ()
    assert losses.focal(x, targets).shape == ()


def test_a_term_is_a_scaled_mean_in_full_precision():
    x, y = torch.randn(4, 3), torch.randn(4, 3)
    targets = torch.tensor([0, 0, 1, 2])
    output = ModelOutput(features={"b1": x.bfloat16()}, logits={"b1": x, "b2": y})
    seen = []

    def square(values: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        seen.append((values @ values.T).dtype)
        return values.square().mean()

    terms = [LossTerm("loss_a", "logits", square, 2.0), LossTerm("loss_b", "features", square)]
    with torch.autocast("cpu", torch.bfloat16):
        values = Losses(terms)(output, targets)
    assert list(values) == ["loss_a", "loss_b"]
    torch.testing.assert_close(values["loss_a"], x.square().mean() + y.square().mean())
    assert set(seen) == {torch.float32}


def test_two_terms_of_one_name_are_refused(cfg):
    cfg.MODEL.LOSSES.NAME = ("TripletLoss", "TripletLoss")
    with pytest.raises(ValueError, match="two terms of one name: loss_triplet, loss_triplet"):
        build_losses(cfg)


def test_losses_of_a_config(cfg):
    cfg.MODEL.LOSSES.NAME = (
        *("CrossEntropyLoss", "TripletLoss", "CircleLoss", "Cosface", "FocalLoss"),
    )
    cfg.MODEL.LOSSES.CE.SCALE = 0.5
    terms = build_losses(cfg).terms
    names = [(term.name, term.on) for term in terms]
    assert names == [
        ("loss_cls", "logits"),
        ("loss_triplet", "features"),
        ("loss_circle", "features"),
        ("loss_cosface", "features"),
        ("loss_focal", "logits"),
    ]
    assert terms[0].scale == 0.5


def test_focal_loss_of_a_config(cfg):
    cfg.MODEL.LOSSES.NAME = ("FocalLoss",)
    cfg.MODEL.LOSSES.FL.ALPHA, cfg.MODEL.LOSSES.FL.GAMMA = 0.5, 1.0
    cfg.MODEL.LOSSES.FL.SCALE = 3.0
    (term,) = build_losses(cfg).terms
    logits = torch.tensor([[0.0, 0.0]])  # p = 1/2
    assert term.function(logits, torch.tensor([1])).item() == pytest.approx(0.25 * math.log(2))
    assert term.scale == 3.0
