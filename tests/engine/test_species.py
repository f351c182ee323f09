"""Shipped configs on species in their real layouts, and a user's own photographs and tables."""

import json

import pytest

from openanimals.cli import main
from openanimals.data.datasets import wildlife
from openanimals.data.splits import Split, paper_partition, read_split
from tests.conftest import REPOSITORY
from tests.data import wildlife_fixtures as fixtures
from tests.engine.tiny_run import BASE, command
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
def test_shipped_config_trains_and_evaluates(name, tmp_path, monkeypatch):
    pytest.importorskip("wildlife_datasets.datasets", exc_type=ImportError)
    class_name, make, options = SPECIES[name]
    data = tmp_path / "data"
    make(data, identities=8, images=5, **options)
    catalogue = wildlife.read(class_name, data)  # by the real class; later starts read the cache
    train, query, gallery = paper_partition(catalogue.identities)

    config = REPOSITORY / f"configs/ARBase/{name}.yml"
    keys = {"DATASETS__NAMES": None, "DATASETS__ROOT": None}
    monkeypatch.setenv("REID_DATASETS", str(data))
    assert main(["train", *command(tmp_path / "out", data, config=config, **keys)[2:]]) == 0
    results = json.loads((tmp_path / "out/results.json").read_text())[f"Animals-{class_name}"]
    assert (results["queries"], results["gallery"]) == (len(query), len(gallery))
    assert read_split(tmp_path / "out/split.json", catalogue) == Split(train, query, gallery)


def test_own_config_of_three_lines_needs_no_wildlife_datasets(tmp_path, herd_root):
    for identity in range(8):
        (tmp_path / f"photos/animal{identity}").mkdir(parents=True)
        for image in range(5):
            fixtures.coat(identity, image, 48).save(
                tmp_path / f"photos/animal{identity}/{image}.jpg"
            )
    config = tmp_path / "mine.yml"
    lines = f"_BASE_: {BASE}\nDATASETS: {{NAMES: ['folder:photos']}}\nOUTPUT_DIR: {tmp_path}/out\n"
    config.write_text(lines)
    keys = {"DATASETS__NAMES": None, "OUTPUT_DIR": None, "IMPORTS": ["tests.engine.no_wildlife"]}
    finished = run(command(tmp_path, herd_root, config=config, **keys), cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert list(results) == ["folder:photos"]
    assert results["folder:photos"]["queries"] == 8  # two of each individual in the test half
