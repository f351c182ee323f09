"""ReIDModel: shared stem, one tail a branch, stripes, one head a stripe."""

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from openanimals.modeling.backbones import Backbone
from openanimals.modeling.layers.norms import layout_of
from openanimals.utils.errors import UserError
from openanimals.utils.image_range import check_images
from openanimals.utils.registry import did_you_mean

# The dimension of [B, C, H, W] that is cut: into rows for upright bodies, into columns for long.
_STRIPE_DIMS = {"rows": 2, "cols": 3}


class ModelOutput(NamedTuple):
    """What the model gives in training.

    Attributes:
        features: for metric losses, by granularity: b1, b2, b3, b2_stripes, b3_stripes; each
            ``[B, D]``, a branch's stripes concatenated.
        logits: for cross-entropy, margin included, by head: b1, b2, b3, b21, ...; each
            ``[B, classes]``.
    """

    features: dict[str, Tensor]
    logits: dict[str, Tensor]


class ReIDModel(nn.Module):
    """Images in, features out (eval), or features and logits by head (training).

    Args:
        backbone: its stem is shared; its tail, with whatever weights it has now, is copied for
            each branch.
        branches: for each branch, into how many stripes its map is cut: ``[[1]]``, or for ARBase
            ``[[1], [1, 2], [1, 3]]``.
        head: makes the head of one stripe from the number of channels.
        stripes: "rows" or "cols".
        pixel_mean: of R, G and B in 0..255.
        pixel_std: of R, G and B.

    Attributes:
        cuts: by branch, the names of the heads of each number of stripes.
        granularities: names of the heads that make up each granularity. All heads of whole maps
            come first, then the stripes; the test feature has this order.

    Raises:
        ValueError: branches that cannot be built.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        branches: Sequence[Sequence[int]],
        head: Callable[[int], nn.Module],
        *,
        stripes: str = "rows",
        pixel_mean: Sequence[float] = (123.675, 116.28, 103.53),
        pixel_std: Sequence[float] = (58.395, 57.12, 57.375),
    ) -> None:
        super().__init__()
        _check(branches, backbone)
        self.cuts: dict[str, dict[int, tuple[str, ...]]] = {
            f"b{number}": {count: _head_names(f"b{number}", count) for count in counts}
            for number, counts in enumerate(branches, 1)
        }
        granularities = [
            (count, branch if count == 1 else f"{branch}_stripes", names)
            for branch, cuts in self.cuts.items()
            for count, names in cuts.items()
        ]
        granularities.sort(key=lambda granularity: granularity[0] > 1)
        self.granularities = {name: heads for _, name, heads in granularities}

        self.stem = backbone.stem
        self.tails = nn.ModuleDict({branch: copy.deepcopy(backbone.tail) for branch in self.cuts})
        self.heads = nn.ModuleDict(
            {
                name: head(backbone.channels)
                for names in self.granularities.values()
                for name in names
            }
        )
        self.stripe_dim = _STRIPE_DIMS[stripes]
        # The constants belong to the config, not to the weights.
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            constant = torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
            self.register_buffer(name, constant, persistent=False)
        self._frozen: tuple[nn.Module, ...] = ()
        self._frozen_parameters: tuple[nn.Parameter, ...] = ()

    def forward(self, images: Tensor, targets: Tensor | None = None) -> Tensor | ModelOutput:
        """Return the test features ``[B, D]`` (eval mode) or a :class:`ModelOutput` (training).

        Args:
            images: RGB in 0..255, uint8 or float, ``[B, 3, H, W]``; not changed.
            targets: class of each image, ``[B]``; training only.

        Raises:
            ValueError: the images have other than three channels, or a feature map has fewer rows
                (or columns) than a cut needs.
        """
        if images.dtype != torch.uint8 or images.shape[1:-2] != (3,):
            check_images(self, images)
        pixels = (images.to(self.pixel_mean.dtype) - self.pixel_mean).div_(self.pixel_std)
        shared = self.stem(pixels)
        maps: dict[str, Tensor] = {}
        for branch, tail in self.tails.items():
            feature_map = tail(shared)  # [B, C, h, w]
            for count, names in self.cuts[branch].items():
                maps.update(zip(names, self._cut(feature_map, count), strict=True))

        if not self.training:
            return torch.cat([head(maps[name]) for name, head in self.heads.items()], dim=1)
        outputs = {name: head(maps[name], targets) for name, head in self.heads.items()}
        return ModelOutput(
            features={
                granularity: torch.cat([outputs[name].feature for name in names], dim=1)
                for granularity, names in self.granularities.items()
            },
            logits={name: output.logits for name, output in outputs.items()},
        )

    def _cut(self, feature_map: Tensor, count: int) -> tuple[Tensor, ...]:
        """Cut into stripes; where sizes do not divide, the first ones are larger."""
        size = feature_map.shape[self.stripe_dim]
        if not torch.compiler.is_compiling() and _edges(size, count)[-2] >= size:
            lines = "rows" if self.stripe_dim == 2 else "columns"
            raise UserError(
                f"a feature map of {size} {lines} cannot be cut into {count} stripes; use larger "
                "images or fewer stripes in MODEL.HEADS.BRANCHES"
            )
        return cut(feature_map, count, self.stripe_dim)

    def parts(self) -> dict[str, tuple[nn.Module, ...]]:
        """Return the modules behind each name that ``MODEL.FREEZE_LAYERS`` may use.

        ``backbone`` is stem and tail of a model with one branch, and the stem alone of one with
        several, whose tails are ``b1``, ``b2``, ...; ``b1_head``, ... are heads, ``heads`` is
        all of them.
        """
        if len(self.tails) == 1:
            parts: dict[str, tuple[nn.Module, ...]] = {"backbone": (self.stem, self.tails["b1"])}
        else:
            parts = {"backbone": (self.stem,)}
            parts.update((branch, (tail,)) for branch, tail in self.tails.items())
        parts.update((f"{name}_head", (head,)) for name, head in self.heads.items())
        parts["heads"] = tuple(self.heads.values())
        return parts

    def freeze(self, names: Sequence[str]) -> None:
        """Freeze exactly the named parts, until :meth:`unfreeze`.

        Frozen means: no gradient, and batch norms in eval mode even after ``train()``.

        Raises:
            ValueError: a name is not one of :meth:`parts`.
        """
        parts = self.parts()
        for name in names:
            if name not in parts:
                raise UserError(
                    f"MODEL.FREEZE_LAYERS names {name!r}{did_you_mean(name, parts)}; "
                    f"the parts of this model are {', '.join(parts)}"
                )
        self.unfreeze()
        self._frozen = tuple(module for name in names for module in parts[name])
        self._frozen_parameters = tuple(
            parameter
            for module in self._frozen
            for parameter in module.parameters()
            if parameter.requires_grad
        )
        for parameter in self._frozen_parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
        self.train(self.training)

    def unfreeze(self) -> None:
        """Undo :meth:`freeze`; what never had a gradient, such as a BNNeck's bias, stays so."""
        for parameter in self._frozen_parameters:
            parameter.requires_grad_(True)
        self._frozen, self._frozen_parameters = (), ()
        self.train(self.training)

    def train(self, mode: bool = True) -> "ReIDModel":
        """Set training mode everywhere but in the batch norms of frozen parts."""
        super().train(mode)
        for module in self._frozen:
            for layer in module.modules():
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    layer.eval()
        return self


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int, dim: int) -> tuple[Tensor, ...]:
        ctx.shape, ctx.layout, ctx.dim = x.shape, layout_of(x), dim
        return x.chunk(count, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        whole = torch.empty(
            ctx.shape,
            dtype=gradients[0].dtype,
            device=gradients[0].device,
            memory_format=ctx.layout,
        )
        # Not torch.cat(out=whole), which torch 2.7 cannot compile for channels-last maps.
        for part, gradient in zip(whole.chunk(len(gradients), ctx.dim), gradients, strict=True):
            part.copy_(gradient)
        return whole, None, None


def cut(x: Tensor, count: int, dim: int) -> tuple[Tensor, ...]:
    """Return views of a map, cut along a dimension like :func:`torch.chunk`.

    PyTorch's own gradient would be of the map's size for each of the parts, and its chunk of a size
    that is not fixed cannot be exported.
    """
    if count == 1:
        return (x,)
    if torch.is_grad_enabled() and x.requires_grad:
        return _Cut.apply(x, count, dim)
    edges, before = _edges(x.shape[dim], count), (slice(None),) * dim
    return tuple(x[before + (slice(*ends),)] for ends in pairwise(edges))


def _edges(size: int, count: int) -> list[int]:
    """Return where stripes begin, and the end of the last."""
    step = (size + count - 1) // count
    return [*(number * step for number in range(count)), size]


def _head_names(branch: str, count: int) -> tuple[str, ...]:
    """``b2`` for the whole map; ``b21``, ``b22``, ... for its stripes."""
    return (branch,) if count == 1 else tuple(f"{branch}{k}" for k in range(1, count + 1))


def _check(branches: Sequence[Sequence[int]], backbone: Backbone) -> None:
    """Refuse branches whose heads would not have a name of their own, or no shared stem."""
    # With single digits throughout, b23 can only be the third stripe of the second branch.
    fine = 1 <= len(branches) <= 9 and all(
        counts
        and len(set(counts)) == len(counts)
        and all(1 <= count <= 9 for count in counts)
        and sum(count > 1 for count in counts) <= 1
        for counts in branches
    )
    if not fine:
        raise UserError(
            f"MODEL.HEADS.BRANCHES is {[list(counts) for counts in branches]}; expected 1 to 9 "
            "branches, each [1], [n] or [1, n] with n stripes from 2 to 9, such as "
            "[[1], [1, 2], [1, 3]]"
        )
    if len(branches) > 1 and isinstance(backbone.stem, nn.Identity):
        raise UserError(
            f"MODEL.HEADS.BRANCHES asks for {len(branches)} branches, but this backbone has no "
            "stem that they could share; use one branch, [[1]], or a convolutional backbone"
        )
