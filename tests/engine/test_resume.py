"""A run that is killed at any moment and resumed ends bit for bit like one that was not."""

import json
import math
import shutil

import pytest
import torch

from openanimals.engine import checkpoint
from openanimals.engine import train as engine_train
from openanimals.utils.errors import UserError
from tests.engine.tiny_run import command, tiny_cfg
from tests.processes import run

pytestmark = pytest.mark.cli

SIGKILL = -9
# 4 epochs of 3 iterations. Saved are: a rolling checkpoint after the first; the best and a
# rolling one after the second; one to keep after the third; perhaps the best, and the final one.
KEYS = {
    "SOLVER__MAX_EPOCH": 4,
    "SOLVER__CHECKPOINT_PERIOD": 3,
    "TEST__EVAL_PERIOD": 2,
    "MODEL__BACKBONE__NAME": "tiny_dropout",
    "MODEL__HEADS__NAME": "PrototypeHead",  # whose class weights have their own names
    "MODEL__LOSSES__NAME": ("CrossEntropyLoss", "TripletLoss", "Proxies"),  # the last one learns
    "IMPORTS": ["tests.engine.kill", "tests.engine.own_parts"],
    "INPUT__AUTOAUG__ENABLED": True,
    "INPUT__AUTOAUG__PROB": 0.5,
    "INPUT__REA__ENABLED": True,
}


def train(folder, root, *arguments, kill_at="", **keys):
    return run(command(folder, root, *arguments, **KEYS | keys), KILL_AT=kill_at)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, herd_root):
    """The folder of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    finished = train(folder, herd_root)
    assert finished.returncode == 0, finished.stderr
    return folder


# In the order of a run, each in the process that goes on after the one before.
MOMENTS = [
    ("step 2", "before the first checkpoint"),
    ("save 1", "in the first checkpoint"),
    ("after model_last.pth 1", "before the first pointer"),
    ("before metrics.json 1", "while resuming"),
    ("features 1", "in a periodic evaluation"),
    ("save 2", "while a rolling save replaces another"),
    ("after model_0002.pth 1", "between checkpoint and pointer"),
    ("before model_final.pth 1", "in the last save"),
    ("after model_final.pth 1", "before the final pointer"),
    ("before results.json 1", "before the results are written"),
]


def test_killed_and_resumed_ends_like_an_uninterrupted_run(whole, tmp_path, herd_root):
    for moment, what in MOMENTS:
        killed = train(tmp_path, herd_root, "--resume", kill_at=moment)
        assert killed.returncode == SIGKILL, f"not killed {what}: {killed.stderr}"
    resumed = train(tmp_path, herd_root, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_outcome(tmp_path, whole)
    assert not list(tmp_path.glob(".*")), "half-written files are left"


def test_it_goes_on_with_the_losses_that_it_began_with(whole, tmp_path, herd_root):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    others = {"MODEL__LOSSES__NAME": ("CrossEntropyLoss",)}
    with pytest.raises(UserError, match=r"MODEL\.LOSSES keys that the run began with"):
        engine_train.train(tiny_cfg(tmp_path, herd_root, **KEYS | others), resume=True)


def test_workers_change_nothing(whole, tmp_path, herd_root):
    killed = train(tmp_path, herd_root, kill_at="step 8", DATALOADER__NUM_WORKERS=2)
    assert killed.returncode == SIGKILL, killed.stderr
    with open(tmp_path / "metrics.json", "a") as file:
        file.write('{"iteration": 7, "epo')  # a line that a kill cut short
    resumed = train(tmp_path, herd_root, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_outcome(tmp_path, whole)


def test_seed_changes_the_outcome(whole, tmp_path, herd_root):
    """So that equal outcomes above mean something."""
    assert train(tmp_path, herd_root, SEED=1).returncode == 0
    ours, theirs = (checkpoint.read(f / "model_final.pth")["model"] for f in (tmp_path, whole))
    assert not any(torch.equal(ours[key], theirs[key]) for key in ours if "weight" in key)


def assert_same_outcome(folder, expected):
    for name in ("model_final.pth", "model_best.pth", "model_0002.pth"):
        ours, theirs = (checkpoint.read(place / name) for place in (folder, expected))
        for content in (ours, theirs):
            del content["config"]  # names the folder
        assert_same(ours, theirs, name)
    for name in ("last_checkpoint", "results.json", "split.json"):
        assert (folder / name).read_text() == (expected / name).read_text(), name
    assert metrics(folder) == metrics(expected)
    names = {path.name for path in expected.iterdir() if "tfevents" not in path.name}
    assert {path.name for path in folder.iterdir() if "tfevents" not in path.name} == names


def assert_same(ours, theirs, where):
    """Compare tensors and plain containers, every bit."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, torch.Tensor):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs), where
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}: {key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for position, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f"{where}[{position}]")
    else:
        assert ours == theirs or (math.isnan(ours) and math.isnan(theirs)), where


def metrics(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    for line in lines:
        line.pop("images_per_s", None)
    return lines
