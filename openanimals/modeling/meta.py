"""What a network would do with images, told without computing it: on torch's meta device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only


@contextmanager
def on_meta(network: nn.Module) -> Iterator[None]:
    """Take the values of a network's weights away for the length of a block, in which it is tried.

    It takes tensors on the meta device then, and gives such, of which only shape and type are real.
    """
    kept = []
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, value in tensors.items():
                if value is not None:
                    kept.append((tensors, name, value))
                    tensors[name] = torch.empty_like(value, device="meta")  # type: ignore[assignment]
    try:
        with torch.no_grad():
            yield
    finally:
        for tensors, name, value in kept:
            tensors[name] = value


class Origins(TorchDispatchMode):
    """Tells which tensors would be equal: those of the same operations on the same inputs.

    Example:
        >>> x = torch.empty(2, device="meta")
        >>> with Origins() as origins:
        ...     same = origins.of(x.relu()) == origins.of(torch.relu(x))
    """

    def __init__(self) -> None:
        super().__init__()
        self._origins: dict[int, int] = {}
        self._kept: list[Tensor] = []  # so that no other tensor gets the id of one that is gone

    def of(self, x: Any) -> int:
        """Return a number that stands for all that made a tensor within the block."""
        return self._origins.get(id(x), id(x))

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        inputs = tree_map_only(Tensor, self.of, (args, kwargs))
        made = operation(*args, **(kwargs or {}))
        for number, x in enumerate(tree_leaves(made)):
            if isinstance(x, Tensor):
                self._origins[id(x)] = hash((str(operation), number, repr(inputs)))
                self._kept.append(x)
        return made
