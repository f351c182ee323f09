"""One array and the table of the images that it is of, in two files: safetensors and Parquet.

Nothing in either can be executed. The array is mapped into memory; its file says by a digest to
which images it belongs.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from openanimals.evaluation.protocols import days
from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path

TIED = ("path", "identity", "bbox", "part")  # the columns that features depend on
SOURCES = ("folder", "csv")  # what stands before the colon of a path
LONGEST = 200  # bytes; a file's name may have 255, with what stands before and after a test set's
KINDS = ("features", "scores", "images", "rankings")  # of files, as their names begin


class SavedResultError(UserError):
    """Saved results that cannot be used; names the file and what was expected."""


def saved_file(folder: Path, kind: str, name: str) -> Path:
    """Return the file in which a test set's features or scores are, or would be."""
    return folder / f"{kind}_{file_name(name)}.safetensors"


def file_name(name: str) -> str:
    """Return a test set's name as a file's, which no other name has.

    Simple names stay as they are, and ``folder:photos`` is ``folder_photos``. Of others the last
    part of the path is kept, and a hash tells them apart.
    """
    source, _, path = name.partition(":")
    if source not in SOURCES:
        source, path = "", name
    last = "".join(c if c.isalnum() or c in "-_." else "_" for c in Path(path).name).strip("._")
    text = f"{source}_{last}" if source else last
    first, _, rest = text.partition("_")
    if name == (f"{first}:{rest}" if first in SOURCES else text) and len(text.encode()) <= LONGEST:
        return text
    own = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{text.encode()[: LONGEST - 10].decode(errors='ignore')}-{own}".lstrip("-")


def beside(path: Path, kind: str) -> Path:
    """Return the table of a kind beside a file; of a name without a kind, the one of that name."""
    stem = path.name.removesuffix(".safetensors").removesuffix(".parquet")
    own, _, rest = stem.partition("_")
    return path.with_name(f"{kind}_{rest}.parquet" if own in KINDS and rest else f"{stem}.parquet")


def digest(images: pd.DataFrame) -> str:
    """Return the SHA-256 of what features depend on, image by image."""
    # As text: NaN, which a box may hold, does not equal itself.
    rows = images.reindex(columns=list(TIED)).values.tolist()
    texts = [[str(_restored(value)) for value in row] for row in rows]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def save_array(
    path: Path, kind: str, images: pd.DataFrame, array: np.ndarray, known: dict[str, str]
) -> Path:
    """Write an array, which may be mapped from a file, and beside it the table of its images.

    It gets ``kind`` as its name, and what else is ``known`` into its header. The path, which is
    returned, may lack the suffix.

    Raises:
        UserError: a column of the table cannot be stored.
        OSError: a file cannot be written. What was there is still there, whole.
    """
    from safetensors.torch import save_file

    path = path.with_name(f"{path.name.removesuffix('.safetensors')}.safetensors")
    write_table(beside(path, "images"), images)
    known = {"name": "", "fingerprint": "", **known, "images": digest(images)}
    # As one text, since safetensors writes several in any order.
    header = {"openanimals": json.dumps(known)}
    with atomic_path(path) as temporary:
        save_file({kind: torch.from_numpy(np.ascontiguousarray(array))}, temporary, header)
    return path


def load_array(path: Path, kind: str) -> tuple[pd.DataFrame, np.ndarray, dict[str, str]]:
    """Read what :func:`save_array` wrote.

    Returns:
        The table of images; the array, mapped into memory; what else is in its header.

    Raises:
        SavedResultError: a file is missing, damaged, of another kind, or not of the same images as
            the one beside it.
    """
    from safetensors import SafetensorError, safe_open

    path = path.with_name(f"{path.name.removesuffix('.safetensors')}.safetensors")
    if not path.is_file():
        raise SavedResultError(f"no saved {kind} at {path.absolute()}")
    try:
        with safe_open(path, framework="pt") as file:
            known = json.loads((file.metadata() or {})["openanimals"])
            array = file.get_tensor(kind).numpy()
            if array.ndim != 2 or not {"name", "fingerprint", "images"} <= known.keys():
                raise ValueError("not written here")
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise SavedResultError(
            f"{path} is not a file of {kind}, or is damaged ({error}); evaluate again"
        ) from error
    images = read_table(beside(path, "images"))
    if known["images"] != digest(images):
        raise SavedResultError(
            f"{path} is of another catalogue than {beside(path, 'images').name} beside it (paths, "
            "identities or boxes differ); the two files must be of one evaluation"
        )
    return images, array, known


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet; a column with a text that is not UTF-8 is written as bytes.

    Raises:
        UserError: a column has values of several kinds.
        OSError: it cannot be written.
    """
    import pyarrow as pa

    stored = table.apply(_stored)
    stored.attrs = table.attrs
    with atomic_path(path) as temporary:
        try:
            stored.to_parquet(temporary, index=False, write_page_checksum=True)
        except pa.ArrowException as error:
            raise UserError(f"{path}: {error}; expected one type in each column") from error


def _stored(column: pd.Series) -> pd.Series:
    texts = [value for value in column if isinstance(value, str)]
    if all(text.encode(errors="ignore").decode() == text for text in texts):
        return column
    # A file's name that is no text has its odd bytes as surrogates.
    values = [v.encode("utf-8", "surrogateescape") if isinstance(v, str) else v for v in column]
    return pd.Series(values, column.index, object)


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
            found = pd.read_parquet(file, page_checksum_verification=True)
        for name in columns:
            if name not in found:
                raise ValueError(f"no column {name}")
        if not found.columns.is_unique:
            raise ValueError("two columns of one name")
        restored = {name: [*map(_restored, values)] for name, values in found.items()}
        table = pd.DataFrame(restored, dtype=object)
        days(table.get("date", []))
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError) as error:
        raise SavedResultError(
            f"{path}: {error}; expected a Parquet table with the columns {', '.join(columns)} and "
            "what else is known"
        ) from error
    table.attrs = found.attrs
    return table


def _restored(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, np.ndarray | list | tuple):  # a box
        return tuple(map(float, value))
    return None if pd.isna(value) else value
