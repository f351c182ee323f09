"""A run that is killed at any moment and resumed ends bit for bit like one that was not."""

import json
import math

import pytest
import torch

from openanimals.engine import checkpoint
from tests.engine.tiny_run import command
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
    "IMPORTS": ["tests.engine.kill"],
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


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(["step 2", "save 1"], id="before the first checkpoint, twice"),
        pytest.param(["after model_last.pth 1"], id="before the first pointer"),
        pytest.param(["after last_checkpoint 1"], id="right after a rolling save"),
        pytest.param(["step 5", "step 2"], id="in the middle of an epoch, twice"),
        pytest.param(["step 5", "before metrics.json 1"], id="again while resuming"),
        pytest.param(["features 1", "save 1"], id="periodic evaluation, then saving the best"),
        pytest.param(["save 3", "save 2"], id="while a rolling save replaces another, twice"),
        pytest.param(["after model_0002.pth 1"], id="between checkpoint and pointer"),
        pytest.param(["features 4", "before model_final.pth 1"], id="last evaluation and save"),
        pytest.param(["after model_final.pth 1"], id="before the final pointer"),
        pytest.param(["before results.json 1"], id="before the results are written"),
    ],
)
def test_killed_and_resumed_ends_like_an_uninterrupted_run(kills, whole, tmp_path, herd_root):
    for moment in kills:
        killed = train(tmp_path, herd_root, "--resume", kill_at=moment)
        assert killed.returncode == SIGKILL, f"not killed at {moment}: {killed.stderr}"
    resumed = train(tmp_path, herd_root, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_outcome(tmp_path, whole)
    assert not list(tmp_path.glob(".*")), "half-written files are left"


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
