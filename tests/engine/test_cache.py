"""A run with a cache ends bit for bit like one without; also killed, or as two processes."""

from pathlib import Path

import pytest
import torch

from openanimals.engine import checkpoint
from openanimals.engine import train as engine
from tests.engine.test_resume import SIGKILL, assert_same_outcome
from tests.engine.tiny_run import command, tiny_cfg
from tests.processes import environments, run, run_together

KEYS = {
    "INPUT__EXACT_TRAIN": True,
    "INPUT__AUTOAUG__ENABLED": True,
    "INPUT__AUTOAUG__PROB": 0.3,
    "INPUT__REA__ENABLED": True,
    "SOLVER__MAX_EPOCH": 4,
    "SOLVER__CHECKPOINT_PERIOD": 3,
    "TEST__EVAL_PERIOD": 2,
    "TEST__BEFORE_TRAINING": True,
    "TEST__PRECISE_BN__ENABLED": True,
    "TEST__PRECISE_BN__NUM_ITER": 2,
}


@pytest.fixture(scope="module")
def uncached(tmp_path_factory, herd_root):
    """The folder of a run without a cache."""
    folder = tmp_path_factory.mktemp("uncached")
    engine.train(tiny_cfg(folder, herd_root, INPUT__CACHE="off", **KEYS))
    return folder


def made(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.images"))


@pytest.mark.parametrize("mode", ["auto", "ram"])
def test_a_cache_moves_no_number(mode, uncached, tmp_path, herd_root):
    cache = tmp_path / "cache"
    keys = {**KEYS, "INPUT__CACHE": mode, "INPUT__CACHE_DIR": str(cache)}
    engine.train(tiny_cfg(tmp_path / "run", herd_root, **keys))
    assert_same_outcome(tmp_path / "run", uncached)
    assert len(made(cache)) == (3 if mode == "auto" else 0)  # train, query, gallery
    if mode == "auto":
        keys["MODEL__WEIGHTS"] = str(tmp_path / "run" / "model_final.pth")
        keys["TEST__PRECISE_BN__ENABLED"] = False
        engine.evaluate_only(tiny_cfg(tmp_path / "again", herd_root, **keys))
        ours, theirs = (tmp_path / "again" / "results.json", uncached / "results.json")
        assert ours.read_text() == theirs.read_text()


def test_an_evaluation_alone_makes_no_cache(uncached, tmp_path, herd_root):
    keys = {**KEYS, "TEST__PRECISE_BN__ENABLED": False, "INPUT__CACHE_DIR": str(tmp_path / "cache")}
    weights = {"MODEL__WEIGHTS": str(uncached / "model_final.pth")}
    engine.evaluate_only(tiny_cfg(tmp_path / "run", herd_root, **keys, **weights))
    assert not (tmp_path / "cache").exists()


@pytest.mark.cli
def test_killed_while_reading_and_while_training_and_resumed(uncached, tmp_path, herd_root):
    cache = tmp_path / "cache"
    keys = {**KEYS, "IMPORTS": ["tests.engine.kill"], "INPUT__CACHE_DIR": str(cache)}
    arguments = command(tmp_path / "run", herd_root, "--resume", **keys)
    for moment in ("read 40", "step 5"):
        killed = run(arguments, KILL_AT=moment)
        assert killed.returncode == SIGKILL, f"not killed at {moment}: {killed.stderr}"
    resumed = run(arguments)
    assert resumed.returncode == 0, resumed.stderr
    assert_same_outcome(tmp_path / "run", uncached)
    assert len(made(cache)) == 3
    assert not (cache / ".unfinished").exists()


@pytest.mark.cli
def test_two_processes_share_a_cache_that_moves_no_number(tmp_path, herd_root):
    weights = {}
    for mode in ("off", "disk"):
        keys = {**KEYS, "INPUT__CACHE": mode, "INPUT__CACHE_DIR": str(tmp_path / "cache")}
        keys["SOLVER__MAX_EPOCH"] = 2
        arguments = command(tmp_path / mode, herd_root, **keys)
        finished = run_together(arguments, environments(2))
        assert [process.returncode for process in finished] == [0, 0], finished[0].stderr
        weights[mode] = checkpoint.read(tmp_path / mode / "model_final.pth")["model"]
    assert all(torch.equal(weights["off"][key], weights["disk"][key]) for key in weights["off"])
    results = [(tmp_path / mode / "results.json").read_text() for mode in ("off", "disk")]
    assert results[0] == results[1]
    assert len(made(tmp_path / "cache")) == 3
