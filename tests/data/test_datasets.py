import sys

import pandas as pd
import pytest

from openanimals.data import datasets
from openanimals.data.catalogue import Catalogue, CatalogueError
from openanimals.data.datasets import DATASET_REGISTRY, load_catalogue
from openanimals.data.datasets.wildlife import class_names
from openanimals.utils.registry import Registry
from tests.data.pictures import save_picture


@pytest.fixture
def registry(monkeypatch):
    """A registry of the test's own in the place of the real one."""
    monkeypatch.setattr(datasets, "DATASET_REGISTRY", Registry("data set"))
    return datasets.DATASET_REGISTRY


def test_folder_and_csv_without_wildlife_datasets(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wildlife_datasets", None)
    save_picture(tmp_path / "cow" / "2025-04-01.jpg")
    (tmp_path / "herd.csv").write_text("path,identity\ncow/2025-04-01.jpg,cow\n")
    pattern = r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
    for name in (f"folder:{tmp_path}", f"csv:{tmp_path / 'herd.csv'}"):
        catalogue = load_catalogue(name, "nowhere", date_pattern=pattern)
        assert catalogue.name == name
        assert catalogue.path(0) == tmp_path / "cow" / "2025-04-01.jpg"
        assert catalogue.column("date") == ["2025-04-01"]


def test_herd_with_options(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wildlife_datasets", None)
    name = "Animals-SyntheticHerd:identities=3, images=2,pixels=32"
    catalogue = load_catalogue(name, tmp_path)
    assert (len(catalogue), len(set(catalogue.identities)), catalogue.name) == (6, 3, name)


def test_a_users_source(registry, tmp_path):
    @registry.register("Animals-Mine")
    def mine(root):
        return Catalogue("mine", root, pd.DataFrame({"path": ["1.jpg"], "identity": [7]}))

    catalogue = load_catalogue("Animals-Mine", tmp_path)
    assert (catalogue.name, catalogue.root) == ("Animals-Mine", tmp_path)
    assert catalogue.identities == ["7"]


def test_a_users_source_must_return_a_catalogue_with_rows(registry, tmp_path):
    registry.register("Nothing")(lambda root: None)
    registry.register("Empty")(
        lambda root: Catalogue("", root, pd.DataFrame({"path": [], "identity": []}))
    )
    with pytest.raises(CatalogueError, match="returned a NoneType; expected a Catalogue"):
        load_catalogue("Nothing")
    with pytest.raises(CatalogueError, match=f"Empty: no image in {tmp_path}"):
        load_catalogue("Empty", tmp_path)


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("Markt1501", "Market1501"),
        ("Animals-SynteticHerd:images=3", "Animals-SyntheticHerd"),
        ("animals-hyenaid2022", "Animals-HyenaID2022"),
        ("hyenaid2022", "Animals-HyenaID2022"),
        ("folder", "folder:DIR"),
        ("csv:", "csv:FILE"),
    ],
)
def test_unknown_names_get_the_closest_and_all_forms(name, closest):
    with pytest.raises(CatalogueError, match=rf"{name}' \(did you mean '{closest}'\?\)") as error:
        load_catalogue(name)
    for known in [*DATASET_REGISTRY, "folder:DIR", "csv:FILE", "Animals-<Class"]:
        assert known in str(error.value)


def test_a_path_without_its_form_is_recognised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "herd.csv").touch()
    with pytest.raises(CatalogueError, match=r"did you mean 'folder:photos'"):
        load_catalogue("photos")
    with pytest.raises(CatalogueError, match=r"did you mean 'csv:herd.csv'"):
        load_catalogue("herd.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("identites=3", r"option 'identites' \(did you mean 'identities'\?\); known: identities"),
        ("identities=many", "identities is 'many'; expected a whole number from 2"),
        ("images", "images is ''; expected a whole number"),
        ("images=2.5", "images is '2.5'; expected a whole number"),
        ("images=1", "images is 1; expected a whole number from 2 to 999"),
    ],
)
def test_wrong_options_of_the_herd(options, message):
    with pytest.raises(ValueError, match=message):
        load_catalogue(f"Animals-SyntheticHerd:{options}")


def test_every_class_of_wildlife_datasets_is_passed_on(monkeypatch, tmp_path):
    asked = []

    def read(class_name, root):
        asked.append((class_name, root))
        return Catalogue("", root, pd.DataFrame({"path": ["1.jpg"], "identity": ["a"]}))

    monkeypatch.setattr("openanimals.data.datasets.wildlife.read", read)
    for class_name in class_names():
        load_catalogue(f"Animals-{class_name}", tmp_path)
    assert asked == [(class_name, tmp_path) for class_name in class_names()]
