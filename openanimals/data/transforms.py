"""Random augmentation of a batch on its device, and AutoAugment of one image.

Every random number comes from a CPU generator that the caller hands in, so what is drawn depends
neither on the device, nor on the number of workers, nor on what ran before a resume. Drawing is
apart from applying: a transform draws plain numbers, then a function applies them.

Batches stay in channels-last memory, as convolutions want them. Views are cut out of the images one
by one and stacked: on a CPU that takes a tenth of the time of index arithmetic over the batch, and
it reads nothing back from an accelerator.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from PIL import Image
from torch import Generator, Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from openanimals.utils.registry import Registry

ATTEMPTS = 100  # regions that are drawn for an image to find one that fits into it


class Transform(Protocol):
    """Draws from the CPU generator; returns a new batch, or ``images`` as they are."""

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Augment ``images`` (``[B, 3, H, W]`` in 0..255) without changing them in place."""


TRANSFORM_REGISTRY: Registry[Callable[..., Transform]] = Registry("transform")
"""``f(cfg)`` gives a transform; INPUT.TRANSFORMS names those that are used, in order."""


class Compose:
    """Applies transforms to a batch, one after the other.

    Example:
        >>> augment = Compose([PadCrop(size=10), Flip(prob=0.5)])
        >>> images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
        >>> augment(images, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = transforms

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Augment uint8 ``[B, 3, H, W]``, on any device, by draws from a CPU generator.

        The result is float32 if random erasing is among the transforms (its value need not be
        whole), else uint8; H and W are those of the random resized crop, if that is among them.
        """
        for transform in self.transforms:
            images = transform(images, generator)
        return images


@dataclass(frozen=True)
class RandomApply:
    """What transforms share that treat each image with a probability.

    Args:
        prob: probability, 0 to 1, that an image is treated; None: each is, without a draw.
    """

    prob: float | None = 0.5

    def draw(self, count: int, generator: Generator) -> list[bool]:
        """Return for each of ``count`` images whether it is treated."""
        if self.prob is None:
            return [True] * count
        return (torch.rand(count, generator=generator) < self.prob).tolist()


@dataclass(frozen=True)
class PerImage(RandomApply):
    """Apply a random operation of torchvision, which draws from torch's global CPU stream.

    The stream is seeded anew for each image.

    Args:
        prob: probability of each image; None: all.
        operation: takes and returns an image, uint8 ``[3, H, W]``.
    """

    operation: Callable[[Tensor], Tensor] = field(kw_only=True)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Return uint8 ``[B, 3, H, W]``, in the operation's H and W."""
        chosen = self.draw(len(images), generator)
        seeds = torch.randint(2**62, (len(images),), generator=generator).tolist()
        results = []
        for image, seed, is_chosen in zip(images, seeds, chosen, strict=True):
            if is_chosen:
                with _seeded(seed):  # in planes, so that sums are always taken in one order
                    image = self.operation(image.contiguous())
            results.append(image)
        return stack(results)


@dataclass(frozen=True)
class PadCrop:
    """Pad every image on all sides, then cut out a random part of its former size.

    Args:
        mode: what fills the sides: constant (black), edge, reflect or symmetric.
        size: width of the padding in pixels.
    """

    mode: str = "constant"
    size: int = 10

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Return ``[B, 3, H, W]``."""
        corners = torch.randint(2 * self.size + 1, (len(images), 2), generator=generator)
        return pad_and_crop(images, corners.tolist(), self.size, self.mode)


class Flip(RandomApply):
    """Mirror images left to right."""

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Return ``[B, 3, H, W]``."""
        chosen = self.draw(len(images), generator)
        pairs = zip(images, chosen, strict=True)
        return stack([image.flip(-1) if is_chosen else image for image, is_chosen in pairs])


@dataclass(frozen=True)
class Erasing(RandomApply):
    """Overwrite a region of 0.02 to 0.4 of the area, 0.3 to 1 / 0.3 as high as it is wide.

    Args:
        prob: probability of each image.
        value: what it is overwritten with, for each channel, 0..255.
    """

    value: Sequence[float] = (123.675, 116.28, 103.53)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Return float32 ``[B, 3, H, W]``."""
        chosen = self.draw(len(images), generator)
        regions = draw_regions(len(images), images.shape[-2:], generator, (0.02, 0.4), 0.3)
        erased = images.to(torch.float32, copy=True)
        for image, region, is_chosen in zip(erased, regions, chosen, strict=True):
            if is_chosen:
                for channel, level in zip(region.of(image), self.value, strict=True):
                    channel.fill_(level)
        return erased


class Patch(RandomApply):
    """Paste a region of another image of the batch, 0.01 to 0.5 of the area, anywhere.

    Half of the patches are mirrored, half are turned by up to 10 degrees (with black corners).
    FastReID keeps a pool of patches of earlier batches instead; without one there is nothing to
    save, and to restore when a run is resumed. In a batch of one, the patch is the image's own.
    """

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Return ``[B, 3, H, W]``."""
        chosen = self.draw(len(images), generator)
        pastes = draw_pastes(len(images), images.shape[-2:], generator)
        return paste(images, [item if c else None for item, c in zip(pastes, chosen, strict=True)])


class Region(NamedTuple):
    """A part of an image in pixels; of height and width 0 where none was found that fits."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: Tensor) -> Tensor:
        """Return this part of an image ``[C, H, W]``, as a view."""
        return image[:, self.top : self.top + self.height, self.left : self.left + self.width]


class Paste(NamedTuple):
    """Where a patch comes from, what is done to it, and where it goes to."""

    donor: int
    source: Region
    mirrored: bool
    angle: float
    target: Region


def draw_regions(
    count: int, size: Sequence[int], generator: Generator, area: tuple[float, float], aspect: float
) -> list[Region]:
    """Draw a region for each of ``count`` images of ``size`` (H, W).

    The share of the area is uniform between the two given, height / width uniform between
    ``aspect`` and 1 / ``aspect``. Of :data:`ATTEMPTS` drawn, the first that is smaller than the
    image in both directions is placed anywhere in it.
    """
    height, width = size
    areas = _uniform(*area, (count, ATTEMPTS), generator) * height * width
    aspects = _uniform(aspect, 1 / aspect, (count, ATTEMPTS), generator)
    heights = (areas * aspects).sqrt().round().long()
    widths = (areas / aspects).sqrt().round().long()
    fits = (heights > 0) & (heights < height) & (widths > 0) & (widths < width)
    first = fits.int().argmax(1, keepdim=True)
    heights = heights.gather(1, first)[:, 0] * fits.any(1)
    widths = widths.gather(1, first)[:, 0] * fits.any(1)
    tops = _below(height - heights + 1, generator)
    lefts = _below(width - widths + 1, generator)
    return [Region(*r) for r in torch.stack([tops, lefts, heights, widths], 1).tolist()]


def draw_pastes(count: int, size: Sequence[int], generator: Generator) -> list[Paste]:
    """Draw a patch for each of ``count`` images of ``size`` (H, W), from another one of them."""
    targets = draw_regions(count, size, generator, (0.01, 0.5), 0.1)
    places = torch.tensor(targets)
    tops = _below(size[0] - places[:, 2] + 1, generator).tolist()
    lefts = _below(size[1] - places[:, 3] + 1, generator).tolist()
    steps = 1 + _below(torch.full((count,), count - 1), generator)
    donors = ((torch.arange(count) + steps) % count).tolist()
    mirrored, turned = torch.rand(2, count, generator=generator) < 0.5
    angles = (_uniform(-10, 10, (count,), generator) * turned).tolist()
    sources = [Region(*place) for place in zip(tops, lefts, *places[:, 2:].T.tolist(), strict=True)]
    return list(map(Paste, donors, sources, mirrored.tolist(), angles, targets))


def paste(images: Tensor, pastes: Sequence[Paste | None]) -> Tensor:
    """Return a copy of ``[B, C, H, W]`` with the patches, all taken from ``images`` as given."""
    pasted = images.clone()
    for image, item in zip(pasted, pastes, strict=True):
        if item is None or item.target.height == 0:
            continue
        patch = item.source.of(images[item.donor])
        if item.mirrored:
            patch = patch.flip(-1)
        if item.angle:
            patch = functional.rotate(patch, item.angle)
        item.target.of(image).copy_(patch)
    return pasted


def pad_and_crop(
    images: Tensor, corners: Sequence[Sequence[int]], padding: int, mode: str
) -> Tensor:
    """Pad ``[B, C, H, W]`` and cut ``[H, W]`` out of each image, at its (top, left) corner.

    Corners count from the corner of the padded image, so (padding, padding) changes nothing.
    """
    height, width = images.shape[-2:]
    padded = functional.pad(images, [padding], padding_mode=mode)
    parts = [Region(top, left, height, width) for top, left in corners]
    return stack([part.of(image) for image, part in zip(padded, parts, strict=True)])


def stack(images: Sequence[Tensor]) -> Tensor:
    """Stack ``[C, H, W]`` to ``[B, C, H, W]`` in channels-last memory, as convolutions want it."""
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def augmix(image: Tensor) -> Tensor:
    """Mix ``[3, H, W]`` with chains of distortions of itself, on the CPU, where it is to draw."""
    return v2.AugMix()(image.cpu()).to(image.device)


def auto_augment(image: Image.Image, seed: int) -> Image.Image:
    """Apply one random policy of AutoAugment (torchvision's for ImageNet) to an RGB image."""
    with _seeded(seed):
        return v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET)(image)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's global CPU stream within the block; afterwards it is where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed devices, too
        yield


def _uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def _below(bounds: Tensor, generator: Generator) -> Tensor:
    """Return whole numbers from 0 to below each of ``bounds`` (0 where the bound is 0)."""
    return (torch.rand(bounds.shape, generator=generator, dtype=torch.float64) * bounds).long()
