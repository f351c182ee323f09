"""Random augmentation, against naive loops in numpy and the statistics that it promises."""

import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from openanimals.config import get_cfg, load
from openanimals.data.loaders import build_transforms
from openanimals.data.transforms import (
    Compose,
    Erasing,
    Flip,
    PadCrop,
    Paste,
    Patch,
    PerImage,
    Region,
    auto_augment,
    draw_pastes,
    draw_regions,
    pad_and_crop,
    paste,
)

NAMES = ["CROP", "PADDING", "FLIP", "CJ", "AFFINE", "AUGMIX", "REA", "RPT"]


def made(name: str, **keys):
    """The transform of a key, which also has a probability of a half unless keys say another."""
    cfg = get_cfg()
    own = cfg.INPUT[name]
    for key, value in {"ENABLED": True, "PROB": 0.5, **keys}.items():
        if key in own:
            own[key] = value
    return build_transforms(cfg).transforms[0]


TRANSFORMS = {name: made(name, SIZE=[24, 16] if name == "CROP" else 4) for name in NAMES}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 8, height: int = 20, width: int = 14) -> torch.Tensor:
    return torch.randint(256, (count, 3, height, width), dtype=torch.uint8, generator=seeded(count))


def naive_pixel(image: np.ndarray, y: int, x: int, mode: str) -> np.ndarray:
    """The pixel of an endlessly padded image [C, H, W], walked to step by step."""

    def walk(position: int, size: int) -> int:
        while not 0 <= position < size:
            if mode == "edge":
                position = 0 if position < 0 else size - 1
            elif mode == "reflect":
                position = -position if position < 0 else 2 * (size - 1) - position
            else:
                position = -position - 1 if position < 0 else 2 * size - 1 - position
        return position

    _, height, width = image.shape
    if mode == "constant" and not (0 <= y < height and 0 <= x < width):
        return np.zeros(3, dtype=image.dtype)
    return image[:, walk(y, height), walk(x, width)]


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_pad_and_crop_equals_a_loop_over_pixels(mode):
    images = batch(5)
    corners = [(0, 0), (3, 3), (6, 6), (0, 5), (4, 1)]
    expected = np.empty_like(images.numpy())
    for i, (top, left) in enumerate(corners):
        for y in range(images.shape[2]):
            for x in range(images.shape[3]):
                expected[i, :, y, x] = naive_pixel(
                    images[i].numpy(), y + top - 3, x + left - 3, mode
                )
    cropped = pad_and_crop(images, corners, 3, mode)
    assert cropped.dtype == torch.uint8
    np.testing.assert_array_equal(cropped.numpy(), expected)


def test_pad_crop_reaches_every_corner_evenly():
    size, count = 2, 5000
    images = torch.zeros(count, 1, 5, 5, dtype=torch.uint8)
    images[:, :, 2, 2] = 1  # the dot's place tells the corner
    places = PadCrop(size=size)(images, seeded()).float().mean(0)[0]
    assert places.sum() == pytest.approx(1)
    torch.testing.assert_close(places, torch.full((5, 5), 1 / 25), atol=0.01, rtol=0)


@pytest.mark.parametrize("mode", ["constant", "reflect", "symmetric"])
@pytest.mark.parametrize("crop", [True, False])
def test_padding_is_smaller_than_the_picture(mode, crop):
    keys = ["INPUT.PADDING.ENABLED", True, "INPUT.PADDING.MODE", mode, "INPUT.CROP.ENABLED", crop]
    key = "INPUT.CROP.SIZE" if crop else "INPUT.SIZE_TRAIN"
    build_transforms(load(None, [*keys, key, [64, 16], "INPUT.PADDING.SIZE", 15]))
    with pytest.raises(ValueError, match="INPUT.PADDING.SIZE is 16, but must be below"):
        build_transforms(load(None, [*keys, key, [64, 16], "INPUT.PADDING.SIZE", 16]))


def test_flip_equals_a_loop_over_pixels_and_twice_is_nothing():
    images = batch(4)
    expected = np.empty_like(images.numpy())
    for x in range(images.shape[3]):
        expected[..., x] = images[..., images.shape[3] - 1 - x].numpy()
    flipped = Flip(prob=1.0)(images, seeded())
    np.testing.assert_array_equal(flipped.numpy(), expected)
    assert torch.equal(Flip(prob=1.0)(flipped, seeded()), images)


@pytest.mark.parametrize("prob", [0.0, 0.3])
@pytest.mark.parametrize("name", ["FLIP", "CJ", "AUGMIX", "REA", "RPT"])
def test_a_probability_is_the_share_of_images_that_change(name, prob):
    images = batch(200, 6, 6)
    changed = (made(name, PROB=prob)(images, seeded()) != images).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(prob, abs=0.1 if prob else 0)


def test_resized_crop_of_the_whole_image_is_a_bicubic_resize_to_the_size_asked_for():
    images = batch(3, 40, 40)
    crop = made("CROP", SIZE=[20, 16], SCALE=[1.0, 1.0], RATIO=[1.0, 1.0])
    cropped = crop(images, seeded())
    assert cropped.dtype == torch.uint8
    for image, result in zip(images, cropped, strict=True):
        expected = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((16, 20), Image.BICUBIC)
        difference = result.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected)
        assert np.abs(difference).max() <= 1


def test_jitter_without_strength_changes_nothing_and_brightness_scales():
    images, nothing = batch(4) // 2, {"CONTRAST": 0, "SATURATION": 0, "HUE": 0}
    still = made("CJ", PROB=1.0, BRIGHTNESS=0, **nothing)
    assert torch.equal(still(images, seeded()), images)
    bright = made("CJ", PROB=1.0, BRIGHTNESS=0.5, **nothing)
    factors = []
    for image, result in zip(images, bright(images, seeded()), strict=True):
        factor = result.sum() / image.sum()
        torch.testing.assert_close(result.float(), image.float() * factor, atol=2, rtol=0)
        factors.append(round(factor.item(), 4))
    assert len(set(factors)) == 4  # each image has its own
    assert all(0.48 < factor < 1.51 for factor in factors)


def test_affine_moves_every_image_a_little():
    yy, xx = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    images = (yy + xx).to(torch.uint8).expand(6, 3, 64, 64)
    moved = TRANSFORMS["AFFINE"](images, seeded())
    centre = (moved.int() - images.int())[:, :, 24:40, 24:40].abs()
    assert centre.max() <= 8
    assert (moved != images).flatten(1).any(1).all()
    assert not torch.equal(moved[0], moved[1])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_repeat_and_change_neither_input_nor_global_streams(name):
    augment = TRANSFORMS[name]
    images = batch()
    before, stream = images.clone(), torch.get_rng_state()
    first = augment(images, seeded(3))
    torch.rand(5)
    assert torch.equal(augment(images, seeded(3)), first)
    assert not torch.equal(augment(images, seeded(4)).float(), first.float())
    assert torch.equal(images, before)
    torch.set_rng_state(stream)
    augment(images, seeded(5))
    assert torch.equal(torch.get_rng_state(), stream)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_keep_channels_last_memory_and_their_outcome_does_not_depend_on_it(name):
    augment = TRANSFORMS[name]
    planes = batch(height=70, width=50)
    pixels = planes.contiguous(memory_format=torch.channels_last)
    augmented = augment(pixels, seeded(3))
    assert augmented.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(augmented, augment(planes, seeded(3)))


def test_all_of_them_keep_to_the_range_of_pixels():
    images = Compose(list(TRANSFORMS.values()))(batch(), seeded())
    assert images.shape == (8, 3, 24, 16)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 255


def test_transforms_run_in_fastreids_order():
    cfg = get_cfg()
    for name in NAMES:
        cfg.INPUT[name].ENABLED = True
    kinds = [type(one) for one in build_transforms(cfg).transforms]
    assert kinds == [PerImage, PadCrop, Flip, PerImage, PerImage, PerImage, Erasing, Patch]
    operations = [
        one.operation for one in build_transforms(cfg).transforms if type(one) is PerImage
    ]
    names = [getattr(one, "__name__", type(one).__name__) for one in operations]
    assert names == ["RandomResizedCrop", "ColorJitter", "RandomAffine", "augmix"]


def test_auto_augment_repeats_by_seed_and_leaves_the_global_stream():
    image = Image.fromarray(batch(1, 40, 30)[0].permute(1, 2, 0).numpy())
    before, stream = np.array(image), torch.get_rng_state()
    results = [np.array(auto_augment(image, seed)) for seed in range(8)]
    assert torch.equal(torch.get_rng_state(), stream)
    np.testing.assert_array_equal(np.array(image), before)
    np.testing.assert_array_equal(np.array(auto_augment(image, 3)), results[3])
    assert len({result.tobytes() for result in results}) > 4
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected = v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET)(image)
    np.testing.assert_array_equal(results[5], np.array(expected))


# Erasing and patches


def test_erasing_fills_one_region_of_some_images_and_leaves_the_rest():
    images, draws, mean = batch(50, 32, 24), seeded(), (123.675, 116.28, 103.53)
    chosen = Erasing().draw(50, draws)
    regions = draw_regions(50, (32, 24), draws, (0.02, 0.4), 0.3)
    expected = images.numpy().astype(np.float32)
    for image, is_chosen, region in zip(expected, chosen, regions, strict=True):
        top, left, height, width = region
        for channel, value in enumerate(mean if is_chosen else ()):
            image[channel, top : top + height, left : left + width] = value
    erased = Erasing()(images, seeded())
    assert erased.dtype == torch.float32
    np.testing.assert_array_equal(erased.numpy(), expected)
    assert Erasing(prob=0.0)(erased, seeded()).data_ptr() != erased.data_ptr()


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
    drawn = np.array(draw_regions(5000, (24, 8), seeded(), (0.02, 0.4), 0.3))
    corners, sizes = drawn[:, :2], drawn[:, 2:]
    assert (sizes > 0).all() and (sizes < (24, 8)).all()
    assert (corners >= 0).all() and (corners + sizes <= (24, 8)).all()
    assert (corners.min(0) == 0).all() and ((corners + sizes).max(0) == (24, 8)).all()
    assert 12 in corners[:, 0]


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_published_recipes_augment_alike_and_unwaiting_on_a_device():
    augment = Compose([PadCrop(), Flip(), Erasing()])
    images = batch(16, 64, 48)
    on_device = images.cuda()
    augment(on_device, seeded())  # the first call may set things up
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = augment(on_device, seeded())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(result.cpu(), augment(images, seeded()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_draw_alike_on_every_device(name):
    images = batch(16, 64, 48)
    generators = seeded(), seeded()
    result = TRANSFORMS[name](images.cuda(), generators[0]).cpu()
    expected = TRANSFORMS[name](images, generators[1])
    difference = (result.float() - expected.float()).abs()
    assert (difference > 2).float().mean() < 0.01  # the nearest pixel can be another on a tie
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
