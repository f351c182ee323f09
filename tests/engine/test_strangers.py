"""A checkpoint's configuration runs no code, chooses no folder and reads no other file."""

import pytest
import torch

from openanimals.config import ConfigError
from openanimals.engine import train as run
from openanimals.engine.loading import config_from_checkpoint
from openanimals.engine.predictor import load_model
from openanimals.modeling import build_model
from tests.engine.tiny_run import tiny_cfg


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "payload_of_a_stranger.py").write_text("open('executed', 'w').close()\n")
    (tmp_path / "secret.yml").write_text("SEED: 77\n")
    cfg = tiny_cfg(tmp_path / "victim", tmp_path, SEED=5)

    def write(text):
        name = text.partition(":")[0]
        ours = {"NAME": "NAME: tiny", "CACHE_DIR": "CACHE_DIR: ''", "IMPORTS": "IMPORTS: []"}
        config = cfg.dump().replace(ours[name], text) if name in ours else cfg.dump()
        text = "" if name in ours else text
        content = {"model": build_model(cfg, 3).state_dict(), "config": f"{config}\n{text}\n"}
        torch.save(content, tmp_path / "gift/model.pth")
        return tmp_path / "gift/model.pth"

    (tmp_path / "gift").mkdir()
    return write


def test_what_it_may_not_do_is_passed_over_and_told(stranger, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("openanimals.config.loading.logger.propagate", True)
    path = stranger("IMPORTS: [payload_of_a_stranger]")
    cfg = config_from_checkpoint(path)
    assert cfg.SEED == 5 and not cfg.IMPORTS and cfg.OUTPUT_DIR.endswith("/gift")
    assert not (tmp_path / "executed").exists()
    assert "asks for the modules ['payload_of_a_stranger']" in caplog.text
    assert "add IMPORTS to the command" in caplog.text
    given = ["IMPORTS", "payload_of_a_stranger", "OUTPUT_DIR", "here"]
    cfg = config_from_checkpoint(path, given)
    assert (tmp_path / "executed").exists() and cfg.OUTPUT_DIR == "here"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("_BASE_: secret.yml", "_BASE_ is for files"),
        ("NAME: timm/hf-hub:nobody/x", "add MODEL.BACKBONE.NAME timm/hf-hub:nobody/x to the comma"),
        ("NAME: timm/local-dir:gift", "gift, which reaches the network or the disk; if you trust"),
    ],
)
def test_what_is_refused(stranger, text, message):
    path = stranger(text)
    for load in (config_from_checkpoint, load_model):
        with pytest.raises(ConfigError, match=message):
            load(path)
    name = ["MODEL.BACKBONE.NAME", "timm/hf-hub:own/y"]
    if "timm" in text:
        assert name[1] == config_from_checkpoint(path, name).MODEL.BACKBONE.NAME


def test_a_folder_to_write_to_is_passed_over_and_told(stranger, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("openanimals.config.loading.logger.propagate", True)
    path = stranger(f"CACHE_DIR: {tmp_path}/victims")
    with caplog.at_level("INFO"):
        cfg = config_from_checkpoint(path)
    assert not cfg.INPUT.CACHE_DIR
    assert f"its INPUT.CACHE_DIR {tmp_path}/victims is not used, but the default" in caplog.text
    assert f"its OUTPUT_DIR {tmp_path}/victim is not used, but {tmp_path}/gift" in caplog.text


def test_a_run_goes_on_with_the_backbone_that_its_command_names(tmp_path, herd_root):
    """Its checkpoint is not a stranger's."""
    pytest.importorskip("timm")
    (tmp_path / "config.json").write_text('{"architecture": "test_resnet", "num_classes": 0}')
    backbone = {"NAME": f"timm/local-dir:{tmp_path}", "FEAT_DIM": 96, "WITH_IBN": False}
    keys = {f"MODEL__BACKBONE__{key}": value for key, value in backbone.items()}
    for epochs in (1, 2):
        cfg = tiny_cfg(tmp_path / "run", herd_root, SOLVER__MAX_EPOCH=epochs, **keys)
        assert run.train(cfg, resume=True)
