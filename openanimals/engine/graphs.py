"""SOLVER.CUDA_GRAPHS: the kernels of a pass are launched together, as recorded once.

It follows PyTorch's documentation and has not been run on a GPU yet.
"""

import torch
from torch import Tensor, nn

from openanimals.modeling import ModelOutput, ReIDModel
from openanimals.utils import distributed
from openanimals.utils.errors import UserError


def check(device: torch.device) -> None:
    """Raise where graphs cannot be had.

    Raises:
        ValueError: not on CUDA, or in several processes, whose exchange of gradients they lack.
    """
    if device.type != "cuda":
        raise UserError(f"SOLVER.CUDA_GRAPHS is True, which needs a CUDA device, not {device.type}")
    if distributed.world_size() > 1:
        raise UserError("SOLVER.CUDA_GRAPHS is True, which works in one process; set it to False")


class Replayed:
    """A model whose forward and backward passes are recorded with its first batch.

    Call it in training mode, with batches of one size, under autocast without its cache. Gradients
    lie in memory that the next backward pass writes to, so they cannot be added up.

    Args:
        model: on a CUDA device.
    """

    def __init__(self, model: ReIDModel) -> None:
        self.model = model
        self.recorded: nn.Module | None = None

    def __call__(self, images: Tensor, targets: Tensor) -> ModelOutput:
        """Return what the model does."""
        if self.recorded is None:
            self.recorded = self._record(images, targets)
        return self.recorded(images, targets)

    def _record(self, images: Tensor, targets: Tensor) -> nn.Module:
        """Record with memory of its own, from which the graph will read all later batches."""
        kept = [buffer.clone() for buffer in self.model.buffers()]
        samples = (images.clone(), targets.clone())
        recorded = torch.cuda.make_graphed_callables(_Forward(self.model), samples)
        for buffer, value in zip(self.model.buffers(), kept, strict=True):
            buffer.copy_(value)  # the passes before the recording have moved running statistics
        return recorded


class _Forward(nn.Module):
    """The forward of a model; recording replaces it, and not the model's own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, targets: Tensor) -> ModelOutput:
        return self.model(images, targets)
