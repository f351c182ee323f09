"""The synthetic herd: equal pictures for equal arguments, and pictures worth learning from."""

import hashlib
import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openanimals.data.catalogue import Catalogue
from openanimals.data.datasets import synthetic
from openanimals.data.datasets.synthetic import animals, traps

TINY = {"identities": 2, "images": 5, "pixels": 48}
# Of the tiny herd's photographs: camera, date, viewpoint, corner of the box, mean brightness of the
# upper part and spread of the lower one, where the animal is.
RECORDED = (
    ("camera-2", "2024-02-13", "right", (9, 1), 149.1, 29.4),
    ("camera-2", "2024-02-13", "left", (9, 3), 141.7, 23.7),
    ("camera-2", "2024-02-13", "left", (9, 2), 119.3, 26.3),
    ("camera-1", "2024-09-25", "left", (12, 3), 133.5, 33.3),
    ("camera-1", "2024-09-25", "right", (9, 2), 176.7, 48.3),
    ("camera-0", "2024-09-03", "right", (6, 3), 117.2, 38.9),
    ("camera-0", "2024-09-03", "right", (6, 8), 136.4, 31.4),
    ("camera-0", "2024-09-03", "left", (7, 7), 100.7, 27.6),
    ("camera-0", "2024-09-03", "left", (11, 6), 107.7, 46.3),
    ("camera-0", "2024-10-12", "left", (12, 4), 121.2, 36.1),
)


def decoded(catalogue: Catalogue) -> dict[str, str]:
    """SHA-256 of the decoded pixels of each photograph, by path."""
    return {
        path: hashlib.sha256(np.asarray(Image.open(catalogue.root / path)).tobytes()).hexdigest()
        for path in catalogue.column("path")
    }


@pytest.fixture(scope="module")
def herd(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    root = tmp_path_factory.mktemp("datasets")
    return synthetic.read(root, identities=6, images=8, pixels=64)


def test_every_row_is_complete_and_every_box_is_in_its_picture(herd: Catalogue) -> None:
    assert herd.name == "Animals-SyntheticHerd"
    assert herd.identities == [f"{k:04d}" for k in range(6) for _ in range(8)]
    assert set(herd.column("viewpoint")) == {"left", "right"}
    assert set(herd.column("species")) == {"synthetic"}
    assert len(set(herd.column("camera"))) > 1
    for row in range(len(herd)):
        picture = Image.open(herd.path(row))
        x, y, width, height = herd.column("bbox")[row]
        assert picture.size == (64, 48) and picture.mode == "RGB"
        assert 0 <= x < x + width <= 64 and 0 <= y < y + height <= 48
        assert width > 20 and height > 15  # an animal, not a speck


def test_an_encounter_is_a_few_photographs_of_one_day_and_one_camera(herd: Catalogue) -> None:
    cameras = defaultdict(list)
    for identity, day, camera in zip(
        herd.identities, herd.column("date"), herd.column("camera"), strict=True
    ):
        date.fromisoformat(day)
        cameras[identity, day].append(camera)
    assert all(len(set(seen)) == 1 for seen in cameras.values())
    assert 6 < len(cameras) < len(herd)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Catalogue:
    return synthetic.read(tmp_path_factory.mktemp("tiny"), **TINY)


def test_equal_arguments_draw_equal_pixels(tiny, tmp_path) -> None:
    again, other = synthetic.read(tmp_path, **TINY), synthetic.read(tmp_path, **TINY, seed=1)
    assert decoded(again) == decoded(tiny)
    assert again.digest() == tiny.digest()
    assert not set(decoded(tiny).values()) & set(decoded(other).values())


def test_recorded_herd_in_a_herd_of_any_size(tiny, tmp_path) -> None:
    for row, (*facts, corner, upper, lower) in enumerate(RECORDED):
        assert [tiny.column(name)[row] for name in ("camera", "date", "viewpoint")] == facts
        pixels = np.asarray(Image.open(tiny.path(row)), float)
        assert tiny.column("bbox")[row][:2] == corner
        assert (pixels[:18].mean(), pixels[18:].std()) == pytest.approx((upper, lower), abs=0.5)
    large = synthetic.read(tmp_path, identities=3, images=6, pixels=48)
    assert decoded(tiny).items() <= decoded(large).items()


def test_a_herd_is_drawn_again_only_if_the_drawing_changes(tiny, tmp_path, monkeypatch) -> None:
    root = tiny.root.parents[1]
    monkeypatch.setattr(synthetic, "_draw", lambda *_, **__: [])
    assert synthetic.read(root, **TINY).digest() == tiny.digest()
    drawing = {Path(module.__file__) for module in (synthetic, animals, traps)}
    assert drawing <= set(synthetic.CODE)
    changed = tmp_path / "traps.py"
    changed.write_text(Path(traps.__file__).read_text() + "# another light\n")
    monkeypatch.setattr(synthetic, "CODE", (*synthetic.CODE[:-1], changed))
    assert synthetic.read(root, **TINY).root != tiny.root


def test_what_is_cut_short_leaves_nothing_that_looks_finished(tmp_path, monkeypatch) -> None:
    def cut_short(*_args, **_settings):
        raise KeyboardInterrupt

    # A SIGKILL gives nobody the chance to tidy up: then the draft stays, and is no herd.
    for tidied, left in ((True, 0), (False, 1)):
        with monkeypatch.context() as patch:
            patch.setattr(traps, "photograph", cut_short)
            if not tidied:
                patch.setattr(synthetic.shutil, "rmtree", lambda *_, **__: None)
            with pytest.raises(KeyboardInterrupt):
                synthetic.read(tmp_path, **TINY)
        assert len(list((tmp_path / "SyntheticHerd").iterdir())) == left
    assert len(decoded(synthetic.read(tmp_path, **TINY))) == 10


def test_concurrent_starts_agree_on_one_herd(tmp_path) -> None:
    with ThreadPoolExecutor(2) as pool:
        herds = list(pool.map(lambda _: synthetic.read(tmp_path, **TINY), range(2)))
    assert len({catalogue.digest() for catalogue in herds}) == 1
    (folder,) = (tmp_path / "SyntheticHerd").iterdir()
    assert len(json.loads((folder / "catalogue.json").read_text())) == 10


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("identities", 1, "from 2 to 9999"),
        ("pixels", 1025, "from 32 to 1024"),
        ("images", 2.5, "from 2 to 999"),
        ("seed", -1, "from 0 to"),
    ],
)
def test_sizes_out_of_range_are_named(tmp_path, name, value, allowed) -> None:
    with pytest.raises(ValueError, match=rf"{name} is {value!r}; .*{allowed}"):
        synthetic.read(tmp_path, **{name: value})
    assert not list(tmp_path.iterdir())


def same(one: np.ndarray, two: np.ndarray, region: str) -> bool:
    """Whether two coats agree in the middle of a region, away from its seams."""
    x0, x1, y0, y1 = {
        "trunk": (-0.45, 0.28, -0.2, 0.18),
        "fore": (0.45, 0.64, -0.35, 0.0),
        "legs": (-0.4, 0.35, 0.32, 0.58),
    }[region]
    x0, x1 = (int((x - animals.LEFT) * animals.DENSITY) for x in (x0, x1))
    y0, y1 = (int((y - animals.TOP) * animals.DENSITY) for y in (y0, y1))
    return np.allclose(one[y0:y1, x0:x1], two[y0:y1, x0:x1], atol=1e-5)


def test_siblings_share_a_part_of_their_coat_and_strangers_share_none() -> None:
    shared = set()
    for family in range(10):
        one, two = (animals.coat(0, animals.FAMILY * family + member) for member in (0, 1))
        stranger = animals.coat(0, animals.FAMILY * (family + 1))
        shared.add(tuple(same(one, two, name) for name in animals.ACROSS))
        assert not any(same(one, stranger, name) for name in animals.ACROSS)
    assert shared == {  # trunk, fore, legs
        (True, False, False),
        (False, True, True),
        (False, False, False),
    }


def test_colour_tells_nobody_apart(herd: Catalogue) -> None:
    colours = []
    for row, (x, y, width, height) in enumerate(herd.column("bbox")):
        crop = Image.open(herd.path(row)).crop((x, y, x + width, y + height))
        colours.append(np.asarray(crop).mean((0, 1)))
    distance = np.linalg.norm(np.subtract.outer(colours, colours).diagonal(0, 1, 3), axis=-1)
    identity, day = np.array(herd.identities), np.array(herd.column("date"))
    alike = identity[:, None] == identity
    distance[alike & (day[:, None] == day)] = np.inf  # one light: alike for no merit
    nearest = distance.argmin(1)
    assert (identity[nearest] == identity).mean() < 0.3  # chance is about 0.13
