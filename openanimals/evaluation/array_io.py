"""One array and the table of the images that it is of, in two files: safetensors and Parquet.

Nothing in either can be executed. The array is mapped into memory, and written block by block; its
file says by a digest to which images it belongs.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from openanimals.evaluation.protocols import days
from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path

LONGEST = 200  # bytes; a file's name may have 255, with what stands before and after a test set's
KINDS = ("features", "scores", "images", "rankings")  # of files, as their names begin
CODES = {"float16": "F16", "float32": "F32"}  # safetensors' names of types
TIED = ("path", "identity", "bbox", "part")  # the columns that features depend on


class SavedResultError(UserError):
    """Saved results that cannot be used; names the file and what was expected."""


def saved_file(folder: Path, kind: str, name: str) -> Path:
    """Return the file in which a test set's features, scores or rankings are, or would be."""
    suffix = "parquet" if kind == "rankings" else "safetensors"
    return folder / f"{kind}_{file_name(name)}.{suffix}"


def file_name(name: str) -> str:
    """Return a test set's name as a file's: what that cannot hold is replaced, or cut off."""
    text = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip("_")
    if len(text.encode()) > LONGEST:
        text = f"{hashlib.sha256(text.encode()).hexdigest()[:8]}{text[-LONGEST // 5 :]}"
    return text


def beside(path: Path, kind: str) -> Path:
    """Return the table of a kind beside a file; of a name without a kind, the one of that name."""
    stem = path.name.removesuffix(".safetensors").removesuffix(".parquet")
    own, _, rest = stem.partition("_")
    return path.with_name(f"{kind}_{rest}.parquet" if own in KINDS and rest else f"{stem}.parquet")


def save_array(
    path: Path,
    kind: str,
    images: pd.DataFrame,
    blocks: Iterable[np.ndarray],
    shape: tuple[int, int],
    dtype: str,
    known: Mapping[str, str],
) -> Path:
    """Write an array, and beside it the table of its images.

    Args:
        path: the array's file, with or without its suffix.
        kind: the array's name in it.
        images: what it is of.
        blocks: its rows, some at a time.
        shape: of all of it.
        dtype: that it is stored in, ``"float32"`` or ``"float16"``.
        known: what else to write into its header.

    Returns:
        The array's file.

    Raises:
        UserError: a column of the table cannot be stored.
        OSError: a file cannot be written. What was there is still there, whole.
    """
    path = path.with_name(f"{path.name.removesuffix('.safetensors')}.safetensors")
    write_table(beside(path, "images"), images)
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    array = {"dtype": CODES[dtype], "shape": shape, "data_offsets": [0, size]}
    metadata = {"name": "", "fingerprint": "", **known, "images": digest(images)}
    header = json.dumps({"__metadata__": metadata, kind: array}).encode()
    header += b" " * (-len(header) % 8)  # so that the numbers are aligned
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).data)
    return path


def load_array(
    path: Path, kind: str, name: str | None = None
) -> tuple[pd.DataFrame, np.ndarray, dict[str, str]]:
    """Read an array, mapped into memory, and the table of its images.

    Args:
        path: the array's file, with or without its suffix.
        kind: the array's name in it.
        name: the test set's that it must be of; None: any, or none.

    Returns:
        The table, the array, and what else is in its header.

    Raises:
        SavedResultError: a file is missing, damaged, of another kind or another test set, or not of
            the same images as the one beside it.
    """
    from safetensors import SafetensorError, safe_open

    path = path.with_name(f"{path.name.removesuffix('.safetensors')}.safetensors")
    if not path.is_file():
        raise SavedResultError(f"no saved {kind} at {path.absolute()}")
    try:
        with safe_open(path, framework="pt") as file:
            known = file.metadata()
            array = file.get_tensor(kind).numpy()
            if array.ndim != 2 or not {"name", "fingerprint", "images"} <= known.keys():
                raise ValueError("not written here")
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise SavedResultError(
            f"{path} is not a file of {kind}, or is damaged ({_cause(error)}); evaluate again"
        ) from error
    if name not in (None, known["name"]):  # two names may become one file name
        raise SavedResultError(f"{path} holds {kind} of {known['name']}, not of {name}")
    images = read_table(beside(path, "images"))
    if known["images"] != digest(images):
        raise SavedResultError(
            f"{path} is of another catalogue than {beside(path, 'images').name} beside it (paths, "
            "identities or boxes differ); the two files must be of one evaluation"
        )
    return images, array, known


def digest(images: pd.DataFrame) -> str:
    """Return the SHA-256 of what features depend on, image by image."""
    columns = [images[name] if name in images else [None] * len(images) for name in TIED]
    # As text: NaN, which a box may hold, does not equal itself.
    rows = [
        [
            str(value) if value is None or np.isscalar(value) else str([*map(float, value)])
            for value in row
        ]
        for row in zip(*columns, strict=True)
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet; a column with a text that is not UTF-8 is written as bytes.

    Raises:
        UserError: a column has values of several kinds.
        OSError: it cannot be written.
    """
    import pyarrow as pa

    stored = table.apply(_stored)
    stored.attrs = table.attrs
    try:
        with atomic_path(path) as temporary:
            stored.to_parquet(temporary, index=False)
    except pa.ArrowException as error:
        raise UserError(f"{path}: {_cause(error)}; expected one type in each column") from error


def read_table(path: Path, columns: Sequence[str] = ("path", "identity")) -> pd.DataFrame:
    """Read a table as it was before it was written, None where a value is missing.

    Args:
        path: its file.
        columns: that it must have.

    Raises:
        SavedResultError: the file is missing or damaged, lacks a column, or has a date that
            is none.
    """
    import pyarrow as pa

    if not path.is_file():
        raise SavedResultError(f"no {path.absolute()}; it belongs to the file beside it")
    try:
        with open(path, "rb") as file:
            found = pd.read_parquet(file)
        for name in columns:
            if name not in found:
                raise ValueError(f"no column {name}")
        if not found.columns.is_unique:
            raise ValueError("two columns of one name")
        table = found.astype(object).where(found.notna(), None).apply(_restored)
        days(table.get("date", []))
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise SavedResultError(
            f"{path}: {_cause(error)}; expected a Parquet table with the columns "
            f"{', '.join(columns)} and what else is known"
        ) from error
    table.attrs = found.attrs
    return table


def _stored(column: pd.Series) -> pd.Series:
    try:
        "".join(value for value in column if isinstance(value, str)).encode()
        return column
    except UnicodeEncodeError:  # a name that is no text has its odd bytes as surrogates
        texts = [v.encode("utf-8", "surrogateescape") if isinstance(v, str) else v for v in column]
        return pd.Series(texts, column.index, object)


def _restored(column: pd.Series) -> pd.Series:
    def restore(value: object) -> object:
        if isinstance(value, bytes):
            return value.decode("utf-8", "surrogateescape")
        return tuple(map(float, value)) if isinstance(value, np.ndarray) else value

    return pd.Series([restore(value) for value in column], column.index, object)


def _cause(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
