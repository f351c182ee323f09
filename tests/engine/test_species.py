"""A config of three lines trains on a user's own photographs, without wildlife-datasets."""

import json

import pytest

from tests.data.wildlife_fixtures import coat
from tests.engine.tiny_run import BASE, command
from tests.processes import run


@pytest.mark.cli
def test_own_config_of_three_lines_needs_no_wildlife_datasets(tmp_path, herd_root):
    for identity in range(8):
        (tmp_path / f"photos/animal{identity}").mkdir(parents=True)
        for image in range(5):
            coat(identity, image, 48).save(tmp_path / f"photos/animal{identity}/{image}.jpg")
    config = tmp_path / "mine.yml"
    lines = f"_BASE_: {BASE}\nDATASETS: {{NAMES: ['folder:photos']}}\nOUTPUT_DIR: {tmp_path}/out\n"
    config.write_text(lines)
    keys = {"DATASETS__NAMES": None, "OUTPUT_DIR": None, "IMPORTS": ["tests.engine.no_wildlife"]}
    finished = run(command(tmp_path, herd_root, config=config, **keys), cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert list(results) == ["folder:photos"]
    assert results["folder:photos"]["queries"] == 8  # two of each individual in the test half
