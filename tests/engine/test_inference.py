"""TEST.DTYPE and TEST.FOLD_NORMS: what an evaluation computes with, and what it refuses."""

import numpy as np
import pytest
import torch

from openanimals.config import ConfigError
from openanimals.data.build import load_sets
from openanimals.engine import device
from openanimals.engine import evaluate as testing
from openanimals.engine import train as run
from openanimals.engine.device import DeviceError
from openanimals.evaluation import extract_features
from openanimals.modeling import build_model
from tests.engine.tiny_run import tiny_cfg

CPU = torch.device("cpu")


@pytest.fixture
def features(tmp_path, herd_root, monkeypatch):
    """Features of the test images, as an evaluation with some keys extracts them."""

    def extract(**keys) -> np.ndarray:
        cfg = tiny_cfg(tmp_path, herd_root, **keys)
        torch.manual_seed(0)
        model = build_model(cfg, 0)
        for name, value in model.named_buffers():
            if name.endswith("running_var"):
                value.fill_(4.0)
        found = []

        def note(*arguments, **options):
            found.append(extract_features(*arguments, **options))
            return found[-1]

        monkeypatch.setattr(testing, "extract_features", note)
        testing.test(cfg, model, load_sets(cfg, train=False).tests, CPU)
        return np.concatenate(found)

    return extract


@pytest.mark.parametrize(
    ("keys", "tolerance"),
    [({"TEST__FOLD_NORMS": True}, 1e-5), ({"TEST__DTYPE": "bfloat16"}, 2e-2)],
)
def test_features_differ_by_rounding(features, keys, tolerance):
    plain, other = features(), features(**keys)
    assert other.dtype == np.float32
    error = abs(other - plain).max() / abs(plain).max()
    assert 0 < error < tolerance


@pytest.mark.parametrize("start", [run.train, run.evaluate_only])
def test_what_the_device_has_not_is_refused_at_once(start, tmp_path, herd_root):
    keys = {"TEST__DTYPE": "float16", "MODEL__BACKBONE__PRETRAIN": True}
    with pytest.raises(
        ConfigError, match=r"TEST\.DTYPE is 'float16'.*on cpu; it can be float32 or b"
    ):
        start(tiny_cfg(tmp_path, herd_root, **keys))


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_types_by_device(dtype, kind, tmp_path, herd_root):
    cfg = tiny_cfg(tmp_path, herd_root, TEST__DTYPE=dtype)
    honoured = {"cpu": ("float32", "bfloat16"), "mps": ("float32",)}
    if dtype in honoured.get(kind, (dtype,)):
        found = device.evaluation_dtype(cfg, torch.device(kind))
        assert found == (None if dtype == "float32" else getattr(torch, dtype))
    else:
        with pytest.raises(DeviceError, match="TEST.DTYPE"):
            device.evaluation_dtype(cfg, torch.device(kind))
