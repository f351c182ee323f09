"""Two processes on the CPU (gloo): by --num-gpus, or by torchrun's variables."""

import json
import re

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from openanimals.engine import checkpoint
from tests.engine import tiny_run
from tests.engine.photographs import animals, herd, source
from tests.engine.tiny_run import command
from tests.processes import environments, run, run_together

pytestmark = pytest.mark.cli

# 14 queries and 21 gallery images.
KEYS = {
    "DATASETS__NAMES": ("Animals-SyntheticHerd:identities=13,images=5,pixels=48",),
    "SOLVER__MAX_EPOCH": 2,
}
TWO = ("--num-gpus", "2")
UNAUGMENTED = {"INPUT__FLIP__ENABLED": False, "INPUT__PADDING__ENABLED": False}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, herd_root):
    """The folder of a training by two processes."""
    folder = tmp_path_factory.mktemp("two")
    keys = {**KEYS, "TEST__EVAL_PERIOD": 1, "IMPORTS": ["tests.engine.witness"]}
    first, second = run_together(command(folder, herd_root, **keys), environments(2))
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "2 process(es)" in first.stdout and not second.stdout
    return folder


def test_two_processes_write_one_set_of_files(trained):
    names = [path.name for path in trained.iterdir()]
    assert {"config.yaml", "log.txt", "model_final.pth", "results.json"} <= set(names)
    assert sum("tfevents" in name for name in names) == 1
    lines = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    losses = [line["iteration"] for line in lines if "total_loss" in line]
    assert losses == [1, 3]  # two epochs of 30 // 12 iterations


def test_two_processes_end_with_one_model(trained):
    first, second = (torch.load(trained / f"rank{rank}.pt")["model"] for rank in (0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({}, id="all images in one batch, so that a process has none"),
        pytest.param(
            {"TEST__IMS_PER_BATCH": 4, "TEST__RERANK__ENABLED": True},
            id="unequal shares, re-ranked",
        ),
    ],
)
def test_one_process_and_two_evaluate_exactly_alike(keys, trained, tmp_path, herd_root):
    keys = {
        **KEYS,
        **keys,
        "MODEL__WEIGHTS": trained / "model_final.pth",
        "IMPORTS": ["tests.engine.small_tiles"],
    }
    alone = run(command(tmp_path / "one", herd_root, "--eval-only", **keys))
    together = command(tmp_path / "two", herd_root, "--eval-only", **keys)
    for finished in (alone, *run_together(together, environments(2))):
        assert finished.returncode == 0, finished.stderr
    one, two = (tmp_path / name for name in ("one", "two"))
    assert (one / "results.json").read_text() == (two / "results.json").read_text()
    (ours,), (theirs,) = (list(folder.glob("features_*")) for folder in (one, two))
    assert load_file(ours)["features"].shape[0] == 35 and ours.read_bytes() == theirs.read_bytes()
    (ours,), (theirs,) = (list(folder.glob("rankings_*")) for folder in (one, two))
    pd.testing.assert_frame_equal(pd.read_parquet(ours), pd.read_parquet(theirs), check_exact=True)


def test_two_processes_train_like_one(tmp_path, herd_root):
    """With shared statistics, metric losses on the whole batch, and nothing drawn at random."""
    keys = {
        **KEYS,
        **UNAUGMENTED,
        "IMPORTS": ["tests.engine.witness"],
        "MODEL__BACKBONE__NAME": "tiny_ibn",
        "MODEL__BACKBONE__NORM": "syncBN",
        "MODEL__HEADS__NORM": "syncBN",
        "MODEL__LOSSES__GATHER": True,
        "SOLVER__OPT": "SGD",  # Adam would make much of a gradient that is all but 0
        "SOLVER__BASE_LR": 0.02,
    }
    alone = run(command(tmp_path / "one", herd_root, **keys))
    together = run_together(command(tmp_path / "two", herd_root, **keys), environments(2))
    for finished in (alone, *together):
        assert finished.returncode == 0, finished.stderr
    one, first, second = (
        torch.load(tmp_path / path) for path in ("one/rank0.pt", "two/rank0.pt", "two/rank1.pt")
    )
    torch.testing.assert_close(first["model"], one["model"], rtol=1e-4, atol=1e-5)
    assert len(one["losses"]) == 4  # iterations
    for whole, *halves in zip(one["losses"], first["losses"], second["losses"], strict=True):
        triplets = [part["loss_triplet"] for part in halves]
        assert triplets == pytest.approx([whole["loss_triplet"]] * 2, rel=1e-5)
        mean = sum(part["loss_cls"] for part in halves) / 2
        assert mean == pytest.approx(whole["loss_cls"], rel=1e-5)
    results = [
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two")
    ]
    for name in results[0]:
        for measure in ("Rank-1", "mAP", "mINP"):  # one query may fare otherwise: two images may
            ours, theirs = (result[name][measure] for result in results)  # be all but equally far
            assert ours == pytest.approx(theirs, abs=100 / 14)


def test_processes_that_were_not_started_alike_say_what_differs(tmp_path, herd_root):
    started = environments(2)
    for rank, (rate, seed, epochs) in enumerate([(0.001, 0, 1), (0.1, 7, 2)]):
        home = tmp_path / str(rank)
        source(home / "data", herd() + animals("train", 7)[24:] * rank)
        solver = f"SOLVER: {{BASE_LR: {rate}, MAX_EPOCH: {epochs}}}"
        (home / "run.yml").write_text(f"_BASE_: {tiny_run.BASE}\nSEED: {seed}\n{solver}\n")
        started[rank]["HOME"] = str(home)
    keys = {"SOLVER__MAX_EPOCH": None, "DATASETS__NAMES": ("csv:~/data/animals.csv",)}
    own = {"INPUT__CACHE_DIR": "~/cache"}
    arguments = command(tmp_path / "run", herd_root, config="~/run.yml", **keys, **own)
    for finished in run_together(arguments, started):
        assert finished.returncode == 2 and "Traceback" not in finished.stderr
        assert "the processes of this run do not agree; start all of them alike:" in finished.stderr
        assert "  - SEED: 0 in process 0, 7 in process 1" in finished.stderr
        assert "  - SOLVER.BASE_LR: 0.001 in process 0, 0.1 in process 1" in finished.stderr
        assert "  - SOLVER.MAX_EPOCH: 1 in process 0, 2 in process 1" in finished.stderr
        assert "  - images, training: '24 of 6, digest " in finished.stderr
        assert "OUTPUT_DIR" not in finished.stderr and "query" not in finished.stderr
    assert not (tmp_path / "run").exists()


def test_processes_with_other_weights(trained, tmp_path, herd_root):
    """The same file name on two machines, and another content: here in two homes."""
    started = environments(2)
    for rank in range(2):
        started[rank]["HOME"] = str(tmp_path / str(rank))
        content = checkpoint.read(trained / "model_final.pth")
        content["model"]["stem.0.weight"] += rank
        checkpoint.write(tmp_path / str(rank) / "model_last.pth", content)
    arguments = command(tmp_path / "run", herd_root, "--resume", **KEYS, OUTPUT_DIR="~")
    for finished in run_together(arguments, started):
        assert finished.returncode == 2
        assert "do not agree; start all of them alike:\n    - the weights" in finished.stderr


def test_death_of_a_process_ends_the_command(tmp_path, herd_root):
    arguments = command(tmp_path, herd_root, *TWO, IMPORTS=["tests.engine.kill"], **KEYS)
    finished = run(arguments, KILL_AT="step 2", KILL_RANK="1")
    assert finished.returncode == 2
    (told,) = [line for line in finished.stderr.splitlines() if line.startswith("error: process")]
    assert told.startswith("error: process 1 of 2 failed (exit status -9)") and "SIGKILL" in told
    assert not (tmp_path / "model_final.pth").exists()


def test_a_mistake_that_all_processes_see_is_one_error(tmp_path, herd_root):
    finished = run(command(tmp_path, herd_root, *TWO, **{**KEYS, "SOLVER__IMS_PER_BATCH": 9}))
    assert finished.returncode == 2
    assert "must be a multiple of DATALOADER.NUM_INSTANCE (3) x 2 processes" in finished.stderr
    told = r"error: process [01] of 2 failed \(exit status 2\) and .*: \w*Error: 1 mistake"
    assert re.search(told, finished.stderr)
    assert "Traceback" not in finished.stderr


def test_killed_process_is_replaced_and_nothing_is_lost(trained, tmp_path, herd_root):
    keys = {**KEYS, "TEST__EVAL_PERIOD": 1, "IMPORTS": ["tests.engine.kill"]}
    arguments = command(tmp_path, herd_root, *TWO, "--max-restarts", "1", **keys)
    # One step before the last: the first process cannot end the second epoch alone, and save it.
    finished = run(arguments, KILL_AT="step 3", KILL_RANK="1")
    assert finished.returncode == 0, finished.stderr
    assert "at iteration 2" in finished.stdout  # resumed after the first epoch
    ours, theirs = (checkpoint.read(f / "model_final.pth")["model"] for f in (tmp_path, trained))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    results = [(folder / "results.json").read_text() for folder in (tmp_path, trained)]
    assert results[0] == results[1]
