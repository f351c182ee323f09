"""Files of tensors: whole, of the kind that their name says, and never executed."""

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openanimals.utils.errors import UserError
from openanimals.utils.files import expanded, is_address

LIMIT = 100
"""Times its size that a file may unpack to; PyTorch does not compress at all."""

KINDS = (
    (rb"$", "it is empty"),
    (
        rb"version https://git-lfs",
        "it is a pointer of Git LFS in place of the file; git lfs pull fetches the file itself",
    ),
    (
        rb"(?i)\s*<(!doctype|html|head|body|\?xml|!--)",
        "it is a web page, such as one that leads to a download; download the file itself",
    ),
    (rb".{8}\{\s*\"", "it is in the format safetensors; have its name end in .safetensors"),
    (rb"(\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!)", "it is a compressed archive; unpack it"),
    (rb"\x89HDF", "it is in the format HDF5, as Keras writes it; PyTorch cannot read it"),
    (rb"(\xff\xd8\xff|\x89PNG|II\*\0|MM\0\*|GIF8)", "it is a picture"),
    (rb"[\t\n\r\f -~]+$", "it is a text"),
)
"""How what is mistaken for weights begins."""


class WeightsError(UserError):
    """Weights that cannot be had or read; says which file and what to set instead."""


def local_file(path: str | Path) -> Path:
    """Return where a file of weights is, ``~`` being the home.

    Raises:
        WeightsError: it is an address on the network.
    """
    if is_address(path):
        address = re.sub(":/(?!/)", "://", str(path))  # a Path leaves one of two slashes
        raise WeightsError(
            f"{address} is an address on the network, and a file on this machine is expected: "
            "download it, and name the copy"
        )
    return expanded(path)


def load_file(path: Path) -> Any:
    """Return what a ``.safetensors`` or ``.pth`` file holds, on the CPU. Nothing is executed.

    Only tensors, numbers and plain containers are unpickled. The check sums of a ``.pth`` file are
    verified, which takes 0.05 s for 100 MB.

    Raises:
        WeightsError: it is another file, or damaged, or holds anything else; says what, not where.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if zipfile.is_zipfile(path):
            _check_records(path)
        with torch.serialization.safe_globals(_numpy_scalars()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch asks for reports of what it does not know
            return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:
        # A file of anything else can fail in any way, and safetensors has its own exception.
        raise WeightsError(_cause(path, error)) from error


def _check_records(path: Path) -> None:
    """Raise unless the records of a zip file are what their check sums say, and of a fair size."""
    with zipfile.ZipFile(path) as file:
        records = file.infolist()
        size = sum(record.file_size for record in records)
        if size > LIMIT * path.stat().st_size:
            raise WeightsError(
                f"it would unpack to {size / 1e9:.3g} GB, more than {LIMIT} times its own size"
            )
        # PyTorch can be told to write none.
        damaged = file.testzip() if any(record.CRC for record in records) else None
    if damaged:
        raise WeightsError(f"it is damaged: {damaged} is not as it was written (its check sum)")


def _numpy_scalars() -> list[Any]:
    """Return what pickles of numpy's numbers name; FastReID keeps its best metric as one."""
    scalar = np.float64(0).__reduce__()[0]
    classes = {type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?")}
    names = [f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")]  # before, since 2.0
    return [*((scalar, name) for name in names), np.dtype, *classes]


def _cause(path: Path, error: Exception) -> str:
    """Say in a line why a file cannot be read; torch's own advice is to run what it holds."""
    if isinstance(error, OSError | MemoryError):
        return str(error) or "it does not fit into memory"
    if found := re.search(r"(?:GLOBAL|class|function) ([\w.]+\.\w+)", str(error)):
        return (
            f"it holds {found[1]}, which could be code, so nothing of it was read; only tensors, "
            "numbers and plain containers are"
        )
    with open(path, "rb") as file:
        start = file.read(512)
    for pattern, kind in KINDS:
        if re.match(pattern, start, re.DOTALL):
            return kind
    if path.suffix == ".safetensors" and start[:2] in (b"PK", b"\x80\x02"):
        return "it is not in the format safetensors, but in PyTorch's; have its name end in .pth"
    if zipfile.is_zipfile(path):
        return "it is a zip file, but not one of weights, or is damaged"
    return "it is cut short, damaged, or of no kind that PyTorch reads"
