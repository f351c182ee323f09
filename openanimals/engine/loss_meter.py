"""Losses on the device until they are asked for, and the stop when one is not finite."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from openanimals.utils.errors import UserError

_REMEDY = (
    "lower SOLVER.BASE_LR, lengthen the warm-up, or try SOLVER.AMP.DTYPE bfloat16. The last "
    "checkpoint is from before it"
)


class NonFiniteLossError(UserError):
    """A loss, or a weight, became infinite or not a number."""


class LossMeter:
    """The losses since they were last taken: fetched in one go, so that no step waits for them.

    Args:
        path: from a row of the training set to its file, to name the images of a bad batch.
        lr_at: from an iteration to its learning rate.
    """

    def __init__(self, path: Callable[[int], str], lr_at: Callable[[int], float]) -> None:
        self.path, self.lr_at = path, lr_at
        self.names: list[str] = []
        self.entries: list[tuple[int, Tensor, Tensor]] = []  # iteration, losses, rows

    def add(self, iteration: int, losses: Mapping[str, Tensor], rows: Tensor) -> None:
        """Note the losses of an iteration, scalars on the device, and the rows of its images."""
        self.names = list(losses)
        self.entries.append((iteration, torch.stack([*losses.values()]), rows))

    def take(self) -> dict[str, float]:
        """Return the mean losses and forget them; nothing if there are none.

        Raises:
            NonFiniteLossError: names the term, iteration, learning rate and images.
        """
        if not self.entries:
            return {}
        values = torch.stack([losses for _, losses, _ in self.entries]).cpu().double().numpy()
        for (iteration, _, rows), losses in zip(self.entries, values, strict=True):
            if not np.isfinite(losses).all():
                named = ", ".join(f"{n} = {v:g}" for n, v in zip(self.names, losses, strict=True))
                paths = "\n  ".join(map(self.path, rows.tolist()))
                raise NonFiniteLossError(
                    f"the loss is not finite at iteration {iteration} ({named}; learning rate "
                    f"{self.lr_at(iteration):.3g}); {_REMEDY}. Images of the batch:\n  {paths}"
                )
        self.entries.clear()
        return dict(zip(self.names, values.mean(axis=0).tolist(), strict=True))


def check_weights(model: nn.Module, scaler: torch.amp.GradScaler, iteration: int) -> None:
    """Raise if weights are not finite, or gradients never are: the losses may hide both."""
    if scaler.is_enabled() and scaler.get_scale() < 1:
        raise NonFiniteLossError(
            f"no gradient has been finite in float16 before iteration {iteration}, so "
            f"nothing is learned; {_REMEDY}"
        )
    broken = [
        name
        for name, value in model.state_dict().items()
        if value.is_floating_point() and not value.isfinite().all()
    ]
    if broken:
        raise NonFiniteLossError(
            f"{len(broken)} weights are not finite after iteration {iteration - 1}, for "
            f"instance {broken[0]}; {_REMEDY}"
        )
