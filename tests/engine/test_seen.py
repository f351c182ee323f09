"""Queries whose photographs were trained on are marked, however they came to be."""

import json

import pandas as pd
import torch

from openanimals.data.build import load_sets
from openanimals.engine import checkpoint
from openanimals.engine import train as run
from openanimals.engine.loading import config_from_checkpoint
from openanimals.engine.rescore import rescore
from openanimals.engine.seen import trained_by
from tests.engine import photographs
from tests.engine.tiny_run import HERD, tiny_cfg

KEY = "queries trained on"


def test_queries_that_were_trained_on_are_marked_for_good(tmp_path, herd_root, capsys):
    folder = tmp_path / "run"
    cfg = tiny_cfg(
        folder, herd_root, DATASETS__COMBINEALL=True, DATASETS__SPLIT="closed", SOLVER__MAX_EPOCH=1
    )
    trained = run.train(cfg)[HERD].as_dict()
    assert trained[KEY] == trained["queries"]
    assert "photographs that are trained on" in capsys.readouterr().out
    assert json.loads((folder / "results.json").read_text())[HERD] == trained
    assert rescore(folder, ["TEST.METRIC", "euclidean"])[HERD].as_dict()[KEY] == trained[KEY]
    # Evaluated by the same rule but for the key.
    weights = folder / "model_final.pth"
    changes = ["DATASETS.COMBINEALL", False, "OUTPUT_DIR", str(tmp_path / "again")]
    again = config_from_checkpoint(weights, ["MODEL.WEIGHTS", str(weights), *changes])
    assert run.evaluate_only(again)[HERD].as_dict()[KEY] == trained[KEY]
    # The configuration of a checkpoint is looked at, not obeyed, and may be anything.
    sets = load_sets(again, train=False)
    content = checkpoint.read(weights)
    stranger = content["config"].replace("IMPORTS: []", "IMPORTS: [no.such.module]")
    stranger += "_BASE_: /no/such/file.yml\n"
    assert "no.such" in stranger
    for config, known in ((stranger, True), ("DATASETS: 3", False), ("{", False), ("- a", False)):
        torch.save({**content, "config": config}, weights)
        assert bool([*trained_by(again, sets)]) == known


def test_photographs_are_known_under_another_name(tmp_path, herd_root):
    """A second table tests on a photograph that the first trains on, through a link."""
    photographs.source(tmp_path / "herd", photographs.herd())
    (tmp_path / "link").symlink_to(tmp_path / "herd")
    rows = photographs.herd()
    rows[0]["split"], rows[1]["split"] = "query", "gallery"
    pd.DataFrame(rows).to_csv(tmp_path / "herd/other.csv", index=False)
    names = {
        "NAMES": (f"csv:{tmp_path}/herd/animals.csv",),
        "TESTS": (f"csv:{tmp_path}/link/other.csv",),
    }
    keys = {f"DATASETS__{key}": value for key, value in names.items()}
    cfg = tiny_cfg(
        tmp_path / "run", herd_root, SOLVER__MAX_EPOCH=1, DATASETS__SPLIT="source", **keys
    )
    (result,) = run.train(cfg).values()
    assert result.as_dict()[KEY] == 1 < result.as_dict()["queries"]
    assert result.trained[:2].tolist() == [True, False]
