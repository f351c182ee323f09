"""INPUT.MAX_MEGAPIXELS reaches all that reads photographs: loaders, their workers, the check."""

import re

import pandas as pd
import pytest
from PIL import Image

from openanimals.config import load
from openanimals.data.build import TrainSet, load_catalogue_of
from openanimals.data.catalogue import Catalogue
from openanimals.data.image_io import ImageError, read_image
from openanimals.data.loaders import build_cache, build_test_loader, build_train_loader
from openanimals.data.validate import check_data
from tests.data.pictures import save_noise

SMALL, LARGE = (9, 9), (20, 30)  # pixels
REASON = r"large\.png: Image size \(600 pixels\) exceeds .*; to read it, raise INPUT.MAX_MEGAPIXELS"


@pytest.fixture(autouse=True)
def _limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


@pytest.fixture
def herd(tmp_path) -> Catalogue:
    save_noise(tmp_path / "a/small.png", 0, SMALL)
    save_noise(tmp_path / "b/large.png", 1, LARGE)
    table = pd.DataFrame({"path": ["a/small.png", "b/large.png"], "identity": ["a", "b"]})
    return Catalogue("herd", tmp_path, table)


def cfg(megapixels, workers=0, cache="off"):
    keys = {
        "INPUT.MAX_MEGAPIXELS": megapixels,
        "INPUT.SIZE_TEST": [8, 8],
        "INPUT.CACHE": cache,
        "DATALOADER.NUM_WORKERS": workers,
        "SOLVER.IMS_PER_BATCH": 2,
    }
    return load(None, [part for pair in keys.items() for part in pair])


@pytest.mark.parametrize("megapixels", [500e-6, 700e-6])
@pytest.mark.parametrize(("workers", "cache"), [(0, "off"), (1, "off"), (0, "ram"), (0, "disk")])
def test_test_images_above_the_limit_are_told_and_a_key_raises_it(
    herd, monkeypatch, megapixels, workers, cache
):
    keys = cfg(megapixels, workers, cache)
    cache = build_cache(keys, "cpu")
    loader = build_test_loader(keys, herd, cache=cache)
    if workers:  # which are to know the limit even where they do not inherit it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    lost = {row: message for batch in loader for row, message in batch.lost.items()}
    assert list(lost) == ([] if megapixels > 600e-6 else [1])
    assert not lost or re.search(REASON, lost[1])


def test_training_and_the_check_know_the_limit(herd):
    keys = cfg(500e-6)
    build_train_loader(keys, TrainSet.of(herd))
    with pytest.raises(ImageError, match=REASON):
        read_image(herd.path(1))
    named = load_catalogue_of(cfg(700e-6), f"folder:{herd.root}")
    assert check_data(named)[1] == 0
    load_catalogue_of(keys, f"folder:{herd.root}")
    assert "INPUT.MAX_MEGAPIXELS" in check_data(named)[0]
