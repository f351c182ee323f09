"""Where pre-trained weights come from, and whether they fit."""

import hashlib
import http.client
import logging
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from openanimals.utils.errors import UserError

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

HEAD_CLASSIFIERS = ("heads.*.classifier.weight",)
"""The weights that stand for identities in a model of ours, and in FastReID's under our names."""


class WeightsError(UserError):
    """Weights that cannot be had or read; says which file and what to set instead."""


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
    found = re.search(r"-([0-9a-f]{8,})\.", name)
    if not found:
        raise WeightsError(f"{address} does not end in -<SHA-256>.pth, so it cannot be checked")
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.exists() and _sha256(path).startswith(found[1]):
        return path
    logger.info("downloading %s", address)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _patience(60):
            torch.hub.download_url_to_file(
                address, str(path), hash_prefix=found[1], progress=sys.stderr.isatty()
            )
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise WeightsError(
            f"cannot download the pre-trained weights {address} ({error}). "
            f"Put the file {name} into {path.parent}, or set MODEL.BACKBONE.PRETRAIN_PATH to "
            "where it is, or MODEL.BACKBONE.PRETRAIN False to start from random weights"
        ) from error
    return path


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Have sockets made within the block give up after a while; torch.hub waits for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
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
        WeightsError: no such file, or no weights in it.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise WeightsError(f"there is no file of weights {path}")
    try:
        state = find_state_dict(load_file(path))
    except WeightsError as error:
        raise WeightsError(f"{path} cannot be read as weights: {error}") from error
    if state is None:
        raise WeightsError(f"{path} holds no weights")
    return state


def load_file(path: Path) -> Any:
    """Return what a ``.safetensors`` or ``.pth`` file holds, on the CPU. Nothing is executed.

    Only tensors, numbers and plain containers are unpickled.

    Raises:
        WeightsError: it is another file, or damaged, or holds anything else; says what, not where.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals(_numpy_scalars()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # A file of anything else can fail in any way, and safetensors has its own exception.
        raise WeightsError(_cause(error)) from error


def _numpy_scalars() -> list[Any]:
    """Return what pickles of numpy's numbers name; FastReID keeps its best metric as one."""
    scalar = np.float64(0).__reduce__()[0]
    classes = {type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?")}
    names = [f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")]  # before, since 2.0
    return [*((scalar, name) for name in names), np.dtype, *classes]


def _cause(error: Exception) -> str:
    """Say in a line why a file cannot be read; torch's own advice is to run what it holds."""
    text = str(error)
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return (
            f"it holds {found[1]}, which could be code, so nothing of it was read; only tensors, "
            "numbers and plain containers are"
        )
    return text.splitlines()[0] if text else type(error).__name__


def find_state_dict(content: Any) -> dict[str, Tensor] | None:
    """Return the weights in what a file holds, None if there are none.

    They are the content itself, or its "model" or "state_dict"; a prefix ``module.`` on all keys,
    which parallel training leaves, is taken off.
    """
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        return None
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
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
    """
    patterns = tuple(ignore)
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
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
    return {k: v for k, v in state.items() if wanted.get(k) == given[k]}


def fits_any(key: str, patterns: Iterable[str]) -> bool:
    """Tell whether a key fits one of the patterns, in which ``*`` is any text."""
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
