"""Arrays and a header in one safetensors file, of which a changed byte is noticed.

Nothing in such a file can be executed. Arrays are mapped into memory: what is not looked at is not
read. safetensors has no checksums, so the header holds the SHA-256 of each array, and its own
stands beside it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openanimals.evaluation.rows import SavedResultError
from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path

FORMAT = 2


def write_archive(path: Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays and a header.

    Args:
        path: the file.
        header: what JSON can hold.
        arrays: by name; no two may share memory.

    Raises:
        OSError: it cannot be written. What was there is still there, whole.
    """
    from safetensors.torch import save_file

    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    digests = {name: _digest(array) for name, array in arrays.items()}
    text = json.dumps({"format": FORMAT, **header, "arrays": digests})
    # torch's tensors are written from where they lie, numpy's arrays are copied first.
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {"header": text, "sha256": _sha256(text.encode())})


def read_header(path: Path) -> dict[str, Any]:
    """Read the header.

    Raises:
        SavedResultError: the file is missing, damaged, or of another format.
    """
    with _opened(path) as file:
        found = file.metadata() or {}
        text = found.get("header", "")
        if found.get("sha256") != _sha256(text.encode()):
            raise UserError("its header was changed")
        header: dict[str, Any] = json.loads(text)
    if header.get("format") != FORMAT:
        raise SavedResultError(
            f"{path} has format {header.get('format')!r}; this version reads {FORMAT}"
        )
    return header


def read_arrays(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Map some arrays into memory, once their digests are found to be right.

    Raises:
        SavedResultError: as :func:`read_header`.
    """
    digests = read_header(path)["arrays"]
    with _opened(path) as file:
        arrays = [file.get_tensor(name).numpy() for name in names]
        for name, array in zip(names, arrays, strict=True):
            if _digest(array) != digests[name]:
                raise UserError(f"{name} was changed")
    return arrays


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    older = path.with_suffix(".npz")
    if older.is_file() and (path == older or not path.is_file()):
        raise SavedResultError(
            f"{older} was left by an earlier version, in .npz and .csv; this one reads "
            ".safetensors and .parquet only: evaluate the model again"
        )
    if not path.is_file():
        raise SavedResultError(f"no saved features at {path.absolute()}")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SavedResultError(
            f"{path} is not a features file, or is damaged ({cause}); evaluate the model again"
        ) from error


def _digest(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's type, shape and bytes."""
    sha = hashlib.sha256(f"{array.dtype}{list(array.shape)}".encode())
    sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
