"""Rectangles of images: drawn at random, cut out, filled with a colour, pasted elsewhere."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

ATTEMPTS = 100  # rectangles that are drawn for an image to find one that fits into it


class Rectangle(NamedTuple):
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
    source: Rectangle
    mirrored: bool
    angle: float
    target: Rectangle


def stack(images: Sequence[Tensor]) -> Tensor:
    """Stack ``[C, H, W]`` to ``[B, C, H, W]`` in channels-last memory, as convolutions want it."""
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def draw_rectangles(
    count: int,
    size: Sequence[int],
    generator: torch.Generator,
    area: tuple[float, float],
    aspect: float,
) -> list[Rectangle]:
    """Draw a rectangle for each of ``count`` images of ``size`` (H, W).

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
    return [Rectangle(*r) for r in torch.stack([tops, lefts, heights, widths], 1).tolist()]


def draw_pastes(count: int, size: Sequence[int], generator: torch.Generator) -> list[Paste]:
    """Draw a patch for each of ``count`` images of ``size`` (H, W), from another one of them."""
    targets = draw_rectangles(count, size, generator, (0.01, 0.5), 0.1)
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
            source=Rectangle(tops[i], lefts[i], target.height, target.width),
            mirrored=mirrored[i],
            angle=angles[i] if turned[i] else 0.0,
            target=target,
        )
        for i, target in enumerate(targets)
    ]


def pad_and_crop(
    images: Tensor, corners: Sequence[Sequence[int]], padding: int, mode: str
) -> Tensor:
    """Pad ``[B, C, H, W]`` and cut ``[H, W]`` out of each image, at its (top, left) corner.

    Corners count from the corner of the padded image, so (padding, padding) changes nothing.
    """
    height, width = images.shape[-2:]
    padded = functional.pad(images, [padding], padding_mode=mode)
    return stack(
        [
            Rectangle(top, left, height, width).of(image)
            for image, (top, left) in zip(padded, corners, strict=True)
        ]
    )


def erase(images: Tensor, rectangles: Sequence[Rectangle | None], value: Sequence[float]) -> Tensor:
    """Return ``[B, C, H, W]`` as float32, with ``value`` (C) in each image's rectangle."""
    erased = images.to(torch.float32, copy=True)
    for image, rectangle in zip(erased, rectangles, strict=True):
        if rectangle is not None:
            for channel, level in zip(rectangle.of(image), value, strict=True):
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
