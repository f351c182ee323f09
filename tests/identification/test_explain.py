"""What two photographs have in common, and how much of it lies on the animal."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from openanimals.cli import main
from openanimals.data.datasets import load_catalogue
from openanimals.identification.catalogue_file import as_table, write_catalogue
from openanimals.identification.explain import explain
from openanimals.utils.errors import UserError
from tests.conftest import REPOSITORY


@pytest.fixture
def pair(tmp_path, herd_root):
    """Two photographs with one coat at the left, and the same scenery at the right of both."""
    herd = load_catalogue("Animals-SyntheticHerd:identities=2,images=2,pixels=128", herd_root)
    coat, scenery = (
        np.asarray(Image.open(herd.path(row)).convert("RGB").resize((200, 200))) for row in (0, 2)
    )
    for name in ("a", "b"):
        own = coat if name == "a" else np.full_like(coat, 128)
        Image.fromarray(np.concatenate([own, scenery], axis=1)).save(tmp_path / f"{name}.png")
    left = json.dumps([0, 0, 200, 0, 200, 200, 0, 200])
    own = {"identity": "Ada", "mask": left, "bbox": "0 0 400 200"}
    rows = [{"path": f"{name}.png", **own} for name in ("a", "b")]
    write_catalogue(tmp_path / "two.csv", as_table(rows))
    return tmp_path


def test_scenery_that_matches_is_seen_to_lie_off_the_animal(pair):
    said = explain(["a.png", "b.png"], pair / "out", catalogue=str(pair / "two.csv"))
    assert int(re.match(r"(\d+) spots match", said)[1]) > 10
    assert "0% of their weight lies on the animal in a.png" in said
    assert Image.open(pair / "out/spots.jpg").size[0] > 900
    assert not (pair / "out/regions.jpg").exists()


def test_a_network_says_which_regions_it_finds_alike(pair, capsys):
    config = pair / "demo.yml"
    base = f"_BASE_: {REPOSITORY}/configs/ARBase/demo.yml\n"
    config.write_text(f"{base}MODEL: {{BACKBONE: {{NAME: tiny, FEAT_DIM: 8, PRETRAIN: false}}}}\n")
    arguments = [str(pair / f"{name}.png") for name in ("a", "a")]
    out = pair / "out"
    assert main(["explain", *arguments, "--model", str(config), "--to", str(out)]) == 0
    said = capsys.readouterr().out
    assert "network: similarity 1.00" in said
    assert "no mask says where the animal is" in said
    assert Image.open(out / "regions.jpg").size == Image.open(out / "spots.jpg").size


def test_a_photograph_that_is_not_there_is_named(pair):
    with pytest.raises(UserError, match=r"no photograph 'c.png'.*did you mean"):
        explain(["a.png", "c.png"], pair, catalogue=str(pair / "two.csv"))
    with pytest.raises(UserError, match=r"c\.png"):
        explain([str(pair / "a.png"), str(pair / "c.png")], pair)
