"""What an evaluation leaves is enough to judge it again and to compare it. By command line."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from openanimals import cli
from openanimals.engine import train as run
from openanimals.engine.loading import config_from_checkpoint
from openanimals.evaluation.array_io import beside, read_table, saved_file
from openanimals.evaluation.results_io import load_evaluation, save_scores
from tests.engine.photographs import animals, source
from tests.engine.tiny_run import tiny_cfg
from tests.evaluation import distances


def photographs():
    """Six images of each individual to be found, two a day; the first is the query."""
    rows = animals("train", 6) + animals("gallery", 5, each=6)
    for number, row in enumerate(rows):
        row["date"] = f"2025-04-0{1 + number % 6 // 2}T09:{number:02}:00"
        row["viewpoint"] = ("left", "right")[(number + number // 6) % 2]
    return rows


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders of a run and of one with another seed."""
    data = tmp_path_factory.mktemp("photographs")
    name = source(data, photographs())
    folders = []
    for seed in range(2):
        folders.append(tmp_path_factory.mktemp(f"run{seed}"))
        keys = {"DATASETS__NAMES": (name,), "SEED": seed, "SOLVER__MAX_EPOCH": 1}
        run.train(tiny_cfg(folders[-1], data, TEST__ROC__ENABLED=True, **keys))
    weights = str(folders[0] / "model_final.pth")
    run.evaluate_only(config_from_checkpoint(weights, ["MODEL.WEIGHTS", weights]))
    shutil.rmtree(data)  # nothing below needs the photographs
    return name, *folders


@pytest.mark.parametrize("evaluation", ["", "eval_model_final"])
def test_rescoring_by_the_same_keys_gives_the_same_file(runs, capsys, evaluation):
    name, folder, _ = runs
    folder = folder / evaluation
    assert cli.main(["rescore", str(folder)]) == 0
    original = (folder / "results.json").read_bytes()
    assert (folder / "results_rescored.json").read_bytes() == original
    written = json.loads(original)
    assert list(written) == [name, f"{name} (encounter)"]
    assert written[name]["mAP"] > 0 and written[name]["queries"] == 5
    assert f"{written[name]['mAP']:.2f}" in capsys.readouterr().out


def test_rescoring_by_other_keys(runs):
    name, folder, _ = runs
    original = (folder / "results.json").read_bytes()
    keys = ["TEST.PROTOCOL", "encounter", "TEST.METRIC", "euclidean", "TEST.RERANK.ENABLED", "True"]
    assert cli.main(["rescore", str(folder), *keys]) == 0
    written = json.loads((folder / "results_rescored.json").read_bytes())
    assert list(written) == [name, f"{name} (paper)"]
    assert written[name]["protocol"] == "encounter by date"
    assert written[name]["metric"] == "euclidean, re-ranked (k1 20, k2 6, lambda 0.3)"
    assert cli.main(["rescore", str(folder), "TEST.PCA", "3"]) == 0
    written = json.loads((folder / "results_rescored.json").read_bytes())
    assert written[name]["metric"] == "PCA 3, cosine"
    assert cli.main(["rescore", str(folder), "TEST.PROTOCOL", "flank"]) == 0
    written = json.loads((folder / "results_rescored.json").read_bytes())
    assert {f"{name} (flank {side})" for side in ("left", "right")} < set(written)
    assert (folder / "results.json").read_bytes() == original


def test_curves_show_the_first_protocol_only(runs):
    name, folder, _ = runs
    curves = (folder / "metrics.json").read_text()
    assert f"{name}/mAP" in curves and "(encounter)" not in curves


def test_what_is_saved_are_the_results_own_rankings(runs):
    name, folder, _ = runs
    rankings = read_table(beside(saved_file(folder, "features", name), "rankings"))
    query, gallery = load_evaluation(folder, name)
    assert rankings["protocol"].tolist() == ["paper"] * 5 + ["encounter by date"] * 5
    assert (len(query), len(gallery)) == (5, 25)
    paper = rankings[:5]
    reported = json.loads((folder / "results.json").read_text())[name]
    assert 100 * np.mean(paper["average_precision"]) == pytest.approx(reported["mAP"])
    one, other = (
        part.features / np.linalg.norm(part.features, axis=1, keepdims=True)
        for part in (query, gallery)
    )
    names = np.array(gallery.column("identity"))[(one @ other.T).argmax(axis=1)]
    assert (paper["first_hit"] == 1).tolist() == (names == paper["identity"]).tolist()


def test_features_may_be_stored_in_half(tmp_path, tmp_path_factory):
    data = tmp_path_factory.mktemp("photographs")
    keys = {"DATASETS__NAMES": (source(data, photographs()),), "TEST__STORE": "float16"}
    run.train(tiny_cfg(tmp_path, data, SOLVER__MAX_EPOCH=1, **keys))
    assert load_evaluation(tmp_path, keys["DATASETS__NAMES"][0])[1].features.dtype == np.float16
    assert cli.main(["rescore", str(tmp_path)]) == 0


def test_scores_are_judged_like_features(runs, tmp_path, capsys):
    """A matcher without features: a folder of its own, and no configuration."""
    name, folder, _ = runs
    query, gallery = load_evaluation(folder, name)
    scores = distances(query.features, gallery.features)
    save_scores(tmp_path, name, scores, query.images, gallery.images)
    assert cli.main(["rescore", str(tmp_path), "TEST.ROC.ENABLED", "True"]) == 0
    written = json.loads((tmp_path / "results_rescored.json").read_bytes())
    expected = json.loads((folder / "results.json").read_bytes())
    for title, result in expected.items():
        assert written[title] == {**result, "metric": "given scores"}
    keys = ["TEST.PROTOCOL", "flank"]
    assert cli.main(["rescore", str(tmp_path), *keys]) == 0
    written = json.loads((tmp_path / "results_rescored.json").read_bytes())
    assert {f"{name} (flank {side})" for side in ("left", "right")} < set(written)
    for key, value in (("TEST.METRIC", "euclidean"), ("TEST.RERANK.ENABLED", "True")):
        error = refused(capsys, "rescore", tmp_path, key, value)
        assert f"{key} cannot be changed any more: the scores are what they are" in error


def refused(capsys, *arguments):
    assert cli.main(list(map(str, arguments))) == 2
    return capsys.readouterr().err


def test_what_cannot_be_rescored(runs, capsys, tmp_path):
    name, folder, _ = runs
    keys = ["TEST.FLIP.ENABLED", True, "INPUT.SIZE_TEST", "[8, 8]", "TEST.METRIC", "euclidean"]
    error = refused(capsys, "rescore", folder, *keys)
    assert "TEST.FLIP.ENABLED cannot" in error and "INPUT.SIZE_TEST cannot" in error
    assert "TEST.METRIC cannot" not in error and "TEST.ENCOUNTER.*" in error
    assert "did you mean 'TEST.METRIC'" in refused(capsys, "rescore", folder, "TEST.METRC", "x")
    assert "did you mean 'TEST.AQE.ALPHA'" in refused(capsys, "rescore", folder, "TEST.AQE.ALPA", 1)
    assert "config.yaml; expected the output folder" in refused(capsys, "rescore", tmp_path)
    (tmp_path / "config.yaml").write_bytes(b"\xff")
    assert "config.yaml: cannot be read" in refused(capsys, "rescore", tmp_path)
    shutil.copy(folder / "config.yaml", tmp_path)
    assert "no saved features at" in refused(capsys, "rescore", tmp_path)


def test_comparing_two_runs(runs, capsys):
    name, *folders = runs
    assert cli.main(["compare", *map(str, folders)]) == 0
    header, _, *rows, legend = capsys.readouterr().out.splitlines()
    assert [row.split("  ")[0] for row in rows] == [
        f"{name}, {protocol}, {measure}"
        for protocol in ("paper", "encounter by date")
        for measure in ("Rank-1", "mAP")
    ]
    first, second = (json.loads((f / "results.json").read_text())[name]["mAP"] for f in folders)
    values = rows[1].removeprefix(f"{name}, paper, mAP").split()
    assert values[:3] == [f"{first:.2f}", f"{second:.2f}", f"{second - first:+.2f}"]
    assert values[-2:] == ["5", "5"] and 1 / 2**5 <= float(values[-3]) <= 1


def test_what_cannot_be_compared(runs, capsys, tmp_path, tmp_path_factory):
    name, folder, _ = runs
    assert "no rankings_*.parquet in" in refused(capsys, "compare", folder, tmp_path)
    rows = [row for row in photographs() if row["path"] != "test2_3.png"]
    data = tmp_path_factory.mktemp("others")
    keys = {"DATASETS__NAMES": (source(data, rows),), "SOLVER__MAX_EPOCH": 1}
    other = tmp_path / "other"
    run.train(tiny_cfg(other, data, **keys))
    assert "expected the same test sets" in refused(capsys, "compare", folder, other)


def test_other_images_under_the_same_name(runs, capsys, tmp_path):
    name, folder, other = runs
    shutil.copytree(other, tmp_path / "run")
    (file,) = (tmp_path / "run").glob("images_*")
    rows = pd.read_parquet(file)
    rows.loc[rows["path"].str.contains("test1_4"), "identity"] = "test2"
    rows.to_parquet(file)
    assert "of another catalogue" in refused(capsys, "rescore", tmp_path / "run")
    (file,) = (tmp_path / "run").glob("rankings_*")
    rankings = pd.read_parquet(file)
    rankings.attrs["images"] = "others"
    rankings.to_parquet(file)
    error = refused(capsys, "compare", folder, tmp_path / "run")
    assert f"are not of the same images of {name}" in error
