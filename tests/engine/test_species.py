"""Shipped configs on species in their real layouts, and a user's own photographs and tables."""

import csv
import json

import pytest

from openanimals.data.datasets import wildlife
from openanimals.data.splits import Split, paper_partition, read_split
from tests.conftest import REPOSITORY
from tests.data import wildlife_fixtures as fixtures
from tests.engine.tiny_run import BASE, HERD, command
from tests.processes import run

pytestmark = [
    pytest.mark.cli,
    pytest.mark.filterwarnings("ignore:The inplace keyword"),  # in wildlife-datasets
]

SPECIES = {
    "hyena": ("HyenaID2022", fixtures.make_hyena, {"unknown": 3}),
    "leopard": ("LeopardID2022", fixtures.make_leopard, {"unknown": 3}),
    "seaturtle": ("SeaTurtleIDHeads", fixtures.make_seaturtle, {}),
    "whaleshark": ("WhaleSharkID", fixtures.make_whaleshark, {"unknown": 3}),
    "nyala": ("NyalaData", fixtures.make_nyala, {}),
}


@pytest.mark.parametrize("name", SPECIES)
def test_shipped_config_trains_and_evaluates(name, tmp_path):
    pytest.importorskip("wildlife_datasets.datasets", exc_type=ImportError)
    class_name, make, options = SPECIES[name]
    data = tmp_path / "data"
    make(data, identities=8, images=5, **options)
    catalogue = wildlife.read(class_name, data)  # by the real class; later starts read the cache
    train, query, gallery = paper_partition(catalogue.identities)

    config = REPOSITORY / f"configs/ARBase/{name}.yml"
    keys = {"DATASETS__NAMES": None, "DATASETS__ROOT": None}
    arguments = command(tmp_path / "out", data, config=config, **keys)
    finished = run(arguments, REID_DATASETS=str(data))
    assert finished.returncode == 0, finished.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())[f"Animals-{class_name}"]
    assert (results["queries"], results["gallery"]) == (len(query), len(gallery))
    assert read_split(tmp_path / "out/split.json", catalogue) == Split(train, query, gallery)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with photographs, one sub-folder an individual, and a table of them."""
    folder = tmp_path_factory.mktemp("own")
    rows = []
    for identity in range(8):
        for image in range(5):
            path = folder / f"photos/animal{identity}/{image}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            fixtures.coat(identity, image, 48).save(path)
            rows.append({"path": path.relative_to(folder), "identity": f"animal{identity}"})
    with open(folder / "photos.csv", "w", newline="") as file:
        table = csv.DictWriter(file, ["path", "identity"])
        table.writeheader()
        table.writerows(rows)
    return folder


@pytest.mark.parametrize("source", ["folder:photos", "csv:photos.csv", HERD])
def test_own_config_of_three_lines_needs_no_wildlife_datasets(source, own, tmp_path, herd_root):
    config = tmp_path / "mine.yml"
    lines = [f"_BASE_: {BASE}", f"DATASETS: {{NAMES: ['{source}']}}", f"OUTPUT_DIR: {tmp_path}/out"]
    config.write_text("\n".join(lines))
    keys = {"DATASETS__NAMES": None, "OUTPUT_DIR": None, "IMPORTS": ["tests.engine.no_wildlife"]}
    finished = run(command(tmp_path, herd_root, config=config, **keys), cwd=own)
    assert finished.returncode == 0, finished.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())
    dated = source == HERD
    assert list(results) == [source, *([f"{source} (encounter)"] if dated else [])]
    assert results[source]["queries"] in (8, 12)  # two of each individual in the test half
