"""Boxes that are right, wrong in a row, or of another form in the whole column."""

import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from openanimals.data.boxes import rows_with_bad_boxes
from openanimals.data.catalogue import Catalogue, CatalogueError
from openanimals.data.image_io import ImageError, open_image
from openanimals.data.validate import check_data
from tests.data.pictures import save_noise

SIZES = [(200, 100), (90, 120), (64, 64)]  # width, height
NAN = math.nan


@pytest.fixture
def herd(tmp_path):
    """Make a catalogue of given boxes, in photographs of three sizes in turn."""
    for number, (width, height) in enumerate(SIZES):
        save_noise(tmp_path / f"{number}.png", number, (height, width))

    def of(boxes) -> Catalogue:
        paths = [f"{row % len(SIZES)}.png" for row in range(len(boxes))]
        table = pd.DataFrame({"path": paths, "bbox": boxes, "identity": "a"}, dtype=object)
        return Catalogue("herd", tmp_path, table)

    return of


def animals(count: int = 30) -> list[tuple[float, ...]]:
    """Right boxes: a third to nine tenths of the photograph's width and height, anywhere in it."""
    draws = np.random.default_rng(0)
    boxes = []
    for row in range(count):
        whole = np.array(SIZES[row % len(SIZES)])
        lengths = whole * draws.uniform(1 / 3, 0.9, 2)
        start = (whole - lengths) * draws.uniform(0, 1, 2)
        boxes.append((*start.tolist(), *lengths.tolist()))
    return boxes


CORNERS = {"left, top, right, bottom": lambda x, y, w, h: (x, y, x + w, y + h)}
MIDDLES = {"middle x, middle y, width, height": lambda x, y, w, h: (x + w / 2, y + h / 2, w, h)}
PLAIN = {"x, y, width, height": lambda x, y, w, h: (x, y, w, h)}


@pytest.mark.parametrize(("reading", "form"), (CORNERS | MIDDLES).items())
def test_a_column_of_another_form_is_refused_with_the_likely_one(herd, reading, form):
    boxes = [form(*box) for box in animals()]
    boxes[4] = (NAN, 0, 5, 5)  # single wrong ones beside do not hide it
    boxes[5] = (0, 0, 0, 0)
    images = herd(boxes)
    words = rf"^herd: \d+ of 28 values of bbox leave .* if read as {reading};"
    with pytest.raises(CatalogueError, match=words):
        rows_with_bad_boxes(images)
    report, faults = check_data(images)
    assert f"read as {reading};" in report
    assert faults == 30


@pytest.mark.parametrize(("reading", "form"), (PLAIN | CORNERS | MIDDLES).items())
def test_a_column_of_shares_is_refused(herd, reading, form):
    boxes = []
    for row, box in enumerate(animals()):
        width, height = SIZES[row % len(SIZES)]
        boxes.append(form(*np.divide(box, (width, height) * 2).tolist()))
    boxes[:12] = animals(12)  # half of them are enough
    images = herd(boxes)
    with pytest.raises(CatalogueError) as refusal:
        rows_with_bad_boxes(images)
    for part in ("18 of 30", f"(0 to 1), as {reading}, for", f"{boxes[12]} of {images.path(12)}"):
        assert part in str(refusal.value)
    assert "(0 to 1)" in check_data(images)[0]


def enlarged(share: float) -> list[tuple[float, ...]]:
    """Boxes with a margin on all sides, which may leave the photograph."""
    return [
        (x - share * w, y - share * h, (1 + 2 * share) * w, (1 + 2 * share) * h)
        for x, y, w, h in animals()
    ]


def squared() -> list[tuple[float, ...]]:
    """Boxes made square around their middle, which leave the photograph above or beside."""
    sides = [max(w, h) for _, _, w, h in animals()]
    return [
        (x + (w - side) / 2, y + (h - side) / 2, side, side)
        for (x, y, w, h), side in zip(animals(), sides, strict=True)
    ]


RIGHT = {
    "inside": animals(),
    "a margin": enlarged(0.1),
    "a wide margin": enlarged(0.5),
    "squares": squared(),
    "whole photographs": [(0, 0, *SIZES[row % len(SIZES)]) for row in range(3)],
    "a pixel too wide": [(0, 0, *np.add(SIZES[row % len(SIZES)], 1)) for row in range(3)],
    "on the right edge": [(w - 20, 5, 40, 40) for w, _ in SIZES],
    "small ones": [(x / 8, y / 8, w / 8, h / 8) for x, y, w, h in animals()],
    "over two edges": [*animals(8), (60, 60, 70, 70)],
    "two over two edges": [(150, 50, 160, 60), (60, 60, 70, 70), None],
}


@pytest.mark.parametrize("boxes", RIGHT.values(), ids=RIGHT.keys())
def test_right_boxes_stay(herd, boxes):
    images = herd(boxes)
    assert rows_with_bad_boxes(images) == []
    assert check_data(images)[1] == 0


def test_single_wrong_boxes_are_listed_and_cannot_be_cropped(herd):
    wrong = [
        (0.1, 0.2, 0.5, 0.6),  # a share among pixels
        (5, 5, 1, 1),
        (-1e4, -1e4, 3e4, 3e4),  # beyond the photograph on all sides
        (1e308, 5, 1e308, 5),
        (500, 5, 10, 10),
        (5, 5, 10, math.inf),
    ]
    images = herd([*animals(9), *wrong])
    assert rows_with_bad_boxes(images) == [*range(9, 9 + len(wrong))]
    for row in range(len(images)):
        box = images.column("bbox")[row]
        if row >= 9:
            with pytest.raises(ImageError, match="cannot crop"):
                open_image(images.path(row), box)
        else:
            open_image(images.path(row), box)
    assert check_data(images)[1] == len(wrong)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_box_above_the_limit_of_images_is_listed(herd, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15_000)
    images = herd([(0, 0, 200, 150), (0, 0, 200, 151), None])
    with pytest.raises(ImageError, match="MAX_MEGAPIXELS"):
        open_image(images.path(0), (0, 0, 200, 151))
    assert rows_with_bad_boxes(images) == [1]


def test_files_that_are_not_there_and_no_boxes_say_nothing(herd):
    images = herd([None, None])
    assert rows_with_bad_boxes(images) == []
    lost = herd([(50, 50, 90, 95)] * 3)
    for number in range(len(SIZES)):
        (lost.root / f"{number}.png").unlink()
    assert rows_with_bad_boxes(lost) == []
