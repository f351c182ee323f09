"""Frozen descriptors: timm's own pooled features, and weights from files, hubs and folders."""

import json
import time

import pytest
import torch

from openanimals.config import load
from openanimals.modeling import build_model
from openanimals.modeling.backbones.timm import timm_backbone
from openanimals.modeling.weights import ArchitectureError, WeightsError
from tests.conftest import REPOSITORY

timm = pytest.importorskip("timm")

DESCRIPTORS = sorted((REPOSITORY / "configs/Descriptors").glob("*.yml"))


@pytest.mark.parametrize("path", DESCRIPTORS, ids=lambda p: p.stem)
def test_pixels_and_sizes_are_those_of_timms_registry(path):
    cfg = load(path)
    settings = timm.get_pretrained_cfg(cfg.MODEL.BACKBONE.NAME.removeprefix("timm/"))
    assert pytest.approx([255 * value for value in settings.mean]) == cfg.MODEL.PIXEL_MEAN
    assert pytest.approx([255 * value for value in settings.std]) == cfg.MODEL.PIXEL_STD
    assert cfg.INPUT.SIZE_TRAIN == cfg.INPUT.SIZE_TEST
    if path.stem != "miewid-msv3":  # which was trained on larger images than its backbone
        assert list(settings.input_size[1:]) == cfg.INPUT.SIZE_TEST
    trained_on_them = path.stem.startswith(("mega", "miewid"))
    assert ("trained on images of these individuals" in cfg.MODEL.CAVEAT) == trained_on_them


POOLED = ["test_vit", "test_vit2", "test_convnext", "test_efficientnet", "mobilenetv3_small_050"]


@pytest.mark.parametrize("name", POOLED)
@torch.no_grad()
def test_the_feature_is_timms_own(name, tmp_path):
    """Class tokens, means, norms and layers after them: whatever forward_head does."""
    theirs = timm.create_model(name).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.bin")  # its classifier among them
    theirs.reset_classifier(0)
    size = theirs.pretrained_cfg["input_size"][1:]
    keys = {
        "MODEL.BACKBONE.NAME": f"timm/{name}",
        "MODEL.BACKBONE.FEAT_DIM": theirs.head_hidden_size,
        "MODEL.BACKBONE.PRETRAIN_PATH": str(tmp_path / "weights.bin"),
        "INPUT.SIZE_TRAIN": size,
        "INPUT.SIZE_TEST": size,
    }
    cfg = load(DESCRIPTORS[0], [part for pair in keys.items() for part in pair])
    model = build_model(cfg, num_classes=0).eval()
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    mean, std = (
        torch.tensor(v)[:, None, None] for v in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
    )
    expected = theirs((images - mean) / std)
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-6)


def test_the_stride_of_a_pooled_network_stays():
    with pytest.raises(ValueError, match="LAST_STRIDE 1 is not possible with timm/test_convnext"):
        timm_backbone("test_convnext", pooled=True, image_size=(160, 160))


OPTIONS = {"last_stride": 2, "pooled": True}
SWIN = {"name": "swin_tiny_patch4_window7_224", **OPTIONS}


def same_weights(backbone, network) -> bool:
    state = backbone.tail.network.state_dict()
    return all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_names_of_older_releases_of_timm_are_understood(tmp_path):
    """MegaDescriptor's file may have Swin's downsampling at the end of a stage, and its masks."""
    theirs = timm.create_model(SWIN["name"], num_classes=0)
    old = {"layers.0.blocks.1.attn_mask": torch.zeros(64, 49, 49)}
    for key, value in theirs.state_dict().items():
        layer = key.split(".")[1] if ".downsample." in key else ""
        old[key.replace(f"layers.{layer}.", f"layers.{int(layer) - 1}.") if layer else key] = value
    torch.save(old, tmp_path / "old.pth")
    ours = timm_backbone(**SWIN, pretrained=True, weights=tmp_path / "old.pth")
    assert same_weights(ours, theirs)
    del old["norm.weight"]
    torch.save(old, tmp_path / "other.pth")
    with pytest.raises(ArchitectureError, match=r"other\.pth.*missing: .*norm\.weight"):
        timm_backbone(**SWIN, pretrained=True, weights=tmp_path / "other.pth")


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_path_may_name_a_model_of_the_hub(tmp_path, monkeypatch, file):
    theirs = timm.create_model("test_vit", num_classes=0)
    if file == "model.safetensors":
        pytest.importorskip("safetensors.torch").save_file(theirs.state_dict(), tmp_path / file)
    else:
        torch.save(theirs.state_dict(), tmp_path / file)
    asked = []

    def download(repository, name, revision):
        asked.append((repository, revision))
        if name != file:
            raise FileNotFoundError(name)
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    options = {"last_stride": 2, "pooled": True, "pretrained": True, "image_size": (160, 160)}
    backbone = timm_backbone("test_vit", **options, weights="hf-hub:owner/model@v1")
    assert same_weights(backbone, theirs) and set(asked) == {("owner/model", "v1")}


@pytest.fixture
def without_network(monkeypatch, tmp_path):
    """A hub that does not answer; what it would keep here is in a folder, which is returned."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("swin_tiny_patch4_window7_224", "hf-hub:BVRA/gone", "PRETRAIN_PATH to a copy"),
        ("swin_tiny_patch4_window7_224", None, "PRETRAIN_PATH to a copy"),
        ("hf-hub:owner/gone", None, "timm/<its architecture>"),
    ],
)
def test_without_a_network_one_attempt_is_made(name, weights, message, without_network):
    began = time.monotonic()
    with pytest.raises(WeightsError, match=rf"huggingface\.co/.*refused.*{message}"):
        timm_backbone(name, **OPTIONS, pretrained=True, weights=weights)
    assert time.monotonic() - began < 8  # the first of the hub's own retries ends after 24 s


def test_without_a_network_what_is_kept_is_found(without_network):
    theirs, commit = timm.create_model("test_vit", num_classes=0), "0" * 40
    repository = without_network / "models--owner--model"
    for folder in ("refs", f"snapshots/{commit}"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs/main").write_text(commit)
    kept = repository / f"snapshots/{commit}/model.safetensors"
    pytest.importorskip("safetensors.torch").save_file(theirs.state_dict(), kept)
    options = {**OPTIONS, "image_size": (160, 160)}
    ours = timm_backbone("test_vit", **options, pretrained=True, weights="hf-hub:owner/model")
    assert same_weights(ours, theirs)


def test_a_model_of_the_hub_in_a_folder(tmp_path):
    theirs = timm.create_model("test_vit", num_classes=0)
    pytest.importorskip("safetensors.torch").save_file(
        theirs.state_dict(), tmp_path / "model.safetensors"
    )
    images = {"input_size": [3, 160, 160], "fixed_input_size": True}
    settings = {"architecture": "test_vit", "num_classes": 0, "pretrained_cfg": images}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    name = f"local-dir:{tmp_path}"
    backbone = timm_backbone(name, last_stride=2, image_size=(160, 160), pretrained=True)
    assert same_weights(backbone, theirs)
    with pytest.raises(WeightsError, match="must hold config.json"):
        timm_backbone(f"local-dir:{tmp_path / 'gone'}")
