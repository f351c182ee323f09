"""A head with weights of its own names and a loss that learns: trained, resumed and evaluated."""

import pytest
import torch

from openanimals.data.build import load_sets
from openanimals.engine import checkpoint
from openanimals.engine.train import evaluate_only
from openanimals.engine.train import train as run_training
from openanimals.engine.trainer import Trainer
from openanimals.utils.errors import UserError
from tests.engine import own_parts  # noqa: F401
from tests.engine.test_resume import KEYS, SIGKILL, assert_same_outcome
from tests.engine.test_step import PLAIN
from tests.engine.tiny_run import command, tiny_cfg
from tests.processes import environments, run, run_together

pytestmark = pytest.mark.cli

OWN = {
    "MODEL__HEADS__NAME": "PrototypeHead",
    "MODEL__LOSSES__NAME": ("CrossEntropyLoss", "Proxies"),
    "IMPORTS": ["tests.engine.kill", "tests.engine.own_parts"],
}
PROXIES = "functions.loss_proxies.proxies"
CPU = torch.device("cpu")


def own_cfg(folder, root, **keys):
    return tiny_cfg(folder, root, **KEYS | OWN | keys)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, herd_root):
    folder = tmp_path_factory.mktemp("own")
    run_training(own_cfg(folder, herd_root))
    return folder


def test_they_learn_and_are_saved(whole, tmp_path, herd_root):
    content = checkpoint.read(whole / "model_final.pth")
    cfg = own_cfg(tmp_path, herd_root)
    trainer = Trainer(cfg, load_sets(cfg).train, CPU)
    before = trainer.losses.state_dict()
    assert content["losses"].keys() == before.keys()
    assert content["losses"][PROXIES].shape == before[PROXIES].shape == (6, 6)
    assert not torch.equal(content["losses"][PROXIES], before[PROXIES])
    assert content["losses"]["functions.loss_proxies.calls"] == 12 * 8  # iterations x heads
    assert content["model"]["heads.b33.temperature"] != 1


def test_they_change_nothing_of_how_the_model_starts(tmp_path, herd_root):
    cfg = tiny_cfg(tmp_path, herd_root)
    other = tiny_cfg(tmp_path, herd_root, MODEL__LOSSES__NAME=OWN["MODEL__LOSSES__NAME"])
    train_set = load_sets(cfg).train
    ours, theirs = (Trainer(each, train_set, CPU).model.state_dict() for each in (cfg, other))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_killed_run_goes_on(whole, tmp_path, herd_root):
    arguments = command(tmp_path, herd_root, **KEYS | OWN)
    assert run(arguments, KILL_AT="step 8").returncode == SIGKILL
    run_training(own_cfg(tmp_path, herd_root), resume=True)
    assert_same_outcome(tmp_path, whole)
    other = own_cfg(tmp_path, herd_root, MODEL__LOSSES__NAME=("CrossEntropyLoss",))
    with pytest.raises(UserError, match=r"MODEL\.LOSSES keys that the run began with"):
        run_training(other, resume=True)


def test_an_evaluation_needs_neither(whole, tmp_path, herd_root):
    weights = str(whole / "model_final.pth")
    evaluate_only(own_cfg(tmp_path, herd_root, MODEL__WEIGHTS=weights))
    ours, theirs = ((folder / "results.json").read_text() for folder in (tmp_path, whole))
    assert ours == theirs
    told = (tmp_path / "log.txt").read_text()
    assert "16 of the classifiers (6 identities)" in told and "16 classifiers left out" in told
    content = checkpoint.read(weights)
    del content["model"]["heads.b1.norm.weight"]
    torch.save(content, tmp_path / "less.pth")
    with pytest.raises(UserError, match=r"1 missing: heads\.b1\.norm\.weight"):
        evaluate_only(own_cfg(tmp_path, herd_root, MODEL__WEIGHTS=str(tmp_path / "less.pth")))


@pytest.mark.parametrize("identities", [12, 14])
def test_class_weights_are_kept_for_the_same_identities(identities, whole, tmp_path, herd_root):
    herd = f"Animals-SyntheticHerd:identities={identities},images=6,pixels=48"
    keys = {"DATASETS__NAMES": (herd,), "SOLVER__BASE_LR": 1e-9, "SOLVER__MAX_EPOCH": 1}
    weights = str(whole / "model_final.pth")
    run_training(own_cfg(tmp_path, herd_root, **keys, MODEL__WEIGHTS=weights))
    ours, theirs = (
        checkpoint.read(folder / "model_final.pth")["model"] for folder in (tmp_path, whole)
    )
    key = "heads.b1.prototypes"
    same = ours[key].shape == theirs[key].shape
    assert same == (identities == 12)
    assert not same or torch.allclose(ours[key], theirs[key], atol=1e-4)
    assert torch.allclose(ours["stem.0.weight"], theirs["stem.0.weight"], atol=1e-4)


def test_processes_share_the_gradients_of_a_loss(tmp_path, herd_root):
    keys = {
        **OWN,
        **PLAIN,
        "SOLVER__ACCUMULATE": 2,
        "SOLVER__MAX_EPOCH": 1,
        "INPUT__FLIP__ENABLED": False,
        "INPUT__PADDING__ENABLED": False,
        "MODEL__HEADS__NAME": "EmbeddingHead",
        "MODEL__HEADS__WITH_BNNECK": False,
        "MODEL__FREEZE_LAYERS": ["backbone", "b1", "b2", "b3"],  # no statistics of a batch
        "SOLVER__FREEZE_ITERS": 99,
    }
    alone = run(command(tmp_path / "one", herd_root, **keys))
    together = run_together(command(tmp_path / "two", herd_root, **keys), environments(2))
    assert [process.returncode for process in (alone, *together)] == [0, 0, 0], together[0].stderr
    one, two = (checkpoint.read(tmp_path / name / "model_final.pth") for name in ("one", "two"))
    for part in ("model", "losses"):
        torch.testing.assert_close(two[part], one[part], rtol=1e-4, atol=1e-6)
