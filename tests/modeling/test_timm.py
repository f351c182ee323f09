"""timm's models: cut where they can be, whole where not."""

import pytest
import torch

from openanimals.modeling import EmbeddingHead, ReIDModel
from openanimals.modeling.backbones.timm import timm_backbone
from openanimals.modeling.weights import ArchitectureError, WeightsError

timm = pytest.importorskip("timm")


@pytest.mark.parametrize(
    ("name", "stem_ends", "tail_starts"),
    [
        ("resnet10t", "layer3.0.", "layer4.0."),
        ("resnet18", "layer3.0.", "layer3.1."),
        ("tf_efficientnet_lite0", "blocks.3.0.", "blocks.3.1."),
        ("mobilenetv3_small_050", "blocks.2.0.", "blocks.2.1."),
        ("convnext_atto", "stages.2.downsample.", "stages.2.blocks.0."),
    ],
)
@torch.no_grad()
def test_cut_network_is_the_same_network(name, stem_ends, tail_starts):
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=0).eval()
    torch.manual_seed(0)
    stem, tail, channels = timm_backbone(name, last_stride=2)
    assert stem.training and tail.training
    images = torch.randn(1, 3, 96, 64)
    feature_map = tail.eval()(stem.eval()(images))
    assert torch.equal(feature_map, theirs.forward_features(images))
    assert feature_map.shape[1] == channels
    assert list(stem.state_dict())[-1].startswith(stem_ends)
    assert next(iter(tail.state_dict())).startswith(tail_starts)
    keys = [*stem.state_dict(), *tail.state_dict()]
    assert keys == list(theirs.state_dict())[: len(keys)]  # what follows is timm's own head


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", (24, 16)),
        ("resnet10t", (24, 16)),  # average pool in the shortcut
        ("tf_efficientnet_lite0", (24, 16)),  # pads as TensorFlow does
        ("dla46_c", (24, 16)),  # a max pool
        ("convnext_atto", (23, 15)),  # a 2x2 convolution
    ],
)
@torch.no_grad()
def test_last_stride_1(name, size):
    stem, tail, _ = timm_backbone(name, last_stride=1)
    assert tail.eval()(stem.eval()(torch.randn(1, 3, 384, 256))).shape[2:] == size


@torch.no_grad()
def test_branches_of_an_efficientnet_train():
    backbone = timm_backbone("tf_efficientnet_lite0")
    model = ReIDModel(backbone, [[1], [1, 2]], lambda c: EmbeddingHead(c, 3))
    output = model(torch.randint(0, 256, (2, 3, 64, 64)), torch.tensor([0, 1]))
    assert list(output.logits) == ["b1", "b2", "b21", "b22"]


@torch.no_grad()
def test_transformer_is_one_branch_of_pooled_features():
    backbone = timm_backbone("vit_tiny_patch16_224", image_size=(64, 32))
    assert (backbone.channels, list(backbone.stem.parameters())) == (192, [])
    assert backbone.tail(torch.randn(2, 3, 64, 32)).shape == (2, 192, 1, 1)
    ReIDModel(backbone, [[1]], lambda c: EmbeddingHead(c, 3))
    with pytest.raises(ValueError, match="no stem that they could share"):
        ReIDModel(backbone, [[1], [1, 2]], lambda c: EmbeddingHead(c, 3))


def test_stride_that_cannot_be_taken_out():
    with pytest.raises(ValueError, match="LAST_STRIDE 1 is not possible with timm/resnetblur18"):
        timm_backbone("resnetblur18")


def test_the_meta_device_gives_the_same_entries():
    def shapes(backbone):
        return [
            {key: value.shape for key, value in part.state_dict().items()} for part in backbone[:2]
        ]

    with torch.device("meta"):
        empty = timm_backbone("mobilenetv3_small_050")
    assert all(p.is_meta for part in empty[:2] for p in part.parameters())
    assert shapes(empty) == shapes(timm_backbone("mobilenetv3_small_050"))


def test_building_draws_nothing_but_the_weights():
    torch.manual_seed(0)
    timm.create_model("mobilenetv3_small_050", num_classes=0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    timm_backbone("mobilenetv3_small_050")
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@torch.no_grad()
def test_weights_from_a_file(tmp_path, suffix):
    theirs = timm.create_model("mobilenetv3_small_050").eval()
    for parameter in theirs.parameters():
        if parameter.ndim == 4:  # half precision, as small downloads have it
            parameter.copy_(parameter.half().float())
    state = {k: v.half() if v.ndim == 4 else v for k, v in theirs.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(state, path)
    backbone = timm_backbone("mobilenetv3_small_050", last_stride=2, pretrained=True, weights=path)
    images = torch.randn(1, 3, 64, 64)
    feature_map = backbone.tail.eval()(backbone.stem.eval()(images))
    assert torch.equal(feature_map, theirs.forward_features(images))
    with pytest.raises(ArchitectureError, match="missing"):
        timm_backbone("resnet10t", pretrained=True, weights=path)


def test_failed_download_says_what_to_set(monkeypatch):
    create = timm.create_model

    def offline(name, pretrained, **options):
        if pretrained:
            raise OSError("no network")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    address = r"huggingface.co/timm/resnet10t\S* .the file model.safetensors"
    keys = "PRETRAIN_PATH.*PRETRAIN False"
    with pytest.raises(WeightsError, match=f"{address}.*refused.*{keys}"):
        timm_backbone("resnet10t", pretrained=True)


def test_unknown_model_names_the_closest():
    with pytest.raises(ValueError, match="no model 'resnet10' .did you mean 'resnet1"):
        timm_backbone("resnet10")
