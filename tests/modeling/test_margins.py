"""The margins of the classifiers against recorded values."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from openanimals.modeling.layers.margins import CLASSIFIER_REGISTRY
from tests.reference import load_arrays


@pytest.mark.parametrize("labels", ["pk", "odd"])
@pytest.mark.parametrize("name", list(CLASSIFIER_REGISTRY))
def test_margins(name, labels):
    recorded = load_arrays("losses.npz")
    features = torch.tensor(recorded[f"{labels}__emb"])
    weight = torch.tensor(recorded[f"{labels}__weight"])
    if name != "Linear":
        features, weight = F.normalize(features), F.normalize(weight)
    logits = features @ weight.T
    cases = [key for key in recorded if key.startswith(f"{labels}__f64__{name}_")]
    cases = [key for key in cases if "cls_outputs" in key]
    assert cases
    for case in cases:
        scale, margin = (float(part[1:]) for part in case.split("__")[2].split("_")[1:])
        targets = torch.tensor(recorded[f"{labels}__labels"])
        if case.endswith("neg1"):
            targets[::4] = -1
        given = CLASSIFIER_REGISTRY.get(name)(logits, targets, scale, margin)
        np.testing.assert_allclose(given, recorded[case], rtol=1e-9, atol=1e-12, err_msg=case)


def test_arc_has_a_gradient_at_the_ends():
    cosines = torch.tensor([[1.0, -1.0]], requires_grad=True)
    CLASSIFIER_REGISTRY.get("ArcSoftmax")(cosines, torch.tensor([0]), 64.0, 0.5).sum().backward()
    assert cosines.grad.isfinite().all()
