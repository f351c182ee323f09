"""Checkpoints of FastReID into ours, and back."""

import runpy
import sys

import pytest
import torch

import openanimals
from openanimals import cli
from openanimals.config import load, load_text
from openanimals.engine import checkpoint
from openanimals.engine.convert import convert
from openanimals.modeling import build_model
from tests.conftest import REPOSITORY
from tests.engine.tiny_run import HERD
from tests.modeling import released


@pytest.fixture
def theirs(tmp_path):
    """A checkpoint as FastReID would leave it: ResNet-18 with SE, weights of some size."""
    path = tmp_path / "theirs.pth"
    torch.save({"model": released.filled("r18_se"), "epoch": 3}, path)
    return path


def checkpoint_of_ours(path, **changes):
    """A checkpoint of a ResNet-18 with random weights; in ``changes`` a dot is written ``__``."""
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    cfg = load(None, released.pairs({**released.CONFIGS["r18_se"], **released.SIZES, **keys}))
    model = build_model(cfg, num_classes=3)
    content = {"model": model.state_dict(), "config": cfg.dump(), "identities": ["a", "b", "c"]}
    checkpoint.write(path, content)
    return model


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_theirs_to_ours_can_be_evaluated(theirs, tmp_path, herd_root, capsys):
    ours = tmp_path / "ours.pth"
    assert cli.main(["convert", str(theirs), str(ours)]) == 0
    report = capsys.readouterr().out
    counted = "142 weights under FastReID's names, renamed: 136 of the backbone, 5 of the heads, 1 "
    assert f"{theirs}: {counted}of the classifiers (5 identities)" in report
    assert f"{ours}: written as ours. To evaluate it: --eval-only MODEL.WEIGHTS {ours}" in report
    assert "so it is assumed: MODEL.BACKBONE.LAST_STRIDE 1" in report
    content = checkpoint.read(ours)
    assert content["format"] == checkpoint.FORMAT and content["identities"] is None
    cfg = load_text(content["config"], ["DATASETS.NAMES", (HERD,)])
    assert (cfg.MODEL.BACKBONE.DEPTH, cfg.DATASETS.TESTS) == ("18x", (HERD,))
    keys = ["MODEL.WEIGHTS", str(ours), "DATASETS.NAMES", f"('{HERD}',)", "MODEL.DEVICE", "cpu"]
    keys += ["DATASETS.ROOT", str(herd_root), "INPUT.SIZE_TEST", "[48, 48]"]
    assert cli.main(["train", "--eval-only", *keys, "OUTPUT_DIR", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "results.json").is_file()


def test_theirs_to_ours_with_a_config_file(theirs, tmp_path):
    (tmp_path / "r18.yml").write_text(released.yaml(released.CONFIGS["r18_se"]))
    (tmp_path / "sizes.yml").write_text(released.yaml(released.SIZES))
    files = [tmp_path / "r18.yml", tmp_path / "sizes.yml"]
    convert(theirs, tmp_path / "ours.pth", files, ["MODEL.BACKBONE.LAST_STRIDE", 2])
    model = openanimals.load_model(tmp_path / "ours.pth")
    names = {ours: key for ours, key in released.their_names(model).items()}
    state = released.filled("r18_se")
    assert same(dict(model.state_dict()), {ours: state[key] for ours, key in names.items()})
    cfg = load_text(checkpoint.read(tmp_path / "ours.pth")["config"])
    assert (cfg.MODEL.BACKBONE.LAST_STRIDE, cfg.INPUT.SIZE_TEST) == (2, [80, 80])


@pytest.mark.parametrize(
    "changes",
    [
        {"MODEL__BACKBONE__WITH_IBN": True, "MODEL__HEADS__BRANCHES": [[1], [1, 2], [1, 3]]},
        {"MODEL__HEADS__POOL_LAYER": "GeneralizedMeanPoolingP", "MODEL__HEADS__EMBEDDING_DIM": 8},
        {"MODEL__HEADS__WITH_BNNECK": False, "MODEL__BACKBONE__NORM": "GN"},
    ],
)
def test_ours_to_theirs_to_ours_is_the_identity(tmp_path, changes):
    model = checkpoint_of_ours(tmp_path / "ours.pth", **changes)
    report = convert(tmp_path / "ours.pth", tmp_path / "theirs.pth")
    assert "under our names" in report and "written as FastReID's" in report
    written = torch.load(tmp_path / "theirs.pth", weights_only=True)
    assert written.keys() == {"model"}
    ours = dict(model.state_dict())
    names = released.their_names(model).items()
    assert same(written["model"], {key: ours[name] for name, key in names})
    convert(tmp_path / "theirs.pth", tmp_path / "again.pth")
    assert same(checkpoint.read(tmp_path / "again.pth")["model"], ours)


def test_the_commands_of_the_page_run(theirs, tmp_path, monkeypatch):
    page = (REPOSITORY / "docs" / "migration.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if "tools/convert_checkpoint.py " in line]
    assert len(lines) == 2
    monkeypatch.chdir(tmp_path)
    (tmp_path / "your.yml").write_text(released.yaml(released.CONFIGS["r18_se"]))
    first, back = (line.split("convert_checkpoint.py ")[1].split() for line in lines)
    assert cli.main(["convert", *first]) == 0
    before = checkpoint.read(theirs)["model"]
    theirs.unlink()
    assert cli.main(["convert", *back]) == 0
    assert same(checkpoint.read(theirs)["model"], before)


def test_nothing_is_overwritten(theirs, tmp_path, capsys):
    before = theirs.read_bytes()
    (tmp_path / "other.pth").write_text("precious")
    for target in (theirs, tmp_path / "other.pth", tmp_path):
        assert cli.main(["convert", str(theirs), str(target)]) == 2
        assert f"{target} is there already" in capsys.readouterr().err
    assert theirs.read_bytes() == before
    assert (tmp_path / "other.pth").read_text() == "precious"


def test_what_does_not_fit_is_not_written(theirs, tmp_path):
    with pytest.raises(ValueError, match=r"fit a configuration with .*MODEL.BACKBONE.DEPTH 18x"):
        convert(theirs, tmp_path / "out.pth", [REPOSITORY / "configs" / "Base-bagtricks.yml"])
    several = {"MODEL__HEADS__BRANCHES": [[1], [1, 2], [1, 3]], "MODEL__HEADS__STRIPES": "cols"}
    checkpoint_of_ours(tmp_path / "cols.pth", **several)
    with pytest.raises(ValueError, match=r"cols\.pth: its stripes are cols"):
        convert(tmp_path / "cols.pth", tmp_path / "out.pth")
    checkpoint_of_ours(tmp_path / "two.pth", MODEL__HEADS__BRANCHES=[[1], [1, 2]])
    with pytest.raises(ValueError, match=r"two\.pth: FastReID has one branch, or the three of"):
        convert(tmp_path / "two.pth", tmp_path / "out.pth")
    with pytest.raises(ValueError, match="no checkpoint at"):
        convert(tmp_path / "none.pth", tmp_path / "out.pth")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="could not be written"):
        convert(theirs, tmp_path / "file" / "out.pth")
    assert not (tmp_path / "out.pth").exists()


def test_the_tool(theirs, tmp_path, monkeypatch):
    tool = str(REPOSITORY / "tools" / "convert_checkpoint.py")
    monkeypatch.setattr(sys, "argv", [tool, str(theirs), str(tmp_path / "ours.pth")])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(tool, run_name="__main__")
    assert not stop.value.code
    assert (tmp_path / "ours.pth").is_file()
