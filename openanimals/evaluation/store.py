"""What an evaluation leaves of a test set: its features, rankings and rows.

Two files. ``features_<test set>.safetensors`` holds arrays and a header in JSON, see
:mod:`openanimals.evaluation.archive`. ``images_<test set>.parquet`` holds the catalogue's rows. A
digest of the rows ties the two together. It covers what the features depend on (path, identity,
box), so that a date, a sequence or an orientation may be filled in later.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openanimals.evaluation.archive import read_arrays, read_header, write_archive
from openanimals.evaluation.metrics import Ranking, Result
from openanimals.evaluation.rows import SavedResultError, TestRows
from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path

LONGEST = 200  # bytes; a file's name may have 255, with what stands before and after a test set's
HALF = 2.0**-14, 65504.0  # the range in which float16 keeps 3 digits


@dataclass(frozen=True)
class TestFeatures:
    """A test set and the features of its images.

    Attributes:
        rows: what is known of the images.
        query: `[Q, D]` float32, or float16 if they were stored so.
        gallery: `[G, D]`, of the same type.
    """

    __test__ = False  # not a pytest class

    rows: TestRows
    query: np.ndarray
    gallery: np.ndarray


def save(
    folder: Path, tested: TestFeatures, results: Iterable[Result], *, dtype: str = "float32"
) -> Path:
    """Write a test set and how its queries fared.

    Args:
        folder: created if need be.
        tested: the test set.
        results: of the test set; the rankings of those that are of all its images are kept.
        dtype: of the stored features, ``"float32"`` or ``"float16"``.

    Returns:
        The features file.

    Raises:
        ValueError: float16 cannot hold the features of an image.
        OSError: it cannot be written. What was there is still there, whole.
    """
    path = features_file(folder, tested.rows.name)
    features = {"query": tested.query, "gallery": tested.gallery}
    if dtype == "float16":
        features = {part: _halved(part, found) for part, found in features.items()}
    whole = [
        result
        for result in results
        if len(result.query_identities) == len(tested.query)
        and len(result.gallery_identities) == len(tested.gallery)
    ]
    header = {
        "test set": tested.rows.name,
        "source": tested.rows.source,
        "images": tested.rows.digest(),
        "protocols": [result.protocol for result in whole],
    }
    rankings = {
        f"{number}/{field}": values
        for number, result in enumerate(whole)
        for field, values in result.ranking._asdict().items()
    }
    with atomic_path(_rows_file(path)) as temporary:
        tested.rows.write(temporary)
    write_archive(path, header, features | rankings)
    return path


def load_features(path: Path) -> TestFeatures:
    """Read the features of a test set; they are mapped into memory.

    Raises:
        SavedResultError: a file is missing, damaged, of another format, or of other images.
    """
    _, rows = _read_rows(path)
    query, gallery = read_arrays(path, ["query", "gallery"])
    for part, images, found in (("query", rows.query, query), ("gallery", rows.gallery, gallery)):
        expected = (len(images), *query.shape[1:])
        misshapen = found.ndim != 2 or found.shape != expected
        if misshapen or found.dtype not in (np.float32, np.float16):
            raise SavedResultError(
                f"{path}: {part} features are {found.dtype} of the shape {list(found.shape)}; "
                f"expected float32 or float16, a row for each of the {len(images)} images, all of "
                "one length"
            )
    return TestFeatures(rows, query, gallery)


def load_rankings(path: Path) -> tuple[TestRows, dict[str, Ranking]]:
    """Read how the queries of a test set fared.

    Returns:
        What is known of its images; and the rankings of all queries by each protocol.

    Raises:
        SavedResultError: as :func:`load_features`.
    """
    protocols, rows = _read_rows(path)
    found = {
        protocol: Ranking(*read_arrays(path, [f"{number}/{field}" for field in Ranking._fields]))
        for number, protocol in enumerate(protocols)
    }
    for protocol, ranking in found.items():
        for field, values in ranking._asdict().items():
            if values.shape[:1] != (len(rows.query),):
                raise SavedResultError(
                    f"{path}: {field} ({protocol}) has the shape {list(values.shape)}; expected "
                    f"one entry for each of the {len(rows.query)} queries"
                )
    return rows, found


def features_file(folder: Path, name: str) -> Path:
    """Return the file in which the features of a test set are, or would be."""
    return folder / f"features_{file_name(name)}.safetensors"


def file_name(name: str) -> str:
    """Return a test set's name as a file's: what that cannot hold is replaced, or cut off."""
    text = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip("_")
    if len(text.encode()) > LONGEST:
        text = f"{hashlib.sha256(text.encode()).hexdigest()[:8]}{text[-LONGEST // 5 :]}"
    return text


def _rows_file(path: Path) -> Path:
    return path.with_name(f"images_{path.stem.removeprefix('features_')}.parquet")


def _halved(part: str, features: np.ndarray) -> np.ndarray:
    largest = np.maximum(features.max(axis=1), -features.min(axis=1))
    beyond = (largest > HALF[1]) | (largest < HALF[0]) & (largest > 0)
    if beyond.any():
        row = int(beyond.argmax())
        raise UserError(
            f"the largest feature of {part} image {row} is {largest[row]:g}, which float16 cannot "
            f"hold ({HALF[0]:g} to {HALF[1]:g}); set TEST.STORE to float32"
        )
    return features.astype(np.float16)


def _read_rows(path: Path) -> tuple[list[str], TestRows]:
    """Return the protocols of a features file's rankings, and the rows beside it."""
    header = read_header(path)
    rows_file = _rows_file(path)
    rows = TestRows.read(rows_file, header["test set"], header["source"])
    if rows.digest() != header["images"]:
        raise SavedResultError(
            f"{path} holds features of another catalogue than {rows_file.name} beside it (paths, "
            "identities or boxes differ); the two files must be of one evaluation"
        )
    return header["protocols"], rows
