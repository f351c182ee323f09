"""The public API, and weights from files: ours, FastReID's, those of other models, and bad ones."""

import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import openanimals
from openanimals import cli
from openanimals.config import load, load_text
from openanimals.engine import checkpoint
from openanimals.engine import train as run
from openanimals.engine.loading import load_weights
from openanimals.modeling import build_model
from openanimals.modeling.backbones.resnet import resnet
from openanimals.modeling.weights import read_state_dict
from tests.engine.tiny_run import HERD, tiny_cfg
from tests.modeling import released
from tests.reference import load_arrays
from tests.reference.fill_rule import make_images


def write_yaml(path, name, **changes):
    """The YAML file of one of the recorded models, for small images; a dot is written ``__``."""
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    path.write_text(released.yaml({**released.CONFIGS[name], **released.SIZES, **keys}))
    return path


@pytest.fixture
def files(tmp_path):
    """Return the YAML and the checkpoint of a recorded model, as FastReID would leave them."""

    def make(name, parallel=False):
        state = released.state(name)
        if parallel:
            state = {f"module.{key}": value for key, value in state.items()}
        torch.save({"model": state, "epoch": 3}, tmp_path / f"{name}.pth")
        return write_yaml(tmp_path / f"{name}.yml", name), tmp_path / f"{name}.pth"

    return make


def loaded_from(model):
    """Of each weight of a model whose tensors each hold one number: the number."""
    state = model.state_dict()
    assert all(value.min() == value.max() for value in state.values())
    return {key: int(value.max()) for key, value in state.items()}


def expected(model):
    """The number that FastReID's tensor of that name holds, for each weight of a model."""
    return {key: released.mark(theirs) for key, theirs in released.their_names(model).items()}


@pytest.fixture
def undrawn(monkeypatch):
    """Draw no random weights, which takes most of the time, where all are replaced."""
    for name in ("kaiming_normal_", "kaiming_uniform_", "normal_", "uniform_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)


# Models of FastReID and of the release


@pytest.mark.parametrize("name", released.NAMES)
def test_every_recorded_model_is_loaded_whole(files, name, caplog, undrawn):
    caplog.set_level(logging.INFO)
    yaml, weights = files(name, parallel=name == "r18_se")
    model = openanimals.load_model(yaml, weights=weights)
    assert loaded_from(model) == expected(model)
    heads = len(model.heads)
    count = len(released.shapes(name))
    assert f"{weights}: {count} weights under FastReID's names, renamed: " in caplog.text
    assert f"{heads} of the classifiers (5 identities)" in caplog.text
    assert f"{count - heads} of the model's {count - heads} weights loaded" in caplog.text


@pytest.mark.parametrize("name", released.RECORDED)
@torch.no_grad()
def test_recorded_features(tmp_path, name, undrawn):
    torch.save({"model": released.filled(name)}, tmp_path / "weights.pth")
    model = openanimals.load_model(write_yaml(tmp_path / "m.yml", name), tmp_path / "weights.pth")
    images = torch.from_numpy(make_images(2, 128, 128, 1))
    for batch in (images, images.to(torch.uint8)):
        features = model(batch).numpy()
        recorded = load_arrays("model_features.npz")[f"{name}__unit__eval128_f32__some"]
        found = features[:, :: features.shape[1] // 64]
        assert abs(found - recorded).max() < 1e-5 * abs(recorded).max()


def test_the_weights_alone_tell_the_architecture(files, caplog, undrawn):
    _, weights = files("mgn_r50_ibn")
    model = openanimals.load_model(weights)
    assert loaded_from(model) == expected(model)
    assert "MODEL.BACKBONE.WITH_IBN True" in caplog.text
    assert (
        "so it is assumed: MODEL.BACKBONE.LAST_STRIDE 1, MODEL.HEADS.STRIPES rows, "
        "MODEL.PIXEL_MEAN" in caplog.text
    )


def test_training_starts_from_fastreids_weights_without_their_classifier(files):
    yaml, weights = files("r18_se")
    cfg = load(yaml)
    model = build_model(cfg, num_classes=5)
    drawn = model.heads["b1"].classifier.weight.clone()
    load_weights(cfg, model, weights, ["a", "b", "c", "d", "e"])
    assert torch.equal(model.heads["b1"].classifier.weight, drawn)
    found, theirs = model.state_dict(), expected(model)
    assert all((found[key] == theirs[key]).all() for key in theirs if "classifier" not in key)


def test_evaluating_fastreids_weights(files, tmp_path, herd_root):
    yaml, weights = files("r18_se")
    torch.save({"model": released.filled("r18_se")}, weights)
    options = ["--eval-only", "--config-file", str(yaml), "MODEL.WEIGHTS", str(weights)]
    options += ["DATASETS.NAMES", f"('{HERD}',)", "DATASETS.ROOT", str(herd_root)]
    options += ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "INPUT.SIZE_TEST", "[48, 48]"]
    assert cli.main(["train", *options, "OUTPUT_DIR", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "results.json").is_file()
    assert "1 classifiers left out" in (tmp_path / "out" / "log.txt").read_text()


def test_older_files_of_fastreid_name_their_constants(files, tmp_path):
    yaml, weights = files("r18_se")
    content = torch.load(weights)
    content["model"] |= {
        "pixel_mean": torch.full((1, 3, 1, 1), 127.5),
        "pixel_std": torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1),
    }
    torch.save(content, weights)
    message = r"trained with MODEL.PIXEL_MEAN \"\[127.5, 127.5, 127.5\]\", and the configuration"
    with pytest.raises(ValueError, match=message):
        openanimals.load_model(yaml, weights)
    model = openanimals.load_model(weights)
    assert model.pixel_mean.flatten().tolist() == [127.5] * 3


# Sources of our own


@pytest.fixture(scope="module")
def finished(tmp_path_factory, herd_root):
    """The folder of a finished run with a checkpoint in between."""
    folder = tmp_path_factory.mktemp("run")
    keys = {"SOLVER__CHECKPOINT_PERIOD": 1, "IMPORTS": ["tests.tiny"], "SOLVER__MAX_EPOCH": 2}
    run.train(tiny_cfg(folder, herd_root, **keys))
    return folder


def same(model, path):
    state = checkpoint.read(path)["model"]
    found = model.state_dict()
    return all(torch.equal(value, state[key]) for key, value in found.items())


@torch.no_grad()
def test_checkpoint_of_ours(finished):
    model = openanimals.load_model(finished / "model_0000.pth")
    assert same(model, finished / "model_0000.pth")
    assert not same(model, finished / "model_final.pth")
    assert not model.training
    images = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    assert model(images).shape == (2, 8 * 8)
    other = openanimals.load_model(finished, weights=finished / "model_0000.pth")
    assert same(other, finished / "model_0000.pth")


def test_run_folder(finished, tmp_path):
    assert same(openanimals.load_model(str(finished)), finished / "model_final.pth")
    with pytest.raises(ValueError, match=r"is not the folder of a run: it has no model_\*\.pth"):
        openanimals.load_model(tmp_path)
    for name in ("model_best.pth", "model_0000.pth"):
        content = checkpoint.read(finished / "model_final.pth")
        content["model"]["stem.1.bias"] += len(name)  # so that each is another
        checkpoint.write(tmp_path / name, content)
        assert same(openanimals.load_model(tmp_path), tmp_path / name)


def test_yaml_files(tmp_path, herd_root, caplog):
    method = write_yaml(tmp_path / "method.yml", "r18_se")
    (tmp_path / "other.yml").write_text("MODEL: {HEADS: {EMBEDDING_DIM: 16}}\n")
    model = openanimals.load_model([method, tmp_path / "other.yml"])
    assert model(torch.zeros(1, 3, 80, 80)).shape == (1, 16)
    assert "the weights are random" in caplog.text
    pretrained = write_yaml(
        tmp_path / "pretrained.yml",
        "r34_ibn",
        MODEL__BACKBONE__PRETRAIN=True,
        MODEL__BACKBONE__PRETRAIN_PATH=tmp_path / "imagenet.pth",
    )
    with pytest.raises(ValueError, match=r"no file of weights .*imagenet\.pth"):
        openanimals.load_model(pretrained)
    source = resnet("34x", ibn=True)
    state = {**source.stem.state_dict(), **source.tail.state_dict()}
    torch.save(state, tmp_path / "imagenet.pth")
    model = openanimals.load_model(pretrained)
    assert torch.equal(model.stem.conv1.weight, source.stem.conv1.weight)


def test_the_home_may_be_written_short(tmp_path, herd_root, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    cfg = tiny_cfg("~/run", herd_root, SOLVER__MAX_EPOCH=1, IMPORTS=["tests.tiny"])
    run.train(cfg)
    folder, final = tmp_path / "home" / "run", "~/run/model_final.pth"
    run.evaluate_only(load_text(cfg.dump(), ["MODEL.WEIGHTS", final]))
    written = {path.name for path in folder.iterdir()}
    assert written >= {"model_final.pth", "config.yaml", "log.txt", "results.json", "split.json"}
    assert (folder / "eval_model_final" / "results.json").is_file()
    assert not list((tmp_path / "elsewhere").iterdir())
    assert same(openanimals.load_model("~/run/config.yaml", final), final)
    pretrained = ["MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.PRETRAIN_PATH", "~/r18.pth"]
    with pytest.raises(ValueError, match=f"no file of weights {tmp_path}/home/r18.pth"):
        build_model(load(None, [*pretrained, "MODEL.BACKBONE.DEPTH", "18x"]), 0)


@pytest.mark.parametrize("device", ["gpu", "cuda:x"])
def test_a_device_that_is_none(tmp_path, device):
    yaml = write_yaml(tmp_path / "m.yml", "r18_se")
    with pytest.raises(ValueError, match=f"DEVICE is '{device}'.*allowed: auto, cpu, cuda, cuda:<"):
        openanimals.load_model(yaml, device=device)


@pytest.mark.parametrize("source", [None, "", []])
def test_a_source_that_is_none(source):
    with pytest.raises(ValueError, match="name a YAML file, a checkpoint or the folder of a run"):
        openanimals.load_model(source)


@pytest.mark.parametrize("address", ["https://127.0.0.1:9/a.pth", "hf-hub:owner/model"])
@pytest.mark.parametrize("kind", [str, Path])
def test_an_address_is_to_be_downloaded_before(address, kind):
    for load_from in (openanimals.load_model, read_state_dict):
        with pytest.raises(
            ValueError, match=f"{address} is an address on the network, .* download"
        ):
            load_from(kind(address))


def test_weights_that_a_yaml_file_names(files, tmp_path):
    _, weights = files("r18_se")
    yaml = write_yaml(tmp_path / "named.yml", "r18_se", MODEL__WEIGHTS=weights)
    model = openanimals.load_model(yaml)
    assert loaded_from(model) == expected(model)


# Weights of another model


def test_weights_of_another_model_say_which_configuration_would_fit(files, tmp_path):
    _, weights = files("mgn_r50_ibn")
    yaml = write_yaml(tmp_path / "wrong.yml", "r18_se")
    with pytest.raises(ValueError) as error:
        openanimals.load_model(yaml, weights)
    message = str(error.value)
    assert message.startswith(f"{weights} holds the weights of another architecture; ")
    assert "not expected: stem.layer1.0.bn1.IN.weight" in message
    assert "stem.layer1.0.conv1.weight [64, 64, 1, 1] instead of [64, 64, 3, 3]" in message
    pairs = message.split("They fit a configuration with ")[1]
    assert pairs == (
        "MODEL.BACKBONE.DEPTH 50x MODEL.BACKBONE.FEAT_DIM 2048 MODEL.BACKBONE.WITH_IBN True "
        'MODEL.BACKBONE.WITH_SE False MODEL.HEADS.BRANCHES "[[1], [1, 2], [1, 3]]" '
        "MODEL.HEADS.EMBEDDING_DIM 256 MODEL.HEADS.POOL_LAYER GeneralizedMeanPoolingP"
    )


def test_weights_of_ours_say_which_configuration_would_fit(finished, tmp_path):
    content = checkpoint.read(finished / "model_final.pth")
    one_branch = load_text(content["config"], ["MODEL.HEADS.BRANCHES", [[1]]])
    with pytest.raises(ValueError, match=r"fit a .* MODEL.HEADS.BRANCHES \"\[\[1\], \[1, 2\], \["):
        load_weights(one_branch, build_model(one_branch, 0), finished / "model_final.pth")
    wide = load_text(content["config"])
    model = build_model(wide, 0)
    model.stem[0] = torch.nn.Conv2d(3, 9, 3)
    with pytest.raises(ValueError, match="Which configuration they fit cannot be told"):
        load_weights(wide, model, finished / "model_final.pth")


def test_weights_of_a_backbone_alone_say_where_they_belong(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1), "fc.weight": torch.zeros(1)}, tmp_path / "r.pth")
    yaml = write_yaml(tmp_path / "r.yml", "r18_se")
    with pytest.raises(ValueError, match=r"give them as MODEL\.BACKBONE\.PRETRAIN_PATH"):
        openanimals.load_model(yaml, tmp_path / "r.pth")
    with pytest.raises(ValueError, match=r"carries no configuration, and its weights do not tell"):
        openanimals.load_model(tmp_path / "r.pth")


def test_another_network_of_fastreid(tmp_path):
    state = {"backbone.cls_token": torch.zeros(1), "heads.weight": torch.zeros(2, 1)}
    torch.save({"model": state}, tmp_path / "vit.pth")
    with pytest.raises(ValueError, match=r"vit\.pth: 1 of 2 keys not understood: backbone\.cls_t"):
        openanimals.load_model(tmp_path / "vit.pth")


@pytest.mark.parametrize("head", ["heads.0.weight", "heads.head.weight", "heads.weight"])
def test_heads_of_another_package_tell_nothing(tmp_path, head):
    content = {"model": {head: torch.zeros(2)}, "config": {"depth": 3}}
    torch.save(content, tmp_path / "other.pth")
    yaml = write_yaml(tmp_path / "m.yml", "r18_se")
    with pytest.raises(ValueError, match=rf"1 not expected: {head}. Which configuration they fit"):
        openanimals.load_model(yaml, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"carries no configuration, and its weights do not tell"):
        openanimals.load_model(tmp_path / "other.pth")


# Bad files


@pytest.mark.parametrize("kind", ["zip", "pickle", "beside the weights"])
def test_nothing_in_a_file_is_executed(tmp_path, kind):
    class Boobytrap:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/sprung",)

    path = tmp_path / "weights.pth"
    if kind == "zip":
        torch.save({"model": Boobytrap()}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"model": Boobytrap()}, protocol=2))
    else:
        torch.save({"model": {"stem.a": torch.zeros(1)}, "hooks": [Boobytrap()]}, path)
    yaml = write_yaml(tmp_path / "m.yml", "r18_se")
    for arguments in ((path,), (yaml, path)):
        with pytest.raises(ValueError, match=r"it holds (posix|nt)\.system, which could be code"):
            openanimals.load_model(*arguments)
    assert not (tmp_path / "sprung").exists()


def test_harmless_extras_of_fastreids_checkpoints(files):
    yaml, weights = files("r18_se")
    content = torch.load(weights)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 2, 3])
    content |= {
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "metric": np.float64(71.5),
        "iteration": np.int64(7),
        "best": np.bool_(True),
    }
    torch.save(content, weights)
    model = openanimals.load_model(yaml, weights)
    assert loaded_from(model) == expected(model)
    assert checkpoint.read(weights)["metric"] == 71.5
    # As numpy before 2.0 wrote it.
    content = {"model": {"stem": torch.zeros(1)}, "metric": np.float64(2.5)}
    torch.save(content, weights, _use_new_zipfile_serialization=False)
    file = weights.read_bytes()
    assert b"numpy._core.multiarray" in file
    weights.write_bytes(file.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert checkpoint.read(weights)["metric"] == 2.5
