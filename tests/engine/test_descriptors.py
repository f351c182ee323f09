"""Frozen descriptors from the command line and from Python: weights of others, never trained."""

import json

import pytest
import torch
import torch.nn.functional as F

import openanimals
from openanimals import cli
from openanimals.config import load
from openanimals.data.build import load_sets
from openanimals.data.loaders import build_test_loader
from openanimals.engine.loading import load_weights
from openanimals.evaluation.results_io import load_evaluation
from openanimals.modeling import build_model
from openanimals.modeling.weights import ArchitectureError
from tests.conftest import REPOSITORY
from tests.engine.tiny_run import HERD

timm = pytest.importorskip("timm")

DESCRIPTORS = REPOSITORY / "configs/Descriptors"


@torch.no_grad()
def test_a_frozen_descriptor_is_evaluated_without_training(tmp_path, herd_root, capsys):
    theirs = timm.create_model("test_vit", num_classes=0).eval()
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    files = [str(DESCRIPTORS / "megadescriptor-t-224.yml"), "species/demo.yml"]
    keys = {
        "MODEL.BACKBONE.NAME": "timm/test_vit",
        "MODEL.BACKBONE.FEAT_DIM": "64",
        "MODEL.BACKBONE.PRETRAIN_PATH": str(tmp_path / "pytorch_model.bin"),
        "MODEL.DEVICE": "cpu",
        "INPUT.SIZE_TRAIN": "[160, 160]",
        "INPUT.SIZE_TEST": "[160, 160]",
        "DATASETS.NAMES": HERD,
        "DATASETS.ROOT": str(herd_root),
        "DATALOADER.NUM_WORKERS": "0",
        "OUTPUT_DIR": str(tmp_path / "out"),
    }
    pairs = [part for pair in keys.items() for part in pair]
    configs = [part for file in files for part in ("--config-file", file)]
    assert cli.main(["train", *configs, "--eval-only", *pairs]) == 0

    cfg = load(files, pairs)
    (test,) = load_sets(cfg, train=False).tests
    mean, std = torch.tensor([cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD])[:, :, None, None]
    batches = [batch.images for batch in build_test_loader(cfg, test.query)]
    expected = theirs((torch.cat(batches) - mean) / std)
    saved = load_evaluation(tmp_path / "out", HERD)[0]
    torch.testing.assert_close(torch.from_numpy(saved.features), expected, rtol=1e-4, atol=1e-5)

    results = json.loads((tmp_path / "out/results.json").read_text())[HERD]
    assert results["queries"] == len(test.query)
    assert results["caveat"] == "MegaDescriptor was trained on images of these individuals"
    assert results["caveat"] in capsys.readouterr().out


LITE = ["MODEL.BACKBONE.NAME", "timm/tf_efficientnet_lite0", "MODEL.BACKBONE.FEAT_DIM", 1280]
LITE += ["INPUT.SIZE_TRAIN", [64, 64], "INPUT.SIZE_TEST", [64, 64]]


@pytest.fixture(scope="module")
def miewid():
    """A network like MiewID's, but of a small EfficientNet, and its weights under its names."""
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    state = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    state["pooling.p"] = torch.tensor([2.5])
    state["bn.num_batches_tracked"] = torch.tensor(7)
    for name in ("weight", "bias", "running_mean", "running_var"):
        state[f"bn.{name}"] = 0.5 + torch.rand(1280)
    state["final.weight"] = torch.rand(5, 1280)
    return network, state


@torch.no_grad()
def test_miewids_weights_give_miewids_feature(miewid, tmp_path):
    network, state = miewid
    path = tmp_path / "model.safetensors"
    pytest.importorskip("safetensors.torch").save_file(state, path)
    cfg = load(DESCRIPTORS / "miewid-msv3.yml", LITE)
    (tmp_path / "lite.yml").write_text(cfg.dump())
    model = openanimals.load_model(tmp_path / "lite.yml", weights=path)

    images = torch.randint(0, 256, (2, 3, 64, 64)).float()
    mean, std = torch.tensor([cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD])[:, :, None, None]
    feature_map = network.forward_features((images - mean) / std).clamp(min=1e-6)
    pooled = (feature_map**2.5).mean((2, 3)) ** (1 / 2.5)
    norm = [state[f"bn.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    torch.testing.assert_close(model(images), F.batch_norm(pooled, *norm), rtol=1e-4, atol=1e-5)


def test_miewids_weights_must_fit(miewid, tmp_path):
    state = {**miewid[1], "extra.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "more.bin")
    cfg = load(DESCRIPTORS / "miewid-msv3.yml", LITE)
    with pytest.raises(ArchitectureError, match=r"1 not expected: extra\.weight"):
        load_weights(cfg, build_model(cfg, 0), tmp_path / "more.bin")
