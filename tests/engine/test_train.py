"""A whole run: what it leaves, and that its numbers can be had again from what it leaves."""

import json
import os
import shutil

import numpy as np
import pytest
import torch

from openanimals.data.build import load_sets
from openanimals.engine import checkpoint
from openanimals.engine import evaluate as testing
from openanimals.engine import train as run
from openanimals.engine.loading import config_from_checkpoint, load_weights
from openanimals.engine.trainer import Trainer
from openanimals.modeling import build_model
from tests.engine import photographs
from tests.engine.tiny_run import HERD, tiny_cfg

KEYS = {"TEST__BEFORE_TRAINING": True, "SOLVER__CHECKPOINT_PERIOD": 2}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, herd_root):
    """The folder of a finished run, with its pictures, and its results."""
    folder = tmp_path_factory.mktemp("run")
    cfg = tiny_cfg(folder, herd_root, **KEYS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "draw_results", testing.draw_results)
        return folder, cfg, run.train(cfg)


def assert_same_weights(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def test_files_are_those_of_fastreid(finished):
    folder, _, _ = finished
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "config.yaml",
        "log.txt",
        "metrics.json",
        "model_0001.pth",
        "model_best.pth",
        "model_final.pth",
        "last_checkpoint",
        "results.json",
        "split.json",
        "cmc.png",
    }
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert any(name.startswith("rank_list_") for name in names)
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
    assert "model_last.pth" not in names


def test_metrics_have_every_logged_iteration_and_its_rate(finished):
    folder, cfg, _ = finished
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    losses = [line for line in lines if "total_loss" in line]
    assert [line["iteration"] for line in losses] == [1, 2, 3, 5, 7, 8]  # 3 epochs of 3
    warm = cfg.SOLVER.BASE_LR * (0.1 + 0.9 * np.array([1, 2]) / 3)
    np.testing.assert_allclose([line["lr"] for line in losses[:2]], warm, rtol=1e-12)
    for line in losses:
        assert line["total_loss"] == pytest.approx(line["loss_cls"] + line["loss_triplet"])


def test_results_file_has_percentages_and_counts(finished):
    folder, _, results = finished
    written = json.loads((folder / "results.json").read_text())[HERD]
    assert written["mAP"] == results[HERD].mAP
    assert written["Rank-1"] == results[HERD].rank(1)
    assert (written["queries"], written["gallery"], written["identities"]) == (12, 24, 6)
    assert "queries trained on" not in written  # see test_seen.py
    before = json.loads((folder / "results_before_training.json").read_text())[HERD]
    assert before["mAP"] != written["mAP"]


def test_the_network_before_training_is_judged_after_the_first_epoch(finished):
    folder, cfg, _ = finished
    log = (folder / "log.txt").read_text()
    moments = [log.index(text) for text in ("epoch 0/2", "before training: ", "epoch 1/2")]
    assert moments == sorted(moments)
    sets = load_sets(cfg)
    untrained = testing.evaluate(cfg, Trainer(cfg, sets.train, CPU).model, sets.tests, CPU)[HERD]
    before = json.loads((folder / "results_before_training.json").read_text())[HERD]
    assert (before["mAP"], before["mINP"]) == (untrained.mAP, untrained.mINP)


def test_evaluating_the_checkpoint_gives_the_same_numbers(finished, tmp_path):
    folder, cfg, results = finished
    weights = str(folder / "model_final.pth")
    from_config = tiny_cfg(tmp_path, cfg.DATASETS.ROOT, MODEL__WEIGHTS=weights)
    from_checkpoint = config_from_checkpoint(
        weights, ["MODEL.WEIGHTS", weights, "OUTPUT_DIR", str(tmp_path)]
    )
    for again in (from_config, from_checkpoint):
        assert run.evaluate_only(again)[HERD].as_dict() == results[HERD].as_dict()


def test_evaluating_an_early_checkpoint_leaves_the_runs_own_results(finished):
    folder, _, _ = finished
    weights = str(folder / "model_0001.pth")
    names = ("results.json", "results_before_training.json", "cmc.png")
    own = {name: (folder / name).read_bytes() for name in names}
    results = run.evaluate_only(config_from_checkpoint(weights, ["MODEL.WEIGHTS", weights]))
    assert {name: (folder / name).read_bytes() for name in names} == own
    written = json.loads((folder / "eval_model_0001/results.json").read_text())
    assert written[HERD]["mAP"] == results[HERD].mAP
    assert written != json.loads(own["results.json"])


def test_classifiers_are_loaded_for_the_same_individuals_only(finished):
    folder, cfg, _ = finished
    content = checkpoint.read(folder / "model_final.pth")
    for identities in (content["identities"], content["identities"][::-1]):
        model = build_model(cfg, num_classes=6)
        drawn = {key: value.clone() for key, value in model.state_dict().items()}
        load_weights(cfg, model, folder / "model_final.pth", identities)
        same = identities == content["identities"]
        expected = {
            key: drawn[key] if "classifier" in key and not same else value
            for key, value in content["model"].items()
        }
        assert_same_weights(dict(model.state_dict()), expected)


@pytest.mark.parametrize("kind", ["herd", "csv"])
def test_validation_looks_at_cameras_no_more_than_its_source(kind, tmp_path, herd_root):
    name = HERD if kind == "herd" else photographs.source(tmp_path, photographs.herd())
    keys = {"DATASETS__NAMES": (name,), "DATASETS__VAL_FRACTION": 0.34}
    cfg = tiny_cfg(tmp_path, herd_root, **keys)
    validation = load_sets(cfg).validation
    for images in (validation.query, validation.gallery):
        images.table["camera"] = images.identities  # which would take out every match
    results = testing.evaluate(cfg, build_model(cfg, num_classes=2), [validation], CPU)
    assert results["validation"].as_dict()["queries"] == len(validation.query)


def test_training_learns(tmp_path, herd_root):
    cfg = tiny_cfg(tmp_path, herd_root, SOLVER__MAX_EPOCH=15, SOLVER__BASE_LR=0.01, LOG_PERIOD=5)
    run.train(cfg)
    lines = map(json.loads, (tmp_path / "metrics.json").read_text().splitlines())
    losses = [line["total_loss"] for line in lines if "total_loss" in line]
    assert np.mean(losses[-2:]) < 0.9 * np.mean(losses[:2])


def test_best_checkpoint_says_what_it_was_selected_on(finished, tmp_path, herd_root):
    folder, _, results = finished
    best = checkpoint.read(folder / "model_best.pth")
    assert best["selected_on"] == "test"
    assert best["mAP"] == pytest.approx(results[HERD].mAP)
    cfg = tiny_cfg(tmp_path, herd_root, DATASETS__VAL_FRACTION=0.34, SOLVER__MAX_EPOCH=1)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATASETS.NAMES = 6, (HERD,)
    run.train(cfg)
    held = checkpoint.read(tmp_path / "model_best.pth")
    assert held["selected_on"] == "validation"
    assert len(held["identities"]) == 4  # two of the six training identities are held out


@pytest.mark.parametrize(
    "until", [{"SOLVER__FREEZE_ITERS": 6}, {"SOLVER__FREEZE_EPOCHS": 2}], ids=["iters", "epochs"]
)
def test_frozen_layers_do_not_move_and_then_do(tmp_path, herd_root, until):
    keys = {"MODEL__FREEZE_LAYERS": ["b1", "b1_head"], "SOLVER__CHECKPOINT_PERIOD": 1}
    cfg = tiny_cfg(tmp_path, herd_root, **until, **keys)  # epochs of 3
    run.train(cfg)
    states = [
        checkpoint.read(tmp_path / name)["model"]
        for name in ("model_0000.pth", "model_0001.pth", "model_final.pth")
    ]

    def moved(first, second, prefix):
        return any(
            not torch.equal(first[key], second[key]) for key in first if key.startswith(prefix)
        )

    assert not moved(states[0], states[1], "tails.b1.")
    assert not moved(states[0], states[1], "heads.b1.")
    assert moved(states[0], states[1], "tails.b2.")
    assert moved(states[1], states[2], "tails.b1.")


def test_a_run_with_everything_frozen_ends_as_it_began(tmp_path, herd_root):
    keys = {"MODEL__FREEZE_LAYERS": ["backbone", "b1", "b2", "b3", "heads"]}
    cfg = tiny_cfg(tmp_path, herd_root, SOLVER__FREEZE_ITERS=9, **keys)  # 3 epochs of 3
    began = Trainer(cfg, load_sets(cfg).train, CPU).model.state_dict()
    run.train(cfg)
    ended = checkpoint.read(tmp_path / "model_final.pth")
    assert ended["iteration"] == 9
    assert_same_weights(ended["model"], dict(began))


def test_without_the_pointer_a_run_goes_on_from_its_newest_checkpoint(finished, tmp_path):
    folder, cfg, _ = finished
    for age, name in enumerate(("model_best.pth", "model_0001.pth", "model_last.pth")):
        path = tmp_path / name
        if name == "model_last.pth":
            path.write_text("an older one, which nobody should read")
        else:
            shutil.copy(folder / name, path)
        os.utime(path, (1e9 - age, 1e9 - age))
    run.train(tiny_cfg(tmp_path, cfg.DATASETS.ROOT, **KEYS), resume=True)
    line = f"resumed from {tmp_path / 'model_0001.pth'} at iteration 6"
    assert line in (tmp_path / "log.txt").read_text()
    ours, whole = (checkpoint.read(f / "model_final.pth")["model"] for f in (tmp_path, folder))
    assert_same_weights(ours, whole)


def test_a_finished_run_resumes_to_its_results(finished):
    _, cfg, results = finished
    assert run.train(cfg, resume=True)[HERD].as_dict() == results[HERD].as_dict()
