"""A training on all individuals of a catalogue, and how sure it is of what was held out."""

import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from openanimals.cli import main
from openanimals.data.datasets import load_catalogue
from openanimals.identification.build import build_held_out, training_keys
from openanimals.identification.catalogue_file import (
    annotation_ids,
    as_table,
    from_catalogue,
    read_catalogue,
    write_catalogue,
)
from openanimals.identification.encounters import encounters
from openanimals.identification.evaluation import evaluate_files
from openanimals.identification.learning import Settings
from openanimals.identification.matches import Matches
from openanimals.identification.run import identify_files
from openanimals.identification.training import hold_out, train_for_identification
from openanimals.utils.errors import UserError
from tests.engine.tiny_run import BASE, overrides

HERD = "Animals-SyntheticHerd:identities=20,images=6,pixels=48"
HOW = {"matcher": "cosine", "backend": "torch", "device": "cpu", "overrides": ()}


def table_of(counts, date="2025-04-01T10:00:00", **more):
    """So many photographs of each individual, each an encounter of its own."""
    rows = [
        {"path": f"{who}_{n}.jpg", "identity": f"animal{who}", **more}
        for who, count in enumerate(counts)
        for n in range(count)
    ]
    return as_table(rows)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, herd_root):
    """The catalogue's file, the folder of the run, and what it said."""
    place = tmp_path_factory.mktemp("for-identification")
    write_catalogue(place / "herd.csv", from_catalogue(load_catalogue(HERD, herd_root)))
    keys = overrides(place / "run", herd_root, SOLVER__MAX_EPOCH=1, DATASETS__NAMES=None)
    said = train_for_identification(place / "herd.csv", [str(BASE)], keys)
    return place / "herd.csv", place / "run", said


def test_what_is_held_out_is_a_share_of_individuals_and_of_encounters():
    table = table_of([8, 8, 8, 1, 5, 2, 9, 8, 8, 8])
    parts, names = hold_out(table), table["identity"].to_numpy()
    strangers = set(names[parts == "individuals"])
    assert len(strangers) in (2, 3)  # those of one and two photographs are not enough
    assert all((parts[names == name] == "individuals").all() for name in strangers)
    for name, count in Counter(names).items():
        held = (parts[names == name] == "encounters").sum()
        if name not in strangers:
            assert held == (0 if count == 1 else max(1, count // 4))
    assert (parts == hold_out(table)).all()


def test_an_encounter_is_held_out_whole():
    table = table_of([12] * 8)
    table["sequence"] = [f"{name} {n // 3 % 4}" for n, name in enumerate(table["identity"])]
    parts = hold_out(table)
    called = np.array(encounters(table))
    assert all(len(set(parts[called == one])) == 1 for one in called)


def test_of_few_more_is_held_out():
    parts = hold_out(table_of([5] * 9))
    held = Counter(parts)
    assert held["individuals"] == 10
    assert held["encounters"] == 14  # half of five, of each of seven


@pytest.mark.parametrize("counts", [[5, 5, 5], [1] * 40, [2] * 14])
def test_too_little_to_train_on_is_refused(counts):
    with pytest.raises(UserError, match="too few to train on.* 10 of each are needed"):
        hold_out(table_of(counts))


def test_the_length_follows_from_the_catalogue_unless_it_is_given():
    """About 500 steps of a hundred photographs; of many thousand, the epochs of the file."""

    def keys_of(counts, given=()):
        _, pairs = training_keys([str(BASE)], given, counts)
        return dict(zip(pairs[::2], pairs[1::2], strict=True))

    few, many = keys_of([8] * 13), keys_of([40] * 200)
    assert (few["SOLVER.IMS_PER_BATCH"], few["DATALOADER.NUM_INSTANCE"]) == (24, 4)
    assert 500 <= few["SOLVER.MAX_EPOCH"] * (104 // 24) < 1000
    assert (many["SOLVER.IMS_PER_BATCH"], many["SOLVER.MAX_EPOCH"]) == (64, 120)
    assert few["SOLVER.DELAY_EPOCHS"] / few["SOLVER.MAX_EPOCH"] == 60 / 120
    assert keys_of([3] * 20)["DATALOADER.NUM_INSTANCE"] == 2
    own = keys_of([8] * 13, ["SOLVER.MAX_EPOCH", 3, "SOLVER.IMS_PER_BATCH", 8])
    assert (own["SOLVER.MAX_EPOCH"], own["SOLVER.IMS_PER_BATCH"]) == (3, 8)
    assert "SOLVER.DELAY_EPOCHS" not in own


def test_the_first_training_lacks_what_is_held_out_and_the_last_lacks_nothing(trained):
    catalogue, run, said = trained
    table = read_catalogue(catalogue)
    parts = json.loads((run / "held_out" / "held_out.json").read_text())
    assert sorted(sum(parts.values(), [])) == sorted(annotation_ids(table))
    names = dict(zip(annotation_ids(table), table["identity"], strict=True))
    strangers = {names[one] for one in parts["individuals"]}
    for folder, own in (
        (run / "held_out", {*names.values()} - strangers),
        (run, {*names.values()}),
    ):
        content = torch.load(folder / "model_final.pth", weights_only=True)
        assert set(content["identities"]) == own
    split = json.loads((run / "held_out" / "split.json").read_text())
    assert len(split["train"]) == len(parts["trained"])
    assert "as if new" in said
    assert f"--model {run}" in said


def test_how_sure_a_name_is_follows_from_what_was_held_out(trained, tmp_path, caplog, herd_root):
    catalogue, run, _ = trained
    parts = json.loads((run / "held_out" / "held_out.json").read_text())
    other = "Animals-SyntheticHerd:identities=3,images=2,pixels=48,seed=5"
    table = from_catalogue(load_catalogue(other, herd_root)).assign(identity=None)
    write_catalogue(tmp_path / "new.csv", table)
    with caplog.at_level(logging.WARNING):
        new = str(tmp_path / "new.csv")
        identify_files(catalogue, new, tmp_path, Settings(), page=False, model=str(run), **HOW)
    assert "gives names too readily" not in caplog.text
    herd = read_catalogue(catalogue)
    views = dict(
        zip(
            annotation_ids(herd), zip(herd["identity"], herd["viewpoint"], strict=True), strict=True
        )
    )
    there = {views[one] for one in parts["trained"]}  # flanks that can be compared with
    rates = Matches.read(tmp_path / "matches.json").rates
    asked = sum(views[one] in there for one in parts["encounters"])
    assert rates["encounters of known individuals"] == asked > 10
    assert rates["encounters as if new"] == len(parts["individuals"])
    held_out = build_held_out(str(run), **HOW)
    assert (
        held_out.matchers["cosine"].predictor.fingerprint
        != Matches.read(tmp_path / "matches.json").fingerprint
    )


def test_a_model_is_not_judged_by_what_it_was_trained_on(trained, tmp_path, caplog):
    catalogue, run, _ = trained
    with pytest.raises(UserError, match="was trained on 120 photographs"):
        evaluate_files(catalogue, None, Settings(), individuals=[5], model=str(run), **HOW)
    alone = tmp_path / "model.pth"  # without its folder nothing tells what was held out
    alone.write_bytes((run / "model_final.pth").read_bytes())
    half = read_catalogue(catalogue)
    half["identity"] = half["identity"].where(np.arange(len(half)) % 6 > 0, None)
    write_catalogue(tmp_path / "half.csv", half)
    with caplog.at_level(logging.WARNING):
        identify_files(
            tmp_path / "half.csv", None, tmp_path, Settings(), page=False, model=str(alone), **HOW
        )
    assert "trained on 100 of the 100 photographs" in caplog.text


def test_the_command_says_what_it_cannot_do(capsys):
    assert main(["train", "--for-identification", "herd.csv", "--eval-only"]) == 2
    assert "--for-identification trains in one process" in capsys.readouterr().err
    assert not Path("logs/herd").exists()
