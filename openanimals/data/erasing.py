"""Random erasing and random patches: a region of an image is overwritten."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from openanimals.data.transforms import RandomApply

ATTEMPTS = 100  # regions that are drawn for an image to find one that fits into it


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


@dataclass(frozen=True)
class Erasing(RandomApply):
    """Overwrite a region of 0.02 to 0.4 of the area, 0.3 to 1 / 0.3 as high as it is wide.

    Args:
        prob: probability of each image.
        value: what it is overwritten with, for each channel, 0..255.
    """

    value: Sequence[float] = (123.675, 116.28, 103.53)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return float32 ``[B, 3, H, W]``."""
        chosen = self.draw(len(images), generator)
        regions = draw_regions(len(images), images.shape[-2:], generator, (0.02, 0.4), 0.3)
        drawn = [region if c else None for region, c in zip(regions, chosen, strict=True)]
        return erase(images, drawn, self.value)


class Patch(RandomApply):
    """Paste a region of another image of the batch, 0.01 to 0.5 of the area, anywhere.

    Half of the patches are mirrored, half are turned by up to 10 degrees (with black corners).
    FastReID keeps a pool of patches of earlier batches instead; without one there is nothing to
    save, and to restore when a run is resumed. In a batch of one, the patch is the image's own.
    """

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return ``[B, 3, H, W]``."""
        chosen = self.draw(len(images), generator)
        pastes = draw_pastes(len(images), images.shape[-2:], generator)
        return paste(images, [item if c else None for item, c in zip(pastes, chosen, strict=True)])


def draw_regions(
    count: int,
    size: Sequence[int],
    generator: torch.Generator,
    area: tuple[float, float],
    aspect: float,
) -> list[Region]:
    """Draw a region for each of ``count`` images of ``size`` (H, W).

    The share of the area is uniform between the two given, height / width uniform between
    ``aspect`` and 1 / ``aspect``. Of :data:`ATTEMPTS` drawn, the first that is smaller than the
    image in both directions is placed anywhere in it.
    """
    height, width = size
    areas = _uniform(area[0], area[1], (count, ATTEMPTS), generator) * height * width
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


def draw_pastes(count: int, size: Sequence[int], generator: torch.Generator) -> list[Paste]:
    """Draw a patch for each of ``count`` images of ``size`` (H, W), from another one of them."""
    targets = draw_regions(count, size, generator, (0.01, 0.5), 0.1)
    heights = torch.tensor([target.height for target in targets])
    widths = torch.tensor([target.width for target in targets])
    tops = _below(size[0] - heights + 1, generator).tolist()
    lefts = _below(size[1] - widths + 1, generator).tolist()
    steps = 1 + _below(torch.full((count,), count - 1), generator)
    donors = ((torch.arange(count) + steps) % count).tolist()
    mirrored, turned = (torch.rand(2, count, generator=generator) < 0.5).tolist()
    angles = _uniform(-10, 10, (count,), generator).tolist()
    return [
        Paste(
            donor=donors[i],
            source=Region(tops[i], lefts[i], target.height, target.width),
            mirrored=mirrored[i],
            angle=angles[i] if turned[i] else 0.0,
            target=target,
        )
        for i, target in enumerate(targets)
    ]


def erase(images: Tensor, regions: Sequence[Region | None], value: Sequence[float]) -> Tensor:
    """Return ``[B, C, H, W]`` as float32, with ``value`` (C) in each image's region."""
    erased = images.to(torch.float32, copy=True)
    for image, region in zip(erased, regions, strict=True):
        if region is not None:
            for channel, level in zip(region.of(image), value, strict=True):
                channel.fill_(level)
    return erased


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


def _uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def _below(bounds: Tensor, generator: torch.Generator) -> Tensor:
    """Return whole numbers from 0 to below each of ``bounds`` (0 where the bound is 0)."""
    return (torch.rand(bounds.shape, generator=generator, dtype=torch.float64) * bounds).long()
