"""Masks, against naive loops, run lengths recorded from pycocotools and matplotlib's polygons."""

import json
import logging

import numpy as np
import pandas as pd
import pytest
from matplotlib.path import Path as Outline
from PIL import ExifTags, Image

from openanimals.config import load
from openanimals.data.build import TrainSet, load_sets
from openanimals.data.catalogue import Catalogue
from openanimals.data.image_io import ImageError, open_image, read_image
from openanimals.data.loaders import build_test_loader, build_train_loader
from openanimals.data.masks import is_shape, shape_mask, shape_text

ROWS, COLUMNS = np.mgrid[:90, :120]
ELLIPSE = (COLUMNS - 60) ** 2 / 40**2 + (ROWS - 45) ** 2 / 30**2 < 1
DOTS = np.zeros((120, 90), dtype=bool)
DOTS.flat[[827, 1084, 1883, 2266, 2932, 3945, 4460, 6040, 6428, 6718, 8976, 9419]] = True
PACKED = [  # by pycocotools 2.0.11
    (
        ELLIPSE,
        "Yl1=Z26K4L4M2N2N2N2N2N2N2N2N2O0O2O0O2N2O000O2O0O2O000O2O00000O2O0000000000000000000000000"
        "000000000000001N1000001N10001N101N10001N2N101N101N2N2N2N2N2N2N2N2N3L4L5JTg1",
    ),
    (DOTS, r"\?1Vh00oL0R^O0^]20dkN0ejN0k`00l\O0]e00m50YM0[L"),
]


def runs_of(picture):
    """Count runs down the columns, one pixel after the other."""
    runs, value = [0], False
    for pixel in picture.T.flat:
        if pixel != value:
            runs.append(0)
            value = not value
        runs[-1] += 1
    return runs


@pytest.mark.parametrize(("picture", "counts"), PACKED, ids=["ellipse", "dots"])
@pytest.mark.parametrize("kind", [str, bytes, list, np.array])
def test_run_lengths(picture, counts, kind):
    if kind is bytes:
        counts = counts.encode()
    elif kind is not str:
        counts = kind(runs_of(picture))
    text = shape_text({"size": list(picture.shape), "counts": counts})
    np.testing.assert_array_equal(shape_mask(text, (1, 1)), picture)


@pytest.mark.parametrize("seed", range(3))
def test_a_pixel_is_inside_of_a_polygon_if_its_middle_is(seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-5, 35, (3 + seed, 2))  # partly outside; edges may cross
    text = shape_text(corners.ravel())
    middles = [(x + 0.5, y + 0.5) for y in range(24) for x in range(31)]
    inside = [abs(winding(corners, middle)) % 2 == 1 for middle in middles]
    np.testing.assert_array_equal(shape_mask(text, (31, 24)).ravel(), inside)


def winding(corners, point):
    """Return how often a polygon turns around a point, by the angles it is seen under."""
    steps = np.array([*corners, corners[0]]) - point
    angles = np.diff(np.arctan2(steps[:, 1], steps[:, 0]))
    return round(((angles + np.pi) % (2 * np.pi) - np.pi).sum() / (2 * np.pi))


def test_several_polygons_are_one_animal():
    polygons = [[1, 1, 4, 1, 4, 3, 1, 3], [6, 2, 9, 2, 9, 5]]
    middles = [(x + 0.5, y + 0.5) for y in range(6) for x in range(10)]
    outlines = [Outline(np.reshape(polygon, (-1, 2))) for polygon in polygons]
    inside = [any(outline.contains_point(middle) for outline in outlines) for middle in middles]
    both = shape_mask(shape_text(polygons), (10, 6))
    np.testing.assert_array_equal(both.ravel(), inside)


@pytest.mark.parametrize("nothing", [np.nan, None, [], [1, 2, 3, 4], {"counts": []}, 7])
def test_what_is_no_shape(nothing):
    assert shape_text(nothing) is None


def test_paths_are_no_shapes():
    assert is_shape("[1, 2]") and is_shape('{"size": [1, 1]}')
    assert not any(map(is_shape, ["m/1.png", "[old]/1.png", "{a}/b", ""]))


# On photographs


@pytest.fixture
def photo(tmp_path):
    """A file and its pixels: noise without a black one."""
    pixels = np.random.default_rng(0).integers(1, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png", pixels


ANIMAL = np.zeros((20, 30), dtype=bool)
ANIMAL[4:15, 10:22] = True


def as_palette(animal):
    image = Image.fromarray(np.where(animal, 0, 1).astype(np.uint8)).convert("P")
    image.putpalette([200, 10, 10, 0, 0, 0])  # the animal is colour 0, the background black
    return image


FILES = {
    "1": lambda a: Image.fromarray(a.astype(np.uint8) * 255).convert("1"),
    "L": lambda a: Image.fromarray(a.astype(np.uint8)),  # 1 is not black
    "RGB": lambda a: Image.fromarray(np.stack([a * 0, a * 0, a * 9], 2).astype(np.uint8)),
    "RGBA": lambda a: Image.fromarray(np.stack([a * 9, a, a, a * 0 + 255], 2).astype(np.uint8)),
    "LA": lambda a: Image.fromarray(np.stack([a, a * 0 + 255], 2).astype(np.uint8)),
    "I;16": lambda a: Image.fromarray(a.astype(np.uint16)),
    "P": as_palette,
}


@pytest.mark.parametrize("mode", FILES)
def test_background_is_black_by_a_mask_of_any_mode(photo, tmp_path, mode):
    path, pixels = photo
    FILES[mode](ANIMAL).save(tmp_path / "mask.png")
    found = read_image(path, mask=str(tmp_path / "mask.png"))
    np.testing.assert_array_equal(found, pixels * ANIMAL[..., None])


def test_background_is_black_before_crop_and_resize(photo):
    path, pixels = photo
    polygon = json.dumps([10, 4, 22, 4, 22, 15, 10, 15])
    found = read_image(path, (9, 7), (8, -2, 12, 12), polygon)
    canvas = np.zeros((12, 12, 3), np.uint8)  # two rows of the box are above the photograph
    canvas[2:] = (pixels * ANIMAL[..., None])[:10, 8:20]
    resized = Image.fromarray(canvas).resize((7, 9), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(found, np.asarray(resized))


def test_masks_are_those_of_the_upright_photograph(photo, tmp_path):
    _, pixels = photo
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels).save(tmp_path / "lying.png", exif=block)
    Image.fromarray(ANIMAL.astype(np.uint8)).save(tmp_path / "lying_mask.png", exif=block)
    Image.fromarray(np.rot90(ANIMAL, -1).astype(np.uint8)).save(tmp_path / "upright_mask.png")
    expected = np.rot90(pixels * ANIMAL[..., None], -1)
    for mask in ("lying_mask.png", "upright_mask.png"):
        found = read_image(tmp_path / "lying.png", mask=str(tmp_path / mask))
        np.testing.assert_array_equal(found, expected)


def test_a_mask_of_another_size_is_scaled_to_the_nearest_pixel(photo, tmp_path):
    path, pixels = photo
    small = ANIMAL[::2, ::2]
    Image.fromarray(small.astype(np.uint8)).save(tmp_path / "mask.png")
    found = read_image(path, mask=str(tmp_path / "mask.png"))
    np.testing.assert_array_equal(found, pixels * small.repeat(2, 0).repeat(2, 1)[..., None])


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        *(((15, 10), True), ((14, 10), True), ((10, 7), True), ((9, 6), True), ((58, 40), True)),
        *(((20, 29), False), ((27, 20), False), ((29, 18), False), ((15, 9), False)),
    ],
)
def test_a_scaled_mask_may_be_rounded_to_whole_pixels(tmp_path, size, fits):
    Image.new("RGB", (29, 20), (9, 9, 9)).save(tmp_path / "odd.png")
    Image.new("L", size, 1).save(tmp_path / "mask.png")
    if fits:
        whole = open_image(tmp_path / "odd.png", mask=str(tmp_path / "mask.png"))
        assert whole.getcolors() == [(29 * 20, (9, 9, 9))]
    else:
        with pytest.raises(ImageError, match="does not fit the image of 29 x 20"):
            open_image(tmp_path / "odd.png", mask=str(tmp_path / "mask.png"))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ("gone.png", "cannot read image gone.png: no such file"),
        ("[1, 2, 3]", "photo.png: its mask .1, 2, 3. is not a shape"),
        ("{not json}", "is not a shape"),
        ("[1, 2, NaN, 2, 3, 4]", "is not a shape .a corner is no number."),
        ("[1, 2, null, 2, 3, 4]", "is not a shape .a corner is no number."),
        ('{"size": [0, 0], "counts": [0]}', "0 x 0 pixels does not fit the image of 30 x 20"),
        ('{"size": [20, 30], "counts": [5, 3]}', "its runs cover 8 of 20 x 30 pixels"),
        ('{"size": [20, 30]}', "is not a shape .'counts'."),
        ('{"size": [30, 20], "counts": [0, 600]}', "20 x 30 pixels does not fit the image of 30 x"),
        ("[1, 1, 2, 1, 2, 2]", "the mask of .*photo.png leaves nothing of the image"),
    ],
)
def test_masks_that_cannot_be_used(photo, mask, message):
    with pytest.raises(ImageError, match=message):
        open_image(photo[0], (10, 8, 5, 5), mask)


# In a run


@pytest.fixture
def zoo(photo, tmp_path):
    """A catalogue of one photograph in eight rows of four individuals; row 3 has no mask."""
    masks: list = [json.dumps([10, 4, 22, 4, 22, 15, 10, 15])] * 8
    masks[3] = None
    columns = {"path": "photo.png", "identity": list("aabbccdd"), "mask": masks}
    return Catalogue("zoo", tmp_path, pd.DataFrame(columns, dtype=object))


def cfg(background):
    keys = {
        "DATASETS.NAMES": ("zoo",),
        "DATASETS.SPLIT": "closed",
        "INPUT.BACKGROUND": background,
        "INPUT.SIZE_TRAIN": (20, 30),
        "INPUT.SIZE_TEST": (20, 30),
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": 8,
    }
    return load(None, [part for pair in keys.items() for part in pair])


@pytest.mark.parametrize("background", ["keep", "mask"])
def test_training_and_test_see_the_same_background(zoo, photo, background):
    masked = photo[1] * ANIMAL[..., None]
    batches = (
        next(iter(build_train_loader(cfg(background), TrainSet.of(zoo)))),
        next(iter(build_test_loader(cfg(background), zoo))),
    )
    for batch in batches:
        assert sorted(batch.rows.tolist()) == list(range(8))
        for image, row in zip(batch.images, batch.rows, strict=True):
            expected = masked if background == "mask" and row != 3 else photo[1]
            np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_images_without_a_mask_are_counted(zoo, monkeypatch, caplog):
    monkeypatch.setattr("openanimals.data.build.load_catalogue", lambda *_, **__: zoo)
    with caplog.at_level(logging.WARNING):
        found = load_sets(cfg("mask"))
    assert found.tests[0].masked
    assert "zoo: 1 of 8 images have no mask and keep their background" in caplog.text
    caplog.clear()
    assert not load_sets(cfg("keep")).tests[0].masked
    assert not caplog.records
    zoo.table["mask"] = None
    with pytest.raises(ValueError, match="INPUT.BACKGROUND is 'mask', but none of the 8 images"):
        load_sets(cfg("mask"))
