"""SOLVER.COMPILE: torch.compile for the blocks of a model."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from openanimals.utils.errors import UserError

# Shapes, and which layers learn, that one kind of block may be compiled for. ResNet-50 has 8.
_VARIANTS = 64


class CompileError(UserError):
    """torch.compile could not be had."""


def compile_blocks(model: nn.Module) -> None:
    """Have each block of a model compiled, in place, when it is first called.

    Blocks of the same kind and shape share their code, so that this takes a fraction of the time
    that the model as one piece would. The names of the weights stay.
    """
    torch._dynamo.config.recompile_limit = _VARIANTS
    for block in blocks(model):
        # With dynamic shapes, the second shape of a kind of block would get slower code.
        block.compile(fullgraph=True, dynamic=False)


def blocks(module: nn.Module) -> list[nn.Module]:
    """Return the innermost members of sequences that have parts themselves: residual blocks, say.

    A module without any, such as a sequence of layers, is returned itself.
    """
    found = [
        block
        for child in module.children()
        for block in blocks(child)
        if block is not child or _is_block(module, child)
    ]
    return found or [module]


def _is_block(parent: nn.Module, child: nn.Module) -> bool:
    sequences = (nn.Sequential, nn.ModuleList)
    has_parts = next(child.children(), None) is not None
    return isinstance(parent, sequences) and not isinstance(child, sequences) and has_parts


@contextmanager
def naming_the_key() -> Iterator[None]:
    """Turn a failure of torch.compile within the block into one that says what to do.

    Raises:
        CompileError: names SOLVER.COMPILE.
    """
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    try:
        yield
    except (TorchDynamoException, FailOnRecompileLimitHit) as error:
        cause = " ".join(str(error).strip().split("\n\n")[0].split())
        raise CompileError(
            f"SOLVER.COMPILE is True, but torch.compile fails on this model here: {cause}. It "
            "needs a C++ compiler such as g++ (the environment variable CXX names it), and on a "
            "CUDA device Triton. Install what is missing, or set SOLVER.COMPILE False"
        ) from error
