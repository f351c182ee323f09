"""Fewer dimensions: features on the directions that hold most of the gallery's (PCA).

Directions are those of the gallery's features at unit length, without labels, and features are
not centred. So products of features stay what they were, as far as the directions reach: with as
many as the gallery spans, every query ranks it as before. Centring would move the numbers also
where nothing is left out.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from openanimals.evaluation.distance import Features, as_tensor, squared_lengths
from openanimals.utils.errors import UserError

BLOCK = 2**24  # numbers in float64 at once: 128 MiB


def reduce_dimensions(
    query: Features,
    gallery: Features,
    dimensions: int,
    *,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Reduce features `[Q, D]` and `[G, D]` to K dimensions, as the gallery has it.

    Products are computed on the device; directions are always solved for on the CPU.

    Returns:
        Features of the queries `[Q, K]` and of the gallery `[G, K]`; those in float64 stay so, all
        others become float32.

    Raises:
        UserError: features are not finite or of different lengths, or the gallery does not span
            as many dimensions.
    """
    from scipy import linalg  # here, so that a training does not start by importing it

    scale = squared_lengths(query, gallery)[1].sqrt().clamp(min=1e-12).reciprocal()[:, None]
    images, length = gallery.shape
    by_image = images < length  # products of all images or of all dimensions, whichever are fewer
    smaller = min(images, length)
    products = torch.zeros((smaller, smaller), dtype=torch.float64, device=device)
    for part, block in _parts(gallery, along=1 if by_image else 0, device=device):
        unit = block * scale.to(device) if by_image else (block * scale[part].to(device)).mT
        products.addmm_(unit, unit.mT)
    kept = min(dimensions, smaller)
    values, vectors = linalg.eigh(
        products.cpu().numpy(),
        subset_by_index=(smaller - kept, smaller - 1),
        overwrite_a=True,
        check_finite=False,
    )
    values, directions = values[::-1], torch.from_numpy(vectors[:, ::-1].copy()).to(device)
    spanned = int((values > values[0] * max(images, length) * np.finfo(float).eps).sum())
    if spanned < dimensions:
        raise UserError(
            f"features cannot be reduced to {dimensions} dimensions (TEST.PCA): those of the "
            f"{images} gallery images span {spanned}; set it to at most that, or to 0 for all "
            "dimensions"
        )
    if by_image:  # the directions are those combinations of the images, at unit length
        directions = scale.to(device) * directions / torch.from_numpy(np.sqrt(values)).to(device)
        parts = _parts(gallery, along=1, device=device)
        directions = torch.cat([block.mT @ directions for _, block in parts])
    return _project(query, directions), _project(gallery, directions)


def _project(features: Features, directions: Tensor) -> np.ndarray:
    wide = as_tensor(features[:1]).dtype == torch.float64
    found = np.empty((len(features), directions.shape[1]), np.float64 if wide else np.float32)
    for part, block in _parts(features, along=0, device=directions.device):
        found[part] = (block @ directions).cpu().numpy()
    return found


def _parts(
    features: Features, *, along: int, device: torch.device | str
) -> Iterator[tuple[slice, Tensor]]:
    """Yield consecutive rows, or columns, of features in float64, that fit into memory."""
    step = max(1, BLOCK // features.shape[1 - along])
    for start in range(0, features.shape[along], step):
        part = slice(start, start + step)
        block = as_tensor(features[part] if along == 0 else features[:, part])
        yield part, block.to(device, torch.float64)
