"""Mutilated results and splits: files cut, flipped, exchanged; arrays of other shapes and types.

The oracle: what is refused is refused in words. Of what is read, the features, and the path,
identity, box and date of each photograph, are what was saved, bit for bit (but for numbers of
features, which have no check sum); results that are judged
again, or compared, are those that were written. A split has the rows that its file names.
"""

import itertools
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save

from openanimals.config import load
from openanimals.data.catalogue import Catalogue
from openanimals.data.splits import Split, read_split, write_split
from openanimals.engine.evaluate import write_results
from openanimals.engine.rescore import rescore
from openanimals.evaluation import FeatureSet, evaluate
from openanimals.evaluation.array_io import TIED
from openanimals.evaluation.results_io import load_evaluation, save_evaluation
from openanimals.evaluation.significance import compare_evaluations
from tests.robustness.fuzz import REFUSED, answer, damage, few_and_many, fuzz

NAME = "csv:herd.csv"
SHAPES = ((0, 4), (12, 0), (12,), (12, 4, 1), (11, 4), (13, 4), (12, 4))
ARRAYS = [np.full(s, v, t) for s in SHAPES for v, t in ((0, "f4"), (1, "i8"), (np.nan, "f2"))]


def photographs(part: str, count: int) -> pd.DataFrame:
    """So many of four animals, each with a box, some with a date."""
    rows = [
        {
            "path": f"{part}/{number}.jpg",
            "identity": f"animal {number % 4}",
            "bbox": (float(number), 1.0, 20.0, 15.5),
            "date": None if number % 3 else f"2025-04-{number + 1:02}",
        }
        for number in range(count)
    ]
    return pd.DataFrame(rows, dtype=object)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of an evaluation: its configuration, features, images, rankings and results."""
    folder = tmp_path_factory.mktemp("run")
    draws = np.random.default_rng(0)
    features = [draws.normal(size=(count, 4)).astype("f4") for count in (4, 8)]
    sides = [
        FeatureSet(photographs(part, len(own)), own, "f", NAME)
        for part, own in zip(("query", "gallery"), features, strict=True)
    ]
    cfg = load(None, ["DATASETS.NAMES", (NAME,)])
    (folder / "config.yaml").write_text(cfg.dump())
    results = {NAME: evaluate(*sides)}
    save_evaluation(folder, NAME, *sides, results.values())
    write_results(folder, rescore(folder))
    return folder


@st.composite
def folders(draw, run) -> dict[str, bytes]:
    """The files of an evaluation, one of them damaged, lost, another's, or with another array."""
    files = {path.name: path.read_bytes() for path in sorted(run.iterdir())}
    chosen = draw(st.sampled_from([name for name in files if not name.startswith("results")]))
    features = next(name for name in files if name.endswith(".safetensors"))
    change = draw(st.sampled_from(["damage"] * 4 + ["lost", "other", "array"]))
    if change == "damage":
        files[chosen] = draw(damage(files[chosen]))
    elif change == "lost":
        del files[chosen]
    elif change == "other":
        files[chosen] = files[draw(st.sampled_from(sorted(files)))]
    else:
        with safe_open(run / features, framework="np") as file:
            header = file.metadata()
        name = draw(st.sampled_from(("features", "features", "scores", "x")))
        files[features] = save({name: draw(st.sampled_from(ARRAYS))}, header)
    return files


@few_and_many(50, 150)
def test_evaluations(count, run, tmp_path):
    numbers, whole = itertools.count(), load_evaluation(run, NAME)
    features = next(run.glob("features_*")).name
    kept = "config.yaml", "results.json", features
    config, results, array = ((run / name).read_bytes() for name in kept)

    def holds(files):
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        sides = answer(load_evaluation, folder, NAME)
        both = answer(FeatureSet.load, folder / features)
        assert sides is REFUSED or both is not REFUSED
        if sides is not REFUSED:
            for found, saved in zip(sides, whole, strict=True):
                if files[features] == array:  # mapped, and not read: numbers have no check sum
                    assert found.features.tobytes() == saved.features.tobytes()
                assert found.features.dtype == saved.features.dtype
                for column in (*TIED, "date"):
                    assert repr(found.column(column)) == repr(saved.column(column))
        again = answer(rescore, folder)
        same = files.get("config.yaml") == config and files.get(features) == array
        if again is not REFUSED and same:
            assert (folder / "results_rescored.json").read_bytes() == results
        differences = answer(compare_evaluations, run, folder)
        assert differences is REFUSED or not any(d.difference for d in differences.values())
        shutil.rmtree(folder)
        return sides is not REFUSED

    fuzz(count, folders(run), holds)


@st.composite
def splits(draw, text: bytes) -> bytes:
    """A split file that is damaged, or has an entry of another type, or one more or less."""
    if draw(st.booleans()):
        return draw(damage(text))
    content = json.loads(text)
    part = draw(st.sampled_from([*content]))
    odd = draw(st.sampled_from((None, 1, 1.0, -1, 10**30, "x", "a/1.jpg", True, [], {}, [[], 1])))
    if isinstance(content[part], list) and draw(st.booleans()):
        content[part].insert(draw(st.integers(0, 3)), odd)
    elif draw(st.booleans()):
        content[part] = odd
    else:
        del content[part]
    return json.dumps(content).encode()


@few_and_many(50, 150)
def test_splits(count, tmp_path):
    rows = photographs("a", 12).assign(bbox=None)
    catalogue = Catalogue(NAME, tmp_path, rows)
    split = Split([0, 4, 8, 1, 5, 9], [2, 3], [6, 7, 10, 11])
    file, numbers = tmp_path / "split.json", itertools.count()
    write_split(file, catalogue, split)

    def holds(content):
        path = tmp_path / f"{next(numbers)}.json"
        path.write_bytes(content)
        found = answer(read_split, path, catalogue)
        if found is not REFUSED:
            named = json.loads(content)
            for part in ("train", "query", "gallery"):
                paths = [rows["path"][row] for row in getattr(found, part)]
                assert paths == named[part]
        return found is not REFUSED

    fuzz(count, splits(file.read_bytes()), holds)
