"""Photographs to features: as an evaluation computes them, whatever names the photographs."""

import importlib
import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import openanimals
from openanimals.data.build import load_sets
from openanimals.data.catalogue import Catalogue
from openanimals.data.image_io import read_image
from openanimals.engine import evaluate as evaluation
from openanimals.engine.rescore import rescore
from openanimals.engine.train import train
from openanimals.evaluation.results_io import load_evaluation, save_scores
from openanimals.utils.errors import UserError
from tests.conftest import REPOSITORY
from tests.data.wildlife_fixtures import coat
from tests.engine.tiny_run import HERD, tiny_cfg


@pytest.fixture(scope="module")
def run(tmp_path_factory, herd_root):
    """The folder of a finished run, with a flip test, and its configuration."""
    folder = tmp_path_factory.mktemp("run")
    cfg = tiny_cfg(folder, herd_root, SOLVER__MAX_EPOCH=1, TEST__FLIP__ENABLED=True)
    train(cfg)
    return folder, cfg


@pytest.fixture(scope="module")
def predictor(run):
    return openanimals.Predictor(run[0], device="cpu")


@pytest.mark.parametrize("keys", [[], ["TEST.FOLD_NORMS", True], ["TEST.DTYPE", "bfloat16"]])
def test_features_are_those_of_the_evaluation_bit_for_bit(keys, run, tmp_path):
    folder, cfg = run
    predictor = openanimals.Predictor(folder, device="cpu", overrides=keys)
    test_set = load_sets(cfg).tests[0]
    tests = [test_set]
    evaluation.evaluate(predictor.cfg, predictor.model, tests, torch.device("cpu"), folder=tmp_path)
    query, gallery = load_evaluation(tmp_path, test_set.name)
    for images, expected in ((test_set.query, query), (test_set.gallery, gallery)):
        found = predictor.embed(images)
        np.testing.assert_array_equal(found.features, expected.features)
        assert found.fingerprint == expected.fingerprint == predictor.fingerprint


def test_a_name_paths_and_arrays_give_the_same(predictor, run, tmp_path):
    named = predictor.embed(HERD)
    images = load_sets(run[1]).splits[HERD][0]
    paths = [images.path(row) for row in range(len(images))]
    assert named.images["path"].tolist() == list(map(str, paths))
    assert named.images["identity"].tolist() == images.identities
    plain = Catalogue("plain", "/", pd.DataFrame({"path": map(str, paths), "identity": "x"}))
    of_paths = predictor.embed(paths)
    np.testing.assert_array_equal(predictor.embed(plain).features, of_paths.features)
    arrays = predictor.embed([read_image(path) for path in paths])
    np.testing.assert_array_equal(arrays.features, of_paths.features)
    alone = predictor.embed(paths[0]).features  # a batch of another size rounds otherwise
    np.testing.assert_allclose(alone, of_paths.features[:1], rtol=1e-4, atol=1e-6)


def test_unreadable_photographs_are_left_out_and_named(predictor, tmp_path, caplog):
    for number in range(4):
        coat(number, 0, 48).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    paths = [tmp_path / f"{number}.png" for number in (0, 1, 2, 3, 4)]
    with caplog.at_level(logging.WARNING, "openanimals"):
        found = predictor.embed(paths)
    assert found.images["path"].tolist() == [str(paths[row]) for row in (0, 1, 3)]
    alone = predictor.embed(paths[3]).features[0]
    np.testing.assert_allclose(found.features[2], alone, rtol=1e-4, atol=1e-6)
    left_out = [record.getMessage() for record in caplog.records]
    assert len(left_out) == 2 and "2.png" in left_out[0] and "4.png: no such file" in left_out[1]
    with pytest.raises(UserError, match="none of the 1 photographs can be read"):
        predictor.embed([tmp_path / "2.png"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([np.zeros((4, 4, 3), np.float32)], r"image 0 is float32 .*expected .*uint8 \[H, W, 3\]"),
        ([np.zeros((4, 4), np.uint8)], r"image 0 is uint8 of the shape \[4, 4\]"),
        ([Image.new("RGB", (4, 4))], "image 0 is Image"),
        ("photo.jpg", r"cannot read image photo\.jpg: no such file"),
        ("Animals-Hyena", "did you mean 'HyenaID2022'"),
        ([], "no photographs"),
    ],
)
def test_what_is_no_photograph(given, message, predictor):
    with pytest.raises(UserError, match=message):
        predictor.embed(given)


def test_boxes_of_another_form_are_refused(predictor, tmp_path):
    coat(1, 0, 48).save(tmp_path / "1.png")
    rows = {"path": ["1.png"] * 3, "identity": "x", "bbox": [(0.1, 0.1, 0.5, 0.5)] * 3}
    with pytest.raises(UserError, match="look like shares of the photograph"):
        predictor.embed(Catalogue("shares", tmp_path, pd.DataFrame(rows)))


def test_photographs_of_nobody_match_no_other(predictor, tmp_path):
    paths = []
    for name in ("unknown", "ada"):
        for number in range(2):
            paths.append(tmp_path / name / f"{number}.png")
            paths[-1].parent.mkdir(exist_ok=True)
            coat(number, 0, 48).save(paths[-1])
    for given in (paths, [read_image(path) for path in paths]):
        found = predictor.embed(given)
        assert found.column("identity") == [None] * 4
        with pytest.raises(UserError, match="none of the 2 queries"):
            openanimals.evaluate(found.select([0, 1]), found.select([2, 3]))
    named = predictor.embed(f"folder:{tmp_path}")
    assert named.column("identity") == ["ada", "ada", None, None]
    result = openanimals.evaluate(named.select([0, 2]), named.select([1, 3]))
    assert result.matched.tolist() == [True, False]


def test_a_folder_is_not_guessed_at(predictor, tmp_path):
    with pytest.raises(UserError, match=f"is a folder; .*'folder:{tmp_path}'"):
        predictor.embed(str(tmp_path))


def test_features_of_two_models_are_not_mixed(predictor, run):
    folder, _ = run
    plain = openanimals.Predictor(folder, device="cpu", overrides=["TEST.FLIP.ENABLED", False])
    one, other = predictor.embed(HERD), plain.embed(HERD)
    for mix in (openanimals.FeatureSet.concatenate, lambda sets: openanimals.evaluate(*sets)):
        with pytest.raises(UserError, match="cannot be compared"):
            mix([one, other])


def test_scores_are_judged_like_the_features_that_they_are_of(run, tmp_path, monkeypatch):
    folder, _ = run
    query, gallery = load_evaluation(folder, HERD)
    unit = [
        part.features / np.linalg.norm(part.features, axis=1)[:, None] for part in (query, gallery)
    ]
    save_scores(tmp_path, HERD, 1 - unit[0] @ unit[1].T, query.images, gallery.images)
    results = rescore(tmp_path)
    expected = json.loads((folder / "results.json").read_text())
    assert results.keys() == expected.keys()
    for name, result in results.items():
        assert result.mAP == pytest.approx(expected[name]["mAP"], abs=0.5)  # other rounding
    with pytest.raises(UserError, match=r"TEST\.METRIC cannot be changed"):
        rescore(tmp_path, ["TEST.METRIC", "euclidean"])


def test_the_page_of_the_api_runs(run, tmp_path, monkeypatch):
    """Its blocks are one program, run where there are photographs and a run in logs/demo."""
    page = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
    blocks = [text.split("```")[0] for text in page.split("```python\n")[1:]]
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "demo").symlink_to(run[0])
    for number, name in enumerate(("Kesi", "Tau")):
        (tmp_path / "my_photos" / name).mkdir(parents=True)
        for image in (1, 2):
            coat(number, image, 48).save(tmp_path / "my_photos" / name / f"{image}.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile("".join(blocks), "docs/api.md", "exec"), names)
    assert names["features"].shape == (4, 64)
    assert rescore("matched")["my_photos"].mAP == names["result"].mAP
    rescored = rescore("matched")["my_photos"]
    assert rescored.rank(1) == names["result"].rank(1)


def test_public_names():
    assert set(openanimals.__all__) <= {*dir(openanimals), *openanimals._HOMES}
    for name, home in openanimals._HOMES.items():
        assert getattr(openanimals, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match="has no attribute 'lod_model'"):
        openanimals.lod_model  # noqa: B018
