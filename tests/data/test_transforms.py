"""Random augmentation, against naive loops in numpy and the statistics that it promises."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from openanimals.data.erasing import Erasing, Patch
from openanimals.data.transforms import (
    Affine,
    AugMix,
    ColorJitter,
    Compose,
    Flip,
    PadCrop,
    ResizedCrop,
    auto_augment,
    flip,
    pad_and_crop,
)

TRANSFORMS = {
    "crop": ResizedCrop(size=(24, 16)),
    "padding": PadCrop(size=4),
    "flip": Flip(),
    "cj": ColorJitter(),
    "affine": Affine(),
    "augmix": AugMix(),
    "rea": Erasing(),
    "rpt": Patch(),
}


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


def test_flip_equals_a_loop_over_pixels_and_twice_is_nothing():
    images, chosen = batch(4), [True, False, False, True]
    expected = images.numpy().copy()
    for i in (0, 3):
        for x in range(images.shape[3]):
            expected[i, :, :, x] = images[i, :, :, images.shape[3] - 1 - x].numpy()
    flipped = flip(images, chosen)
    np.testing.assert_array_equal(flipped.numpy(), expected)
    assert torch.equal(flip(flipped, chosen), images)


@pytest.mark.parametrize("prob", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("step", [Flip, ColorJitter, AugMix, Erasing, Patch])
def test_a_probability_is_the_share_of_images_that_change(step, prob):
    images = batch(200, 6, 6)
    changed = (step(prob=prob)(images, seeded()) != images).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(prob, abs=0.1 if 0 < prob < 1 else 0.02)


def test_resized_crop_has_the_size_asked_for():
    images = batch(16, 40, 30)
    cropped = ResizedCrop(size=(24, 16), scale=(0.16, 1.0))(images, seeded())
    assert cropped.shape == (16, 3, 24, 16)
    assert cropped.dtype == torch.uint8


def test_resized_crop_of_the_whole_image_is_a_bicubic_resize():
    images = batch(3, 40, 40)
    cropped = ResizedCrop(size=(20, 20), scale=(1.0, 1.0), ratio=(1.0, 1.0))(images, seeded())
    for image, result in zip(images, cropped, strict=True):
        expected = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((20, 20), Image.BICUBIC)
        difference = result.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected)
        assert np.abs(difference).max() <= 1


def test_jitter_without_strength_changes_nothing_and_brightness_scales():
    images = batch(4) // 2
    still = ColorJitter(prob=1.0, brightness=0, contrast=0, saturation=0, hue=0)
    assert torch.equal(still(images, seeded()), images)
    bright = ColorJitter(prob=1.0, brightness=0.5, contrast=0, saturation=0, hue=0)
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
    moved = Affine()(images, seeded())
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


def test_each_goes_on_in_the_generator():
    generator = seeded()
    flip_then = Flip()(batch(), generator)
    both = PadCrop(size=4)(flip_then, generator)
    assert not torch.equal(both, PadCrop(size=4)(flip_then, seeded()))


def test_without_any_images_pass():
    images = batch()
    assert torch.equal(Compose([])(images, seeded()), images)


def test_fields_are_named_as_the_keys():
    keys = {
        ResizedCrop: "size scale ratio",
        PadCrop: "mode size",
        Flip: "prob",
        ColorJitter: "prob brightness contrast saturation hue",
        AugMix: "prob",
        Erasing: "prob value",
        Patch: "prob",
    }
    for step, names in keys.items():
        assert [field.name for field in dataclasses.fields(step)] == names.split()


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"'reflekt' \(did you mean 'reflect'\?\)"):
        PadCrop(mode="reflekt")
    with pytest.raises(ValueError, match=r"Erasing: prob is 1\.5; expected 0 to 1"):
        Erasing(prob=1.5)


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
