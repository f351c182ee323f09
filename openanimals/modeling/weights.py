"""Where pre-trained weights come from, and whether they fit."""

import hashlib
import http.client
import logging
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openanimals.modeling.weight_files import WeightsError, load_file, local_file

logger = logging.getLogger(__name__)

_IBN_NET = "https://github.com/XingangPan/IBN-Net/releases/download/v1.0"
_TORCHVISION = "https://download.pytorch.org/models"

RESNET_WEIGHTS: dict[tuple[str, bool], str] = {
    ("18x", False): f"{_TORCHVISION}/resnet18-f37072fd.pth",
    ("34x", False): f"{_TORCHVISION}/resnet34-b627a593.pth",
    ("50x", False): f"{_TORCHVISION}/resnet50-19c8e357.pth",
    ("101x", False): f"{_TORCHVISION}/resnet101-63fe2227.pth",
    ("18x", True): f"{_IBN_NET}/resnet18_ibn_a-2f571257.pth",
    ("34x", True): f"{_IBN_NET}/resnet34_ibn_a-94bc1577.pth",
    ("50x", True): f"{_IBN_NET}/resnet50_ibn_a-d9d0bb7b.pth",
    ("101x", True): f"{_IBN_NET}/resnet101_ibn_a-59ea0ac6.pth",
}
"""Addresses by depth and whether with IBN; the end of a name is the start of the SHA-256."""

PATIENCE = 20.0  # seconds without an answer after which a network counts as none

HEAD_CLASSIFIERS = ("heads.*.classifier.weight",)
"""The weights that stand for identities in a model of ours, and in FastReID's under our names."""

WRAPPERS = ({"module."}, {"model."})  # of all keys, by parallel training and by Lightning


class ArchitectureError(WeightsError):
    """Weights of another network; says what is missing, left over or of another shape."""


def fetch(address: str) -> Path:
    """Return the local copy of a file of weights, downloading it if there is none.

    Copies lie in the folder ``checkpoints`` of :func:`torch.hub.get_dir` (environment
    ``TORCH_HOME``), where torchvision would put them. A copy that is not what its name says is
    downloaded again.

    Args:
        address: ends in ``<name>-<first digits of the SHA-256>.pth``.

    Raises:
        WeightsError: offline, not there, or not the file that its name promises.
    """
    name = address.rsplit("/", 1)[1]
    digest = name.rsplit("-", 1)[1].removesuffix(".pth")
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest().startswith(digest):
        return path
    logger.info("downloading %s", address)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with patience():
            torch.hub.download_url_to_file(
                address, str(path), hash_prefix=digest, progress=sys.stderr.isatty()
            )
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise WeightsError(
            f"cannot download the pre-trained weights {address} ({error}). "
            f"Put the file {name} into {path.parent}, or set MODEL.BACKBONE.PRETRAIN_PATH to "
            "where it is, or MODEL.BACKBONE.PRETRAIN False to start from random weights"
        ) from error
    return path


@contextmanager
def patience() -> Iterator[None]:
    """Have sockets made within the block give up after a while; torch.hub waits for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def load_pretrained(
    network: nn.Module,
    path: Path,
    *,
    classifiers: Sequence[str],
    new: Sequence[str] = (),
    rename: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> None:
    """Load a file of weights into a network without classifier; all else must match.

    Args:
        network: filled in place; half-precision tensors are cast to its dtype.
        path: ``.pth`` or ``.safetensors``.
        classifiers: modules that the file has and the network lacks, for instance ``("fc",)``.
        new: modules (``*`` is any text) that the file may lack, all of a kind or none; they stay
            as they are then.
        rename: turns what the file holds into weights of the network.

    Raises:
        WeightsError: the file is missing or cannot be read.
        ArchitectureError: it belongs to another network.
    """
    given = read_state_dict(path)
    given = rename(given) if rename else given
    lacking = [name for name in new if not any(fits_any(key, [f"{name}.*"]) for key in given)]
    # Files from before batch norm counted its batches lack a counter that nothing reads.
    ignore = [*(f"{name}.*" for name in (*classifiers, *lacking)), "*num_batches_tracked"]
    state = match_state_dict(network, given, ignore=ignore, source=str(path))
    network.load_state_dict(state, strict=False)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Return the weights in a ``.safetensors`` file or a ``.pth`` file, on the CPU.

    Raises:
        WeightsError: no such file on this machine, or no weights in it.
    """
    path = local_file(path)
    if not path.is_file():
        raise WeightsError(f"there is no file of weights {path}")
    try:
        state = find_state_dict(load_file(path))
    except WeightsError as error:
        raise WeightsError(f"{path} cannot be read as weights: {error}") from error
    if state is None:
        raise WeightsError(f"{path} holds no weights")
    return state


def find_state_dict(content: Any) -> dict[str, Tensor] | None:
    """Return the weights in what a file holds, None if there are none.

    They are the content itself, or its "model" or "state_dict". What wrappers leave is taken off:
    ``_orig_mod.``, of compiled modules, anywhere, and ``module.`` or ``model.`` before all keys.
    """
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        return None
    tensors = {
        key.replace("_orig_mod.", ""): value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    while {key[: key.find(".") + 1] for key in tensors} in WRAPPERS:
        tensors = {key.partition(".")[2]: value for key, value in tensors.items()}
    return tensors or None


def match_state_dict(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    ignore: Iterable[str] = (),
    source: str = "the checkpoint",
) -> dict[str, Tensor]:
    """Return what of ``state`` can be loaded into ``module``, if nothing stands in the way.

    Load the result with ``strict=False``.

    Args:
        module: what is to be filled; not changed.
        state: tensors by key.
        ignore: patterns (``*`` is any text) of keys that may be missing, left over or of another
            shape; they are not loaded where they do not fit.
        source: where ``state`` comes from, for the error.

    Raises:
        ArchitectureError: keys are missing, left over or of another shape; lists the first few.
        WeightsError: what fits cannot be computed with, such as NaN or whole numbers.
    """
    patterns = tuple(ignore)
    own = module.state_dict(keep_vars=True)
    wanted = {key: tuple(value.shape) for key, value in own.items()}
    given = {key: tuple(value.shape) for key, value in state.items()}

    def matters(key: str) -> bool:
        return not fits_any(key, patterns)

    differences = {
        "missing": [k for k in wanted if k not in given and matters(k)],
        "not expected": [k for k in given if k not in wanted and matters(k)],
        "of another shape": [
            f"{k} {list(given[k])} instead of {list(wanted[k])}"
            for k in wanted
            if k in given and given[k] != wanted[k] and matters(k)
        ],
    }
    if any(differences.values()):
        found = [
            f"{len(keys)} {what}: {', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}"
            for what, keys in differences.items()
            if keys
        ]
        raise ArchitectureError(
            f"{source} holds the weights of another architecture; {'; '.join(found)}"
        )
    fitting = {k: v for k, v in state.items() if wanted.get(k) == given[k]}
    unfit = {key: flaw for key, value in fitting.items() if (flaw := _flaw(value, own[key]))}
    if unfit:
        key, flaw = next(iter(unfit.items()))
        raise WeightsError(
            f"{source} holds {len(unfit)} weights that cannot be used, such as {key}, which "
            f"{flaw}; expected finite numbers in floating point"
        )
    return fitting


def _flaw(given: Tensor, own: Tensor) -> str:
    """Say why a tensor of the right shape cannot take the place of a model's own; "" if it can."""
    if given.is_meta or given.is_quantized or given.layout != torch.strided:
        return "holds no plain values"
    if own.is_floating_point() and not given.is_floating_point():
        return f"is {str(given.dtype).removeprefix('torch.')}"
    # A mask may be infinite, but only a buffer is one.
    values = given.to(own.dtype)
    fine = values.isfinite() if isinstance(own, nn.Parameter) else ~values.isnan()
    return "" if fine.all() else "is not finite throughout"


def fits_any(key: str, patterns: Iterable[str]) -> bool:
    """Tell whether a key fits one of the patterns, in which ``*`` is any text."""
    return any(fnmatchcase(key, pattern) for pattern in patterns)
