"""Fewer dimensions: features on the directions that hold most of the gallery's (PCA).

Directions are those of the gallery's features at unit length, without labels, and features are
not centred. So products of features stay what they were, as far as the directions reach: with as
many as the gallery spans, every query ranks it as before. Centring would move the numbers also
where nothing is left out.
"""

import numpy as np
import torch
from torch import Tensor

from openanimals.evaluation.distance import Features, as_tensor, checked_lengths, is_wide
from openanimals.utils.errors import UserError

BLOCK = 2**24  # numbers in float64 at once: 128 MiB


def reduce_dimensions(
    query: Features,
    gallery: Features,
    dimensions: int,
    *,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Reduce features to some dimensions, as the gallery has it.

    Args:
        query: features `[Q, D]`, of any type of number.
        gallery: features `[G, D]`.
        dimensions: how many to keep, K.
        device: where products are computed, ``"cpu"`` or a CUDA device. Directions are always
            solved for on the CPU.

    Returns:
        Features of the queries `[Q, K]` and of the gallery `[G, K]`; in float64 if the gallery's
        are, else in float32.

    Raises:
        UserError: features are not finite or of different lengths, or the gallery does not span
            as many dimensions.
    """
    _, lengths = checked_lengths(query, gallery)
    scale = lengths.sqrt().clamp(min=1e-12).reciprocal()[:, None]
    directions = _directions(gallery, scale, dimensions, device)
    return _project(query, directions), _project(gallery, directions)


def _directions(
    gallery: Features, scale: Tensor, dimensions: int, device: torch.device | str
) -> Tensor:
    """Return orthonormal directions `[D, K]` in float64, those of the largest spread first.

    A feature times its scale `[G, 1]` is of unit length.
    """
    from scipy import linalg  # here, so that a training does not start by importing it

    images, length = gallery.shape
    smaller = min(images, length)
    if dimensions > smaller:
        raise _too_many(dimensions, smaller, images)
    # Products of all dimensions or of all images, whichever are fewer, summed over the others.
    by_image = images < length
    products = torch.zeros((smaller, smaller), dtype=torch.float64, device=device)
    for part in _parts(length if by_image else images, smaller):
        if by_image:
            block = _unit(gallery[:, part], scale, device)
            products.addmm_(block, block.mT)
        else:
            block = _unit(gallery[part], scale[part], device)
            products.addmm_(block.mT, block)
    values, vectors = linalg.eigh(
        products.cpu().numpy(),
        subset_by_index=(smaller - dimensions, smaller - 1),
        overwrite_a=True,
        check_finite=False,
    )
    values, vectors = values[::-1], torch.from_numpy(vectors[:, ::-1].copy()).to(device)
    spanned = int((values > values[0] * max(images, length) * np.finfo(float).eps).sum())
    if spanned < dimensions:
        raise _too_many(dimensions, spanned, images)
    if not by_image:
        return vectors
    vectors /= torch.from_numpy(np.sqrt(values)).to(device)
    parts = _parts(length, images)
    return torch.cat([_unit(gallery[:, part], scale, device).mT @ vectors for part in parts])


def _project(features: Features, directions: Tensor) -> np.ndarray:
    dtype = np.float64 if is_wide(features) else np.float32
    found = np.empty((len(features), directions.shape[1]), dtype)
    for part in _parts(len(features), len(directions)):
        block = as_tensor(features[part]).to(directions)
        found[part] = (block @ directions).cpu().numpy()
    return found


def _unit(part: Features, scale: Tensor, device: torch.device | str) -> Tensor:
    return (as_tensor(part).double() * scale).to(device)


def _parts(count: int, each: int) -> list[slice]:
    """Return consecutive parts of things of ``each`` numbers, to be at hand one by one."""
    step = max(1, BLOCK // each)
    return [slice(start, start + step) for start in range(0, count, step)]


def _too_many(dimensions: int, spanned: int, images: int) -> UserError:
    return UserError(
        f"features cannot be reduced to {dimensions} dimensions (TEST.PCA): those of the {images} "
        f"gallery images span {spanned}; set it to at most that, or to 0 for all dimensions"
    )
