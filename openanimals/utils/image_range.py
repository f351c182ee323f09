"""Whether images are what a model takes: RGB in 0..255."""

import logging
from weakref import WeakSet

import torch
from torch import Tensor, nn

from openanimals.utils.errors import UserError

logger = logging.getLogger(__name__)

SCALED = 8  # what photographs in 0..1, or divided by their deviation, do not exceed

_looked_at: WeakSet[nn.Module] = WeakSet()  # models whose first images of floats were looked at


def check_images(model: nn.Module, images: Tensor) -> None:
    """Refuse a batch of other than three channels, and warn of one that is scaled already.

    Arithmetic would stretch one channel to three. Values are looked at, which waits for the device
    that they are on, but only once for each model and if they are not uint8.

    Raises:
        UserError: it is not of the shape ``[B, 3, H, W]``.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise UserError(
            f"the images have the shape {list(images.shape)}; expected RGB, [B, 3, H, W] (of grey "
            "ones, three equal channels)"
        )
    # A step of training never waits for its device.
    waits = model.training and images.device.type != "cpu"
    has_values = images.numel() and not images.is_meta and not torch.compiler.is_compiling()
    if images.dtype == torch.uint8 or waits or not has_values or model in _looked_at:
        return
    _looked_at.add(model)
    largest = images.float().abs().max().item()
    if 0 < largest <= SCALED:
        logger.warning(
            "no value of the images is beyond %.3g; the model normalises pixels in 0..255 itself, "
            "so images in 0..1 are all but black to it: multiply them by 255",
            largest,
        )
