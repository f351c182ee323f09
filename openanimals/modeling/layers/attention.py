"""Attention for the blocks of a ResNet: over positions (non-local) and over channels (SE)."""

from typing import Any

from torch import Tensor, nn

from openanimals.modeling.layers.norms import make_norm
from openanimals.modeling.layers.pools import mean
from openanimals.modeling.layers.precision import full_precision


class NonLocal(nn.Module):
    """Non-local block of inner width 1: each position adds the mean of what all positions say.

    What position j says to position i is ``theta[i] * phi[j] * g[j]``, averaged over j. There is
    no softmax, so the mean over j is taken once for all i, and no matrix of positions is built.
    The last norm starts at 0, the block as the identity.

    Source: Wang et al., Non-local neural networks; the width is a quirk of the release, and its
    checkpoints have it.

    Args:
        channels: of the map.
        norm: a name of :data:`~openanimals.modeling.layers.norms.NORMS`.
    """

    def __init__(self, channels: int, norm: str = "BN") -> None:
        super().__init__()
        self.g, self.theta, self.phi = (nn.Conv2d(channels, 1, 1) for _ in range(3))
        last: Any = make_norm(norm, channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.W = nn.Sequential(nn.Conv2d(1, channels, 1), last)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map and what was added, ``[B, C, H, W]``."""
        said = full_precision(self.phi(x)) * full_precision(self.g(x))  # [B, 1, H, W]
        return x + self.W(self.theta(x) * said.mean((2, 3), keepdim=True))


class SqueezeExcitation(nn.Module):
    """Scales each channel by a number in 0..1 that follows from the means of all channels.

    Source: Hu et al., Squeeze-and-excitation networks.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 16
        self.fc = nn.Sequential(
            nn.Linear(channels, inner, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(inner, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map, ``[B, C, H, W]``."""
        return x * self.fc(mean(x).flatten(1))[:, :, None, None]
