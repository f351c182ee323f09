"""From photographs to a corrected catalogue, by commands; and features that are computed once."""

import json
from zlib import crc32

import numpy as np
import openpyxl
import pandas as pd
import pytest
from PIL import Image

from openanimals.cli import main
from openanimals.data.catalogue import Catalogue
from openanimals.engine.matchers import CatalogueImages
from openanimals.evaluation import FeatureSet
from openanimals.identification import kept_features
from openanimals.identification.catalogue_file import (
    as_catalogue,
    as_table,
    from_catalogue,
    read_catalogue,
)
from openanimals.identification.kept_features import KeptFeatures
from openanimals.matching.matcher import MATCHER_REGISTRY
from openanimals.utils.errors import UserError
from tests.identification.importing.importing_fixtures import photograph
from tests.identification.planted import Planted


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setitem(MATCHER_REGISTRY._entries, "planted", lambda cfg: Planted(0.07))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of known animals, one of new photographs; the commands run beside them."""
    monkeypatch.chdir(tmp_path)
    animals = ["ada", "bo", "cleo", "dan", "eve", "fay"]
    files = [f"known/{name}/{name}_{n}.png" for name in animals for n in range(4)]
    files += [f"new/{name}_9.png" for name in ("ada", "bo", "stranger", "007")]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), tuple(np.frombuffer(file.encode()[-3:], np.uint8))).save(file)
    return tmp_path


def run(*arguments) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def test_from_photographs_to_a_corrected_catalogue(place, planted, capsys):
    run("import", "known", "--to", "herd.csv")
    assert "6 individuals" in capsys.readouterr().out
    run("catalogue", "herd.csv", "--add", "new")
    asked = ("--catalogue", "herd.csv", "--matcher", "planted", "--wrong-names", "0.05")
    run("identify", *asked)
    found = json.loads((place / "matches/matches.json").read_text())["matches"]
    best = {m["annotations"][0]: m["candidates"][0]["name"] for m in found}
    assert best["new/ada_9.png"] == "ada" and best["new/bo_9.png"] == "bo"
    written = ("csv", "xlsx", "json", "html")
    assert all((place / f"matches/matches.{kind}").is_file() for kind in written)
    assert "matches/matches.html" in capsys.readouterr().out

    book = openpyxl.load_workbook("matches/matches.xlsx")
    sheet = book.active
    header = [cell.value for cell in sheet[1]]
    for row in sheet.iter_rows(min_row=2):
        file = row[header.index("file")].value
        answers = {"new/stranger_9.png": "Zoe", "new/007_9.png": "new", "new/ada_9.png": "ada"}
        row[header.index("reviewed")].value = answers.get(file)
    book.save("matches/matches.xlsx")
    capsys.readouterr()
    run("catalogue", "herd.csv", "--apply", "matches/matches.xlsx", "--by", "Ann")
    said = capsys.readouterr().out
    assert "Zoe" in said and "1 of nobody known" in said  # bo was not reviewed
    run("catalogue", "herd.csv", "--rename", "Zoe", "Zuri", "--by", "Ann")
    run("catalogue", "herd.csv", "--history", "Zuri")
    assert "rename Zoe Zuri" in capsys.readouterr().out
    run("catalogue", "herd.csv", "--export", "csv", "--to", "after.csv")
    after = read_catalogue("after.csv").set_index("path")["identity"]
    assert after["new/stranger_9.png"] == "Zuri"
    assert after["new/007_9.png"].startswith("new-")
    assert after["new/ada_9.png"] == "ada"
    assert after["new/bo_9.png"] is None
    # What is decided counts from now on: only bo is left to identify.
    run("identify", *asked, "--no-page", "--to", "again")
    (left,) = json.loads((place / "again/matches.json").read_text())["matches"]
    assert left["annotations"] == ["new/bo_9.png"]
    # Of whom nobody can tell, it is not asked again.
    table = pd.read_csv("again/matches.csv", dtype=str).assign(reviewed="?")
    table.to_csv("again/matches.csv", index=False)
    run("catalogue", "herd.csv", "--apply", "again/matches.csv", "--by", "Ann")
    assert main(["identify", *asked, "--to", "again"]) == 2
    said = capsys.readouterr()
    assert "nobody can tell who it is: 1 photographs" in said.out + said.err
    assert "no photograph is left" in said.err


def test_what_was_proposed_can_be_accepted_but_for_rows_that_were_removed(place, planted):
    run("import", "known", "--to", "herd.csv")
    run("catalogue", "herd.csv", "--add", "new")
    asked = ("--catalogue", "herd.csv", "--matcher", "planted", "--no-page")
    run("identify", *asked, "MATCHING.SIZE", "300", "--wrong-names", "0.05")  # also after keys
    found = json.loads((place / "matches/matches.json").read_text())["matches"]
    named = {m["annotations"][0]: m["proposed"] for m in found if m["decision"] == "known"}
    removed, _ = named.popitem()
    lines = (place / "matches/matches.csv").read_text().splitlines(keepends=True)
    (place / "matches/matches.csv").write_text("".join(x for x in lines if removed not in x))
    run("catalogue", "herd.csv", "--apply", "matches/matches.csv", "--accept", "--by", "Ann")
    run("catalogue", "herd.csv", "--export", "csv", "--to", "after.csv")
    after = read_catalogue("after.csv").set_index("path")["identity"]
    assert named and {path: after[path] for path in named} == named
    assert after[removed] is None


def test_a_photograph_under_two_names_is_told_until_they_are_one(tmp_path, capsys):
    for name in ("ada", "bo"):
        photograph(tmp_path / name / "1.png", colour=1)
        photograph(tmp_path / name / "2.png")
    catalogue = tmp_path / "herd.csv"
    told = "in the catalogue under two names: 1 (ada/1.png = bo/1.png (ada, bo))"
    run("import", tmp_path, "--to", catalogue)
    assert told in capsys.readouterr().out
    run("catalogue", catalogue)
    assert told in capsys.readouterr().out
    run("catalogue", catalogue, "--merge", "ada", "bo", "--by", "Ann")
    assert "under two names" not in capsys.readouterr().out


def test_bad_input_is_one_clear_error(place, capsys):
    run("import", "known", "--to", "herd.csv")
    capsys.readouterr()
    for arguments, message in (
        (
            ["identify", "--catalogue", "herd.csv"],
            "no photograph is left without a name",
        ),
        (["identify", "--catalogue", "herd.csv", "--new", "new", "--matcher", "locl"], "'local'?"),
        (
            ["identify", "--catalogue", "herd.csv", "--new", "new", "--matcher", "cosine"],
            "add --model",
        ),
        (["identify", "--catalogue", "herd.csv", "--new", "new", "--camera", "A"], "it has: none"),
        (["catalogue", "herd.csv", "--merge", "ada", "boo", "--by", "Ann"], "did you mean 'bo'?"),
        (["catalogue", "herd.csv", "--merge", "ada", "bo"], "who decides? Add --by"),
        (
            ["catalogue", "herd.csv", "--split", "ada", "known/bo/bo_1.png", "--by", "Ann"],
            "known/bo/bo_1.png is called bo, so it cannot be taken from ada",
        ),
        (["catalogue", "herd.csv", "--export", "coco"], "where to? Add --to"),
        (
            ["import", "known", "--to", "herd.csv", "--column", "identity"],
            "expected two names with =",
        ),
        (
            ["evaluate-identification", "--catalogue", "herd.csv", "--individuals", "6"],
            "one at least must stay a stranger",
        ),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error


class Counting:
    """A model whose features are of a file's name; it counts, and may be killed."""

    fingerprint = "one"

    def __init__(self, most=10**9):
        self.computed, self.most = 0, most

    def embed(self, images):
        if self.computed + len(images) > self.most:
            raise KeyboardInterrupt
        self.computed += len(images)
        values = [[crc32(path.encode()), 1.0] for path in images.table["path"]]
        return FeatureSet(images.table, np.array(values, np.float32), self.fingerprint)


def test_only_new_photographs_are_embedded_also_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_features, "CHUNK", 100)
    for n in range(260):
        (tmp_path / f"{n}.jpg").write_bytes(b"x" * n)

    def images(count):
        table = as_table([{"path": f"{n}.jpg"} for n in range(count)])
        return CatalogueImages(as_catalogue(table, tmp_path))

    def keep(model):
        return KeptFeatures(model, "run", tmp_path / "herd.features")

    killed = Counting(most=200)
    with pytest.raises(KeyboardInterrupt):
        keep(killed).prepare(images(250))
    again = Counting()
    features = keep(again).prepare(images(250))
    assert again.computed == 50
    assert features[:, 0].tolist() == [np.float32(crc32(f"{n}.jpg".encode())) for n in range(250)]
    third = Counting()
    keep(third).prepare(images(260))
    assert third.computed == 10
    (tmp_path / "3.jpg").write_bytes(b"changed")
    (tmp_path / "4.jpg").unlink()
    fourth = keep(Counting())
    assert np.isnan(fourth.prepare(images(260))[4]).all()
    assert fourth.predictor.computed == 1

    other = Counting()
    other.fingerprint = "two"
    with pytest.raises(UserError, match=r"of the model run \(one\), and these are of run \(two\)"):
        keep(other).prepare(images(10))


def test_a_catalogue_reads_as_the_table_of_its_file(tmp_path):
    table = pd.DataFrame({"path": ["a.jpg"], "identity": ["x"], "bbox": [(1.0, 2.0, 3.0, 4.5)]})
    found = from_catalogue(Catalogue("c", tmp_path, table))
    assert found["bbox"].tolist() == ["1 2 3 4.5"]
    assert found["path"].tolist() == [str(tmp_path / "a.jpg")]


def test_folders_of_new_photographs_are_places_and_their_visits_pooled(place, planted, capsys):
    run("import", "known", "--to", "herd.csv")
    for camera in ("StationA", "StationB"):
        for second in (1, 2):
            path = place / "visits" / camera / f"IMG_20250401_10000{second}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (second, len(camera), ord(camera[-1]))).save(path)
    run("catalogue", "herd.csv", "--add", "visits")
    run("identify", "--catalogue", "herd.csv", "--matcher", "planted", "--no-page")
    found = json.loads((place / "matches/matches.json").read_text())["matches"]
    assert [(len(m["annotations"]), m["place"]) for m in found] == [
        (2, "StationA"),
        (2, "StationB"),
    ]
