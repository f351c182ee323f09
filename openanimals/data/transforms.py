"""Random augmentation of a batch on its device, and AutoAugment of one image.

Every random number comes from a CPU generator that the caller hands in, so what is drawn depends
neither on the device, nor on the number of workers, nor on what ran before a resume. Drawing is
apart from applying: a transform draws plain numbers, then a function applies them.

Batches stay in channels-last memory, as convolutions want them.
The functions cut views out of the images one by one and stack them. On a CPU that takes a tenth of
the time of index arithmetic over the whole batch, and it reads nothing back from an accelerator.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from openanimals.utils.errors import UserError
from openanimals.utils.registry import Registry, did_you_mean

PAD_MODES = ("constant", "edge", "reflect", "symmetric")


class Transform(Protocol):
    """Draws from the CPU generator; returns a new batch, or ``images`` as they are."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
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

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a batch.

        Args:
            images: uint8 ``[B, 3, H, W]`` in 0..255, on any device; never changed in place.
            generator: a CPU generator, the only source of randomness.

        Returns:
            ``[B, 3, H, W]`` in 0..255 on the same device, float32 if random erasing is among them
            (its value need not be whole), else uint8. H and W are those of the random resized crop,
            if that is among them.
        """
        for transform in self.transforms:
            images = transform(images, generator)
        return images


@dataclass(frozen=True)
class RandomApply:
    """What transforms share that treat each image with a probability.

    Args:
        prob: probability, 0 to 1, that an image is treated.

    Raises:
        ValueError: it is not between 0 and 1.
    """

    prob: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.prob <= 1:
            raise UserError(f"{type(self).__name__}: prob is {self.prob}; expected 0 to 1")

    def draw(self, count: int, generator: torch.Generator) -> list[bool]:
        """Return for each of ``count`` images whether it is treated."""
        return (torch.rand(count, generator=generator) < self.prob).tolist()


@dataclass(frozen=True)
class ResizedCrop:
    """Cut a random part out of every image and resize it (bicubic), as torchvision does.

    Args:
        size: (height, width) of the result in pixels.
        scale: least and greatest share of the area that is cut out.
        ratio: least and greatest width / height of the part.
    """

    size: Sequence[int]
    scale: Sequence[float] = (0.16, 1.0)
    ratio: Sequence[float] = (3 / 4, 4 / 3)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return uint8 ``[B, 3, *size]``."""
        crop = v2.RandomResizedCrop(
            list(self.size),
            scale=(self.scale[0], self.scale[1]),
            ratio=(self.ratio[0], self.ratio[1]),
            interpolation=v2.InterpolationMode.BICUBIC,
        )
        return _one_by_one(crop, images, [True] * len(images), generator)


@dataclass(frozen=True)
class PadCrop:
    """Pad every image on all sides, then cut out a random part of its former size.

    Args:
        mode: what fills the sides: constant (black), edge, reflect or symmetric.
        size: width of the padding in pixels.

    Raises:
        ValueError: there is no such mode.
    """

    mode: str = "constant"
    size: int = 10

    def __post_init__(self) -> None:
        if self.mode not in PAD_MODES:
            raise UserError(
                f"no padding mode {self.mode!r}{did_you_mean(self.mode, PAD_MODES)}; "
                f"known: {', '.join(PAD_MODES)}"
            )

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return ``[B, 3, H, W]``."""
        corners = torch.randint(2 * self.size + 1, (len(images), 2), generator=generator)
        return pad_and_crop(images, corners.tolist(), self.size, self.mode)


class Flip(RandomApply):
    """Mirror images left to right."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return ``[B, 3, H, W]``."""
        return flip(images, self.draw(len(images), generator))


@dataclass(frozen=True)
class ColorJitter(RandomApply):
    """Change brightness, contrast, saturation and hue, as torchvision does.

    Args:
        prob: probability of each image.
        brightness: greatest change of the factor, from 1; so for contrast and saturation.
        contrast: see brightness.
        saturation: see brightness.
        hue: greatest turn of the hue, 0.5 being half the circle.
    """

    brightness: float = 0.15
    contrast: float = 0.15
    saturation: float = 0.1
    hue: float = 0.1

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return uint8 ``[B, 3, H, W]``."""
        jitter = v2.ColorJitter(self.brightness, self.contrast, self.saturation, self.hue)
        return _one_by_one(jitter, images, self.draw(len(images), generator), generator)


class Affine:
    """Turn every image by up to 10 degrees, scale it by 0.9 to 1.1 and shear it by 0.1 degrees."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return uint8 ``[B, 3, H, W]``."""
        affine = v2.RandomAffine(degrees=10, scale=(0.9, 1.1), shear=0.1)
        return _one_by_one(affine, images, [True] * len(images), generator)


class AugMix(RandomApply):
    """Mix an image with chains of distortions of itself (torchvision's AugMix, its defaults).

    Runs on the CPU wherever the images are, for it draws on their device.
    """

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return uint8 ``[B, 3, H, W]``."""
        augmix = v2.AugMix()
        chosen = self.draw(len(images), generator)
        return _one_by_one(
            lambda image: augmix(image.cpu()).to(image.device), images, chosen, generator
        )


def flip(images: Tensor, chosen: Sequence[bool]) -> Tensor:
    """Mirror the chosen ones of ``[B, C, H, W]`` left to right."""
    return stack([image.flip(-1) if c else image for image, c in zip(images, chosen, strict=True)])


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
            image[:, top : top + height, left : left + width]
            for image, (top, left) in zip(padded, corners, strict=True)
        ]
    )


def stack(images: Sequence[Tensor]) -> Tensor:
    """Stack ``[C, H, W]`` to ``[B, C, H, W]`` in channels-last memory, as convolutions want it."""
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def auto_augment(image: Image.Image, seed: int) -> Image.Image:
    """Apply one random policy of AutoAugment (torchvision's for ImageNet) to an RGB image."""
    with _seeded(seed):
        return v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET)(image)


def _one_by_one(
    operation: Callable[[Tensor], Tensor],
    images: Tensor,
    chosen: Sequence[bool],
    generator: torch.Generator,
) -> Tensor:
    """Apply an operation that draws from the global stream, seeded anew for each image.

    It sees each channel in one piece, so that whatever it sums up, it sums up in this order.
    """
    seeds = torch.randint(2**62, (len(images),), generator=generator).tolist()
    results = []
    for image, seed, is_chosen in zip(images, seeds, chosen, strict=True):
        if is_chosen:
            with _seeded(seed):
                image = operation(image.contiguous())
        results.append(image)
    return stack(results)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's global CPU stream within the block; afterwards it is where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed devices, too
        yield
