"""What a checkpoint must hold for a run to go on from it."""

import copy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openanimals.engine import checkpoint
from openanimals.engine.checkpoint import CheckpointError
from openanimals.utils.errors import UserError

TYPES: dict[str, type] = {
    **{"losses": dict, "optimizer": dict, "scaler": dict, "identities": list, "config": str},
    **{"iteration": int, "best_map": float},
}
ITEMS: dict[str, Any] = {"losses": Tensor, "identities": str, "scaler": (int, float)}


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint to go on from.

    Raises:
        CheckpointError: it holds no training state, or a part of it is missing or of a wrong type.
    """
    content = checkpoint.read(path)
    if "optimizer" not in content:
        raise CheckpointError(f"{path} holds no training state; give it as MODEL.WEIGHTS instead")
    content.setdefault("losses", {})  # where they have no weights
    wrong = [
        f"{name} ({type(content[name]).__name__ if name in content else 'missing'})"
        for name, expected in TYPES.items()
        if not isinstance(content.get(name), expected)
        or not all(isinstance(item, ITEMS.get(name, object)) for item in _items(content[name]))
    ]
    if not wrong and content["iteration"] < 0:
        wrong = ["iteration (negative)"]
    if wrong:
        raise CheckpointError(f"{path} is damaged; of no use in it: {', '.join(wrong)}")
    return content


def _items(content: Any) -> Iterable[Any]:
    if isinstance(content, dict):
        return content.values()
    return content if isinstance(content, list) else ()


def check_optimizer(
    optimizer: torch.optim.Optimizer, state: dict[str, Any], iteration: int
) -> None:
    """Raise unless an optimiser can go on from a state; torch would crash on one of other shapes.

    Args:
        optimizer: over the same parameters; not changed.
        state: what its ``state_dict()`` has been.
        iteration: iterations done; after the first there must be a state if it keeps any.

    Raises:
        UserError: other groups of weights, or what is kept of one is missing or of another shape.
    """
    try:
        recorded = [group["params"] for group in state["param_groups"]]
        kept = dict(state["state"])
    except (KeyError, TypeError) as error:
        raise UserError(
            "the checkpoint's optimiser state is damaged: expected param_groups and state"
        ) from error
    if [group["params"] for group in optimizer.state_dict()["param_groups"]] != recorded:
        raise UserError(
            "the checkpoint's optimiser has other groups of weights. Resume with the "
            "SOLVER.WEIGHT_DECAY..., SOLVER...._LR_FACTOR and MODEL.LOSSES keys that the run "
            "began with"
        )
    expected = _after_a_step(optimizer)
    damage = [*_differences(expected, kept)]
    if iteration and not kept and any(expected.values()):
        damage = ["nothing is kept of any weight"]
    if damage:
        raise UserError(f"the checkpoint's optimiser state is damaged: {damage[0]}")


def _after_a_step(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
    """Return what an optimiser keeps, by parameter, once all have had a gradient."""
    twin = copy.deepcopy(optimizer)
    twin.state.clear()
    for group in twin.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    twin.step()
    return twin.state_dict()["state"]


def _differences(expected: dict[int, dict[str, Any]], kept: dict[Any, Any]) -> Iterator[str]:
    """Say what of a state is not as expected; a parameter that never had a gradient has none."""
    for number, values in kept.items():
        wanted = expected.get(number)
        if wanted is None or not isinstance(values, dict):
            yield f"weight {number} is unknown, or what is kept of it is no dict"
            continue
        for name, value in wanted.items():
            given = values.get(name)
            if isinstance(value, Tensor) and not isinstance(given, Tensor):
                yield f"{name} of weight {number} is {type(given).__name__}, not a tensor"
            elif isinstance(value, Tensor) and _form(value) != _form(given):
                yield f"{name} of weight {number} is {_form(given)}, expected {_form(value)}"


def _form(tensor: Tensor) -> str:
    kind = "a dense" if tensor.layout == torch.strided and not tensor.is_meta else "another"
    number = "floating point" if tensor.is_floating_point() else str(tensor.dtype)
    return f"{kind} tensor {list(tensor.shape)} of {number}"
