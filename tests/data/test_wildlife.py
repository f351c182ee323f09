import hashlib
import json
import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError

import pandas as pd
import pytest

from openanimals.data.catalogue import Catalogue, CatalogueError
from openanimals.data.datasets import wildlife
from openanimals.data.splits import source_split
from tests.data import wildlife_fixtures as fixtures

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # in the package

MAKERS = {
    "HyenaID2022": fixtures.make_hyena,
    "LeopardID2022": fixtures.make_leopard,
    "WhaleSharkID": fixtures.make_whaleshark,
    "SeaTurtleIDHeads": fixtures.make_seaturtle,
    "NyalaData": fixtures.make_nyala,
}


@pytest.fixture
def data(tmp_path):
    """An empty data root."""
    root = tmp_path / "data"
    root.mkdir()
    return root


@pytest.fixture
def parsed(monkeypatch):
    """The folders that wildlife-datasets was asked to parse, in order."""
    folders, scan = [], wildlife.scan
    monkeypatch.setattr(wildlife, "scan", lambda *a: folders.append(a[1]) or scan(*a))
    return folders


# What the real classes make of the real layouts


@pytest.mark.parametrize("class_name", MAKERS)
def test_reads_the_real_layout_and_then_the_cache(package, data, parsed, class_name, monkeypatch):
    folder = MAKERS[class_name](data, identities=3, images=4)
    catalogue = wildlife.read(class_name, data)
    assert catalogue.name == f"Animals-{class_name}"
    assert catalogue.root == folder
    assert len(catalogue) == 12
    assert pd.Series(catalogue.identities).value_counts().tolist() == [4, 4, 4]
    assert all(catalogue.path(row).is_file() for row in range(12))
    assert {"left", "right"} <= set(catalogue.column("viewpoint"))
    assert catalogue.column("camera") == [None] * 12
    # The order is that of the package.
    frame = getattr(package, class_name)(str(folder)).df
    assert catalogue.column("path") == list(frame["path"])
    assert catalogue.identities == [str(value) for value in frame["identity"]]
    monkeypatch.delattr(wildlife, "dataset_class")  # the only place that imports the package
    again = wildlife.read(class_name, data)  # from the cache
    assert parsed == [folder]
    pd.testing.assert_frame_equal(again.table, catalogue.table)
    assert (again.name, again.root) == (catalogue.name, catalogue.root)


def test_columns_of_the_coco_species(package, data):
    fixtures.make_hyena(data, identities=2, images=2, unknown=1)
    catalogue = wildlife.read("HyenaID2022", data)
    assert catalogue.identities == ["hyena-00", "hyena-00", "hyena-01", "hyena-01", "unknown"]
    assert catalogue.column("bbox") == [(12.0, 12.0, 48.0, 48.0)] * 5
    assert catalogue.column("date") == [None, "2021-05-02T12:00:00"] * 2 + [None]
    assert catalogue.column("species") == ["hyena"] * 5
    assert catalogue.column("path")[0] == "hyena.coco/images/train2022/000000000000.jpg"


def test_dates_of_turtles_and_names_of_nyala(package, data):
    fixtures.make_seaturtle(data, identities=1, images=2)
    fixtures.make_nyala(data, identities=2, images=2)
    turtles = wildlife.read("SeaTurtleIDHeads", data)
    assert turtles.column("date") == ["2016-07-01", "2016-07-02"]
    nyala = wildlife.read("NyalaData", data)
    assert set(nyala.identities) == {"0", "1"}  # integers in the package
    # Its train and test folders name no queries, so they are no re-identification split.
    assert nyala.column("split") == [path.split("/")[2] for path in nyala.column("path")]
    assert source_split(nyala) is None
    assert sorted(nyala.column("sequence")) == ["0", "0", "10", "10"]


def test_real_nyala(package, shared):
    catalogue = wildlife.read("NyalaData", shared / "data")
    assert len(catalogue) == 1942
    assert len(set(catalogue.identities)) == 237
    encounters = catalogue.table.groupby("sequence")
    assert len(encounters) == 996
    both = encounters["viewpoint"].nunique().eq(2) & encounters["identity"].nunique().eq(1)
    assert both.sum() == 938


# Names


def test_class_names_are_those_of_the_package(package):
    expected = {
        name
        for name, thing in vars(package).items()
        if isinstance(thing, type)
        and issubclass(thing, package.WildlifeDataset)
        and thing not in (package.WildlifeDataset, package.DatasetFactory)
    }
    assert wildlife.class_names() == sorted(expected)


def test_unknown_class(package, data):
    with pytest.raises(CatalogueError, match=r"no class 'HyenaID2020' \(did you mean 'Hy"):
        wildlife.read("HyenaID2020", data)
    with pytest.raises(CatalogueError, match="no class 'Qxz'; it has .*WhaleSharkID"):
        wildlife.read("Qxz", data)


def test_package_not_installed(data, monkeypatch):
    def missing(_):
        raise PackageNotFoundError

    monkeypatch.setattr(wildlife, "version", missing)
    with pytest.raises(CatalogueError, match="pip install 'wildlife-datasets>=1.0.8,<1.0.9'"):
        wildlife.read("HyenaID2022", data)
    monkeypatch.setattr(wildlife.importlib.util, "find_spec", lambda _: None)
    assert wildlife.class_names() == []


@pytest.mark.parametrize(
    ("cause", "remedy"),
    [
        (
            "libGL.so.1: cannot open shared object file: No such file or directory",
            "pip install opencv-python-headless",
        ),
        ("No module named 'gdown'", "pip install --upgrade 'wildlife-datasets"),
    ],
)
def test_package_that_cannot_be_imported(data, monkeypatch, cause, remedy):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "wildlife_datasets":
                raise ImportError(cause)

    monkeypatch.setattr(wildlife, "class_names", lambda: ["HyenaID2022"])
    for name in [name for name in sys.modules if name.startswith("wildlife_datasets")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    fixtures.make_hyena(data, identities=1, images=1)
    with pytest.raises(CatalogueError) as error:
        wildlife.read("HyenaID2022", data)
    assert cause in str(error.value)
    assert remedy in str(error.value)


def test_pictures_outside_files(package):
    with pytest.raises(CatalogueError, match="Chicks4FreeID.*Hugging Face.*folder:DIR"):
        wildlife.dataset_class("Chicks4FreeID")


# Data that is not there


def test_no_data(package, data):
    for _ in range(2):
        with pytest.raises(CatalogueError) as error:
            wildlife.read("HyenaID2022", os.path.relpath(data))
        message = str(error.value)
        assert f"no data in {data}/HyenaID2022" in message  # absolute, though asked by a relative
        assert "python tools/prepare_data.py Animals-HyenaID2022 --root " in message
        assert "DATASETS.ROOT" in message
        assert "REID_DATASETS" in message
        (data / "HyenaID2022").mkdir(exist_ok=True)  # an empty one is no better


def test_missing_images_and_annotations(package, data, capsys):
    folder = fixtures.make_hyena(data, identities=2, images=2)
    gone = "hyena.coco/images/train2022/000000000001.jpg"
    (folder / gone).unlink()
    with pytest.raises(CatalogueError, match=f"1 of 4 files are missing.*{gone}"):
        wildlife.read("HyenaID2022", data)
    assert capsys.readouterr().out == ""
    shutil.rmtree(folder / "hyena.coco/annotations")
    with pytest.raises(CatalogueError, match="instances_train2022.json") as error:
        wildlife.read("HyenaID2022", data)
    assert f"move {folder} away, then python tools/prepare_data.py" in str(error.value)


# The published sets


@pytest.mark.parametrize("class_name", ["HyenaID2022", "WhaleSharkID"])
def test_published_digests(shared, class_name):
    text = (shared / "partitions" / f"{class_name}.identities.txt").read_text()
    identities = text.splitlines()
    digest = hashlib.sha256("\n".join(identities).encode()).hexdigest()
    published = len(identities), len(set(identities)), digest
    assert wildlife.PUBLISHED[class_name] == published


def test_published_set_is_silent_and_another_order_is_not(shared, caplog):
    text = (shared / "partitions" / "HyenaID2022.identities.txt").read_text()
    table = pd.DataFrame({"identity": text.splitlines()})
    table["path"] = [f"{row}.jpg" for row in range(len(table))]
    catalogue = Catalogue("Animals-HyenaID2022", ".", table)
    wildlife._warn_if_not_published("HyenaID2022", catalogue)
    assert not caplog.records
    wildlife._warn_if_not_published("HyenaID2022", catalogue.select(range(len(table))[::-1]))
    assert "in its order" in caplog.text


def test_warns_at_every_start_about_another_set(package, data, caplog):
    fixtures.make_leopard(data, identities=2, images=2, unknown=1)
    for _ in range(2):
        caplog.clear()
        wildlife.read("LeopardID2022", data)
        assert "5 images of 2 individuals" in caplog.text
        assert "6825 of 430" in caplog.text


# The cache


@pytest.mark.parametrize("change", ["fewer rows", "image gone", "new image"])
def test_changed_data_is_parsed_again(package, data, parsed, change):
    folder = fixtures.make_hyena(data, identities=2, images=2) / "hyena.coco"
    wildlife.read("HyenaID2022", data)
    if change == "new image":
        (folder / "images/train2022/new.jpg").touch()
    else:
        file = folder / "annotations/instances_train2022.json"
        content = json.loads(file.read_text())
        content["annotations"].pop()
        file.write_text(json.dumps(content))
    if change == "image gone":
        (folder / "images/train2022/000000000003.jpg").unlink()
    wildlife.read("HyenaID2022", data)
    assert len(parsed) == 2


@pytest.mark.parametrize(("name", "older"), [("version", lambda _: "1.0.7"), ("_FORMAT", 2)])
def test_a_cache_of_another_version_or_format_is_not_used(
    package, data, parsed, monkeypatch, name, older
):
    fixtures.make_hyena(data, identities=1, images=2)
    with monkeypatch.context() as before:
        before.setattr(wildlife, name, older)
        wildlife.read("HyenaID2022", data)
    wildlife.read("HyenaID2022", data)
    assert len(parsed) == 2


@pytest.mark.parametrize("damage", ["", "[]", "\udcff"])
def test_damaged_cache_is_built_again(package, data, parsed, damage):
    fixtures.make_hyena(data, identities=1, images=2)
    first = wildlife.read("HyenaID2022", data)
    file = data / ".openanimals" / "HyenaID2022.json"
    file.write_bytes(damage.encode(errors="surrogateescape"))
    for _ in range(2):
        assert wildlife.read("HyenaID2022", data).digest() == first.digest()
    assert len(parsed) == 2


def test_write_protected_data_is_cached_for_the_user(package, data, tmp_path, parsed):
    fixtures.make_hyena(data, identities=1, images=2)
    data.chmod(0o555)
    try:
        for _ in range(2):
            wildlife.read("HyenaID2022", data)
        assert [file.name for file in data.iterdir()] == ["HyenaID2022"]
    finally:
        data.chmod(0o755)
    assert len(parsed) == 1
    assert list((tmp_path / "user-cache/openanimals/catalogues").iterdir())
    data.rename(tmp_path / "elsewhere")
    assert wildlife.read("HyenaID2022", tmp_path / "elsewhere").path(0).is_file()


def test_no_place_for_a_cache(package, data, monkeypatch, caplog, parsed):
    fixtures.make_hyena(data, identities=1, images=2)
    blocked = data / "blocked"
    blocked.touch()
    monkeypatch.setattr(wildlife, "_cache_files", lambda _: [blocked / "x.json"])
    assert len(wildlife.read("HyenaID2022", data)) == 2
    assert "could not be cached" in caplog.text
