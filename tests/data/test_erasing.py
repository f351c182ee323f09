"""Random erasing and patches, against naive loops and the statistics that they promise."""

import math
import random

import numpy as np
import pytest
import torch

from openanimals.data.erasing import (
    Erasing,
    Paste,
    Patch,
    Region,
    draw_pastes,
    draw_regions,
    erase,
    paste,
)
from tests.data.test_transforms import batch, seeded

MEAN = (123.675, 116.28, 103.53)


def test_erasing_fills_one_region_and_leaves_the_rest():
    images = batch(50, 32, 24)
    regions = draw_regions(50, (32, 24), seeded(), (0.02, 0.4), 0.3)
    expected = images.numpy().astype(np.float32)
    for image, (top, left, height, width) in zip(expected, regions, strict=True):
        for channel, value in enumerate(MEAN):
            image[channel, top : top + height, left : left + width] = value
    expected[7] = images[7]
    regions[7] = None
    erased = erase(images, regions, MEAN)
    assert erased.dtype == torch.float32
    np.testing.assert_array_equal(erased.numpy(), expected)


def test_erasing_also_copies_a_float_batch():
    images = batch().float()
    before = images.clone()
    assert erase(images, [None] * 8, MEAN).data_ptr() != images.data_ptr()
    Erasing(prob=1.0)(images, seeded())
    assert torch.equal(images, before)


def test_area_and_aspect_of_regions_are_uniform():
    size = 1000  # large, so that rounding to pixels does not show
    drawn = draw_regions(20000, (size, size), seeded(), (0.02, 0.25), 0.3)  # all of them fit
    area = np.array([r.height * r.width for r in drawn]) / size**2
    aspect = np.array([r.height / r.width for r in drawn])
    for values, low, high in ((area, 0.02, 0.25), (aspect, 0.3, 1 / 0.3)):
        deciles = np.quantile(values, np.linspace(0, 1, 11))
        np.testing.assert_allclose(deciles, np.linspace(low, high, 11), atol=0.02 * high)


def test_too_long_regions_are_drawn_again():
    height, width = 300, 100
    source, naive = random.Random(0), []
    while len(naive) < 20000:
        area = source.uniform(0.02, 0.4) * height * width
        aspect = source.uniform(0.3, 1 / 0.3)
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if h < height and w < width:
            naive.append((h, w))
    drawn = draw_regions(20000, (height, width), seeded(), (0.02, 0.4), 0.3)
    tenths = np.linspace(0, 1, 11)
    for side, values in enumerate(([r.height for r in drawn], [r.width for r in drawn])):
        expected = np.quantile([sizes[side] for sizes in naive], tenths)
        np.testing.assert_allclose(np.quantile(values, tenths), expected, atol=4)


def test_regions_lie_inside_and_reach_every_side():
    height, width = 24, 8
    drawn = draw_regions(5000, (height, width), seeded(), (0.02, 0.4), 0.3)
    for r in drawn:
        assert 0 < r.height < height
        assert 0 < r.width < width
        assert 0 <= r.top <= height - r.height
        assert 0 <= r.left <= width - r.width
    assert {r.top for r in drawn} >= {0, height // 2}
    assert any(r.top + r.height == height for r in drawn)
    assert any(r.left + r.width == width for r in drawn)
    assert any(r.left == 0 for r in drawn)


def test_nothing_fits_into_a_single_pixel():
    images = batch(4, 1, 1)
    assert {r[2:] for r in draw_regions(4, (1, 1), seeded(), (0.02, 0.4), 0.3)} == {(0, 0)}
    assert torch.equal(Erasing(prob=1.0)(images, seeded()), images.float())
    assert torch.equal(Patch(prob=1.0)(images, seeded()), images)


def test_patches_come_from_other_images_and_fit():
    pastes = draw_pastes(6, (20, 14), seeded())
    for i, item in enumerate(pastes):
        assert item.donor != i
        assert 0 <= item.donor < 6
        assert item.source[2:] == item.target[2:]
        for part in (item.source, item.target):
            assert part.top + part.height <= 20
            assert part.left + part.width <= 14


def test_halves_of_the_patches_are_mirrored_and_turned():
    pastes = draw_pastes(4000, (64, 64), seeded())
    angles = np.array([item.angle for item in pastes])
    assert np.mean([item.mirrored for item in pastes]) == pytest.approx(0.5, abs=0.03)
    assert np.mean(angles != 0) == pytest.approx(0.5, abs=0.03)
    assert 9.9 < np.abs(angles).max() <= 10
    assert angles.mean() == pytest.approx(0, abs=0.3)
    assert len({(item.donor - i) % 4000 for i, item in enumerate(pastes)}) > 2000


def test_paste_equals_a_loop_over_pixels():
    images = batch(3)
    pastes = [
        Paste(1, Region(2, 3, 5, 4), False, 0.0, Region(10, 0, 5, 4)),
        Paste(0, Region(9, 0, 8, 6), True, 0.0, Region(0, 7, 8, 6)),  # overlaps the first
        None,
    ]
    expected = images.numpy().copy()
    for y in range(5):
        for x in range(4):
            expected[0, :, 10 + y, x] = images[1, :, 2 + y, 3 + x]
    for y in range(8):
        for x in range(6):
            expected[1, :, y, 7 + x] = images[0, :, 9 + y, 5 - x]
    np.testing.assert_array_equal(paste(images, pastes).numpy(), expected)


def test_a_turned_patch_has_black_corners_and_keeps_its_centre():
    images = torch.full((2, 3, 41, 41), 200, dtype=torch.uint8)
    part = Region(0, 0, 41, 41)
    turned, untouched = paste(images, [Paste(1, part, False, 10.0, part), None])
    assert (turned[:, [0, 0, -1, -1], [0, -1, 0, -1]] == 0).all()
    assert (turned[:, 10:31, 10:31] == 200).all()
    assert (untouched == 200).all()


def test_a_patch_in_a_batch_of_one_is_the_images_own():
    images = torch.full((1, 3, 30, 30), 9, dtype=torch.uint8)
    assert set(Patch(prob=1.0)(images, seeded()).unique().tolist()) <= {0, 9}
