"""Two processes on the CPU (gloo): by --num-gpus, by torchrun, or by torchrun's variables."""

import json
import socket
import sys
import time

import pytest
import torch

from openanimals.data.sets import load_sets
from openanimals.engine import checkpoint
from openanimals.engine.trainer import Trainer
from openanimals.utils import distributed
from tests.engine import tiny_run
from tests.engine.tiny_run import command
from tests.processes import run, run_together

pytestmark = pytest.mark.cli

# 14 queries and 21 gallery images: one process gets 10 of these, the other 11.
KEYS = {
    "DATASETS__NAMES": ("Animals-SyntheticHerd:identities=13,images=5,pixels=48",),
    "SOLVER__MAX_EPOCH": 2,
}
TWO = ("--num-gpus", "2")


def environments() -> list[dict[str, str]]:
    """What torchrun tells each of two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    return [{**address, "WORLD_SIZE": "2", "RANK": r, "LOCAL_RANK": r} for r in ("0", "1")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, herd_root):
    """The folder of a training by two processes."""
    folder = tmp_path_factory.mktemp("two")
    keys = {**KEYS, "TEST__EVAL_PERIOD": 1, "IMPORTS": ["tests.engine.witness"]}
    finished = run(command(folder, herd_root, *TWO, **keys))
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("2 process(es)") == 1  # only the first process talks
    return folder


def test_two_processes_write_one_set_of_files(trained):
    names = [path.name for path in trained.iterdir()]
    assert {"config.yaml", "log.txt", "model_final.pth", "results.json"} <= set(names)
    assert sum("tfevents" in name for name in names) == 1
    lines = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    losses = [line["iteration"] for line in lines if "total_loss" in line]
    assert losses == [1, 3]  # two epochs of 30 // 12 iterations


def test_two_processes_end_with_one_model(trained):
    first, second = (torch.load(trained / f"rank{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_one_process_and_two_evaluate_exactly_alike(trained, tmp_path, herd_root):
    keys = {**KEYS, "MODEL__WEIGHTS": trained / "model_final.pth"}
    alone = run(command(tmp_path / "one", herd_root, "--eval-only", **keys))
    assert alone.returncode == 0, alone.stderr
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    two = tiny_run.run(torchrun + command(tmp_path / "two", herd_root, "--eval-only", **keys)[1:])
    assert two.returncode == 0, two.stderr
    for folder in ("one", "two"):
        results = (tmp_path / folder / "results.json").read_text()
        assert results == (trained / "results.json").read_text()


def test_two_processes_train_like_one_where_no_statistics_are_taken(tmp_path, herd_root):
    """With batch norms frozen and no augmentation, halves of a batch average to the whole."""
    keys = {
        **KEYS,
        "INPUT__FLIP__ENABLED": False,
        "INPUT__PADDING__ENABLED": False,
        "MODEL__HEADS__WITH_BNNECK": False,
        "MODEL__LOSSES__NAME": ("CrossEntropyLoss",),
        "MODEL__FREEZE_LAYERS": ["backbone", "b1", "b2", "b3"],
        "SOLVER__FREEZE_ITERS": 99,
        "SOLVER__OPT": "SGD",
        "SOLVER__BASE_LR": 1.0,
    }
    alone = run(command(tmp_path / "one", herd_root, **keys))
    together = run_together(command(tmp_path / "two", herd_root, **keys), environments())
    assert [process.returncode for process in (alone, *together)] == [0, 0, 0], together[0].stderr
    one, two = (
        checkpoint.read(tmp_path / name / "model_final.pth")["model"] for name in ("one", "two")
    )
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-6)


def test_batch_that_processes_cannot_share_is_refused(tmp_path, herd_root):
    arguments = command(tmp_path, herd_root, SOLVER__IMS_PER_BATCH=9, **KEYS)
    for finished in run_together(arguments, environments()):
        assert finished.returncode == 2
        assert "IMS_PER_BATCH (9) must be a multiple" in finished.stderr
        assert "NUM_INSTANCE (3) x 2 processes" in finished.stderr
        assert "Traceback" not in finished.stderr
    assert not list(tmp_path.glob("model_*"))


def test_norms_that_share_statistics_need_cuda(tmp_path, herd_root, monkeypatch):
    cfg = tiny_run.tiny_cfg(tmp_path, herd_root, MODEL__HEADS__NORM="syncBN", **KEYS)
    train = load_sets(cfg).train
    Trainer(cfg, train, torch.device("cpu"))  # alone it is plain batch norm
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(ValueError, match=r"set MODEL\.BACKBONE\.NORM and MODEL\.HEADS\.NORM to BN"):
        Trainer(cfg, train, torch.device("cpu"))


def test_death_of_a_process_ends_the_command(tmp_path, herd_root):
    start = time.monotonic()
    arguments = command(tmp_path, herd_root, *TWO, IMPORTS=["tests.engine.kill"], **KEYS)
    finished = run(arguments, KILL_AT="step 2", KILL_RANK="1")
    assert finished.returncode == 2
    assert "process 1 of 2 failed" in finished.stderr
    assert time.monotonic() - start < 120
    assert not (tmp_path / "model_final.pth").exists()
