"""What an evaluation leaves of a test set: its features, rankings and rows.

Two files. ``features_<test set>.npz`` holds arrays and a header in JSON; nothing in it is pickled,
so nothing in it can be executed. ``images_<test set>.csv`` holds the catalogue's rows. A digest of
the rows ties the two together. It covers what the features depend on (path, identity, box), so
that a date, a sequence or an orientation may be filled in later.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openanimals.evaluation.metrics import Ranking, Result
from openanimals.evaluation.rows import SavedResultError, TestRows
from openanimals.utils.files import atomic_path

FORMAT = 1
LONGEST = 200  # bytes; a file's name may have 255, with what stands before and after a test set's
DAMAGED = (  # all that numpy raises of an archive that was changed
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, MemoryError),
    *(RuntimeError, zipfile.BadZipFile),
)


@dataclass(frozen=True)
class TestFeatures:
    """A test set and the features of its images.

    Attributes:
        rows: what is known of the images.
        query: `[Q, D]` float32.
        gallery: `[G, D]` float32.
    """

    __test__ = False  # not a pytest class

    rows: TestRows
    query: np.ndarray
    gallery: np.ndarray


def save(folder: Path, tested: TestFeatures, results: Iterable[Result]) -> Path:
    """Write a test set and how its queries fared.

    Args:
        folder: created if need be.
        tested: the test set.
        results: of the test set; the rankings of those that are of all its images are kept.

    Returns:
        The features file.

    Raises:
        OSError: it cannot be written. What was there is still there, whole.
    """
    path = features_file(folder, tested.rows.name)
    whole = [
        result
        for result in results
        if len(result.query_identities) == len(tested.query)
        and len(result.gallery_identities) == len(tested.gallery)
    ]
    header = {
        "format": FORMAT,
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
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            header=np.array(json.dumps(header)),
            query=tested.query,
            gallery=tested.gallery,
            **rankings,
        )
    return path


def load_features(path: Path) -> TestFeatures:
    """Read the features of a test set.

    Raises:
        SavedResultError: a file is missing, damaged, of another format, or of other images.
    """
    _, rows = _read_rows(path)
    with _opened(path) as archive:
        query, gallery = archive["query"], archive["gallery"]
    for part, images, found in (("query", rows.query, query), ("gallery", rows.gallery, gallery)):
        expected = (len(images), *query.shape[1:])
        if found.dtype != np.float32 or found.ndim != 2 or found.shape != expected:
            raise SavedResultError(
                f"{path}: {part} features are {found.dtype} of the shape {list(found.shape)}; "
                f"expected float32, a row for each of the {len(images)} images, all of one length"
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
    with _opened(path) as archive:
        found = {
            protocol: Ranking(*(archive[f"{number}/{field}"] for field in Ranking._fields))
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
    return folder / f"features_{file_name(name)}.npz"


def file_name(name: str) -> str:
    """Return a test set's name as a file's: what that cannot hold is replaced, or cut off."""
    text = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip("_")
    if len(text.encode()) > LONGEST:
        text = f"{hashlib.sha256(text.encode()).hexdigest()[:8]}{text[-LONGEST // 5 :]}"
    return text


def _rows_file(path: Path) -> Path:
    return path.with_name(f"images_{path.stem.removeprefix('features_')}.csv")


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Open an archive; arrays that the block does not take are never read."""
    if not path.is_file():
        raise SavedResultError(f"no saved features at {path.absolute()}")
    try:
        if not zipfile.is_zipfile(path):  # of a pickle, numpy's message is how to execute it
            raise ValueError("it is no archive of arrays, or was cut short")
        with np.load(path, allow_pickle=False) as archive:
            yield archive
    except DAMAGED as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SavedResultError(
            f"{path} is not a features file, or is damaged ({cause}); evaluate the model again"
        ) from error


def _read_rows(path: Path) -> tuple[list[str], TestRows]:
    """Return the protocols of a features file's rankings, and the rows beside it."""
    with _opened(path) as archive:
        header: dict[str, Any] = dict(json.loads(archive["header"].item()))
    if header.get("format") != FORMAT:
        raise SavedResultError(
            f"{path} has format {header.get('format')!r}; this version reads {FORMAT}"
        )
    rows_file = _rows_file(path)
    rows = TestRows.read(rows_file, header["test set"], header["source"])
    if rows.digest() != header["images"]:
        raise SavedResultError(
            f"{path} holds features of another catalogue than {rows_file.name} beside it (paths, "
            "identities or boxes differ); the two files must be of one evaluation"
        )
    return header["protocols"], rows
