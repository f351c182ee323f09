"""Whole models against what the release computed with the same weights and images."""

import hashlib
import json
import math
from functools import partial

import numpy as np
import pytest
import torch

from openanimals.modeling import Losses, LossTerm, losses
from tests.modeling import released
from tests.reference import load_arrays, load_json
from tests.reference.fill_rule import make_images

IMAGES = {
    "eval96": partial(make_images, 8, 96, 96, 0),
    "eval128": partial(make_images, 2, 128, 128, 1),
    "eval128x64": partial(make_images, 2, 128, 64, 2),
}


@pytest.mark.parametrize("rule", ["unit", "brief"])
@pytest.mark.parametrize("name", released.RECORDED)
@torch.no_grad()
def test_features(name, rule):
    model = released.build(name, rule).eval()
    recorded = load_arrays("model_features.npz")
    cases = [key for key in recorded if key.startswith(f"{name}__{rule}__")]
    cases = [key.removesuffix("__some") for key in cases if key.endswith("__some")]
    assert cases
    for case in sorted(cases):  # float32 before float64
        size, dtype = case.split("__")[2].split("_")
        images = torch.from_numpy(IMAGES[size]()[:2])
        if dtype == "f64":
            model.double()
        features = model(images).numpy()
        count = features.shape[1]
        axes = np.random.default_rng(3).standard_normal((count, 16))
        tolerance = 1e-9 if dtype == "f64" else 1e-5
        for given, kind in (
            (features[:, :: count // 64], "some"),
            (features.astype(np.float64) @ axes, "projected"),
        ):
            expected = recorded[f"{case}__{kind}"]
            error = abs(given - expected).max() / abs(expected).max()
            assert error < tolerance, f"{case} {kind}"


@pytest.mark.parametrize("name", released.RECORDED)
def test_training_step(name):
    recorded = load_json("model_train.json")[name]
    model = released.build(name, "brief").double().train()
    targets = torch.tensor([0, 0, 1, 1, 2, 2, 4, 4])
    output = model(torch.from_numpy(IMAGES["eval96"]()), targets)
    triplet = losses.triplet
    if name == "agw_r50":
        triplet = partial(losses.triplet, margin=0.0, hard_mining=False)
    terms = [
        LossTerm("loss_cls", "logits", partial(losses.cross_entropy, eps=0.1)),
        LossTerm("loss_triplet", "features", triplet),
    ]
    values = Losses(terms)(output, targets)
    for term, value in values.items():
        # The release logs each head's share, ours is their sum.
        expected = sum(v for k, v in recorded["losses"].items() if k.startswith(term))
        assert value.item() == pytest.approx(expected, rel=1e-9)

    sum(values.values()).backward()
    ours = {theirs: key for key, theirs in released.their_names(model).items()}
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    for key, norm in recorded["grad_norm"].items():
        assert parameters[ours[key]].grad.norm().item() == pytest.approx(norm, rel=1e-7), key
    for statistic in ("running_mean_l2", "running_var_l2"):
        for key, norm in recorded[statistic].items():
            assert buffers[ours[key]].norm().item() == pytest.approx(norm, rel=1e-9), key
    fixed = {ours[key] for key in recorded["requires_grad_false"]}
    assert fixed == {key for key, value in parameters.items() if not value.requires_grad}


@pytest.mark.parametrize("name", released.NAMES)
def test_state_dict_has_the_releases_entries(name):
    recorded = load_json("state_dict_keys.json")[name]
    with torch.device("meta"):
        model = released.empty(name)
    state = model.state_dict()
    entries = sorted([k, list(state[o].shape)] for o, k in released.their_names(model).items())
    assert len(entries) == recorded["keys"]
    assert hashlib.sha256(json.dumps(entries).encode()).hexdigest() == recorded["keys_sha256"]


@pytest.mark.parametrize(
    ("name", "classes", "millions"),
    [("arbase", 145, 67.02), ("arbase", 0, 64.64), ("bot_r50", 0, 23.51)],
)
def test_published_number_of_parameters(name, classes, millions):
    """ResNet-50 has 25.557 M, of which 2.049 M make torchvision's classifier; the neck 4096."""
    with torch.device("meta"):
        model = released.empty(name, classes)
    count = sum(math.prod(parameter.shape) for parameter in model.parameters())
    assert round(count / 1e6, 2) == millions
