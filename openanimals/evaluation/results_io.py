"""What is kept of an evaluation: features or scores, the images that they are of, and rankings.

``features_<test set>.safetensors`` (or ``scores_...``) holds one array, which is mapped into memory
and not read before it is looked at; ``images_<test set>.parquet`` the table of the images, queries
first, with a column ``part``; ``rankings_<test set>.parquet`` a row for each query and protocol. A
digest of what features depend on (path, identity, box) ties them together, so that a date, a
sequence or a viewpoint may be filled in later.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from openanimals.evaluation.array_io import (
    beside,
    digest,
    load_array,
    save_array,
    saved_file,
    write_table,
)
from openanimals.evaluation.metrics import Result
from openanimals.evaluation.score_blocks import Scores, checked_blocks
from openanimals.utils.errors import UserError

MEASURES = ("average_precision", "inverse_negative_penalty", "first_hit")
HALF = 2.0**-14, 65504.0  # the range in which float16 keeps 3 digits


@dataclass(frozen=True)
class FeatureSet:
    """Photographs and their features: a query set, a gallery, a whole catalogue.

    Attributes:
        images: one row a photograph, with the columns of a catalogue (path, identity, bbox,
            counted_camera, date, ...) as far as they are known; None where a value is missing.
        features: `[N, D]`, in the order of the rows; may be mapped from a file.
        fingerprint: of the model and of what is done to a photograph before it; empty: not known.
        name: in messages.

    Raises:
        UserError: there is not one feature for each row.

    Example:
        >>> herd = FeatureSet(pd.DataFrame({"identity": ["ada", "bo"]}), np.eye(2))
        >>> herd.select([1]).column("identity")
        ['bo']
    """

    images: pd.DataFrame
    features: np.ndarray
    fingerprint: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or len(self.features) != len(self.images):
            raise UserError(
                f"{self} has features of the shape {list(self.features.shape)}; expected "
                f"[{len(self.images)}, dimensions]"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __str__(self) -> str:
        return f"{self.name or 'a set'} of {len(self)} images"

    def column(self, name: str) -> list:
        """Return a column's values, None where there are none."""
        return self.images[name].tolist() if name in self.images else [None] * len(self)

    def select(self, rows: slice | Sequence[int] | np.ndarray) -> "FeatureSet":
        """Return some rows: positions, or a mask; a slice shares its memory with this set."""
        rows = rows if isinstance(rows, slice) else np.asarray(rows)
        images = self.images.iloc[rows].reset_index(drop=True)
        return replace(self, images=images, features=self.features[rows])

    @staticmethod
    def concatenate(sets: Sequence["FeatureSet"]) -> "FeatureSet":
        """Join sets, in memory.

        Raises:
            UserError: they are of two models.
        """
        known = [each for each in sets if each.fingerprint]
        for other in known[1:]:
            known[0].check_same_model(other)
        joined = pd.concat([each.images.astype(object) for each in sets], ignore_index=True)
        return FeatureSet(
            joined.where(joined.notna(), None),
            np.concatenate([each.features for each in sets]),
            known[0].fingerprint if known else "",
            " + ".join(dict.fromkeys(each.name for each in sets if each.name)),
        )

    def check_same_model(self, other: "FeatureSet") -> None:
        """Raise if another set is known to be of another model or preprocessing.

        Raises:
            UserError: it is.
        """
        ours, theirs = self.fingerprint, other.fingerprint
        if ours and theirs and ours != theirs:
            raise UserError(
                f"{self} and {other} cannot be compared: they were made by two models, or from "
                f"photographs prepared in two ways (fingerprints {ours} and {theirs})"
            )

    def save(self, path: str | Path, *, dtype: str = "float32") -> Path:
        """Write the features to ``<path>.safetensors`` and the images to ``<path>.parquet``.

        Args:
            path: with or without a suffix.
            dtype: of the stored features, ``"float32"`` or ``"float16"``.

        Returns:
            The features file.

        Raises:
            UserError: float16 cannot hold the features of an image.
            OSError: it cannot be written. What was there is still there, whole.
        """
        return _save_features(Path(path), self.name, [self], dtype)

    @classmethod
    def load(cls, path: str | Path) -> "FeatureSet":
        """Read what :meth:`save` or an evaluation wrote; the features are mapped into memory.

        Raises:
            SavedResultError: a file is missing, damaged, or not of the same images as the one
                beside it; or a date that was filled in is none.
        """
        images, features, known = load_array(Path(path), "features")
        return cls(images, features, known["fingerprint"], known["name"])


def save_evaluation(
    folder: Path,
    name: str,
    query: FeatureSet,
    gallery: FeatureSet,
    results: Iterable[Result],
    *,
    dtype: str = "float32",
) -> Path:
    """Write the features of a test set and how its queries fared.

    Args:
        folder: created if need be.
        name: of the test set.
        query: the queries.
        gallery: the images that they were searched among.
        results: of the test set; the rankings of those that are of all its images are kept.
        dtype: of the stored features, ``"float32"`` or ``"float16"``.

    Returns:
        The features file.

    Raises:
        UserError: float16 cannot hold the features of an image.
        OSError: it cannot be written.
    """
    both = [
        replace(part, images=part.images.assign(part=which))
        for which, part in (("query", query), ("gallery", gallery))
    ]
    path = _save_features(saved_file(folder, "features", name), name, both, dtype)
    sizes = len(query), len(gallery)
    tables = [
        query.images[["path", "identity"]].assign(
            protocol=result.protocol, **{key: getattr(result.ranking, key) for key in MEASURES}
        )
        for result in results
        if (len(result.query_identities), len(result.gallery_identities)) == sizes
    ]
    rankings = pd.concat(tables or [pd.DataFrame(columns=["protocol", *MEASURES])])
    # Which images they are of, so that those of others are not compared with them.
    rankings.attrs = {"images": digest(pd.concat([part.images for part in both])), "name": name}
    write_table(beside(path, "rankings"), rankings)
    return path


def load_evaluation(folder: Path, name: str) -> tuple[FeatureSet, FeatureSet]:
    """Read the queries and the gallery of a test set; their features are mapped into memory.

    Raises:
        SavedResultError: as :meth:`FeatureSet.load`; or they are of another test set.
    """
    path = saved_file(folder, "features", name)
    images, features, known = load_array(path, "features", name)
    border = _border(images)
    query, gallery = (
        FeatureSet(images[part].reset_index(drop=True), features[part], known["fingerprint"], name)
        for part in (slice(0, border), slice(border, None))
    )
    return query, gallery


def save_scores(
    folder: str | Path,
    name: str,
    scores: Scores,
    query_images: pd.DataFrame,
    gallery_images: pd.DataFrame,
) -> Path:
    """Write the scores of whatever compares photographs, to be judged by ``tools/rescore.py``.

    Args:
        folder: created if need be.
        name: of the test set.
        scores: distances, small where images are alike, as :func:`openanimals.evaluate` takes them.
            Blocks of queries are written one by one.
        query_images: one row a query, with the columns of a catalogue, path and identity at least.
        gallery_images: the same of the gallery.

    Returns:
        The scores file.

    Raises:
        UserError: the scores are not what is expected.
        OSError: it cannot be written.
    """
    parts = query_images.assign(part="query"), gallery_images.assign(part="gallery")
    shape = len(query_images), len(gallery_images)
    blocks = (block for _, block in checked_blocks(scores, *shape))
    path = saved_file(Path(folder), "scores", name)
    return save_array(path, "scores", pd.concat(parts), blocks, shape, "float32", {"name": name})


def load_scores(path: Path) -> tuple[str, np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Read what :func:`save_scores` wrote.

    Returns:
        The name of the test set, its scores `[Q, G]`, mapped into memory, and the images of the
        queries and of the gallery.

    Raises:
        SavedResultError: as :func:`load_evaluation`.
    """
    images, scores, known = load_array(path, "scores")
    query, gallery = (
        images[images["part"] == part].reset_index(drop=True) for part in ("query", "gallery")
    )
    return known["name"], scores, query, gallery


def _save_features(path: Path, name: str, sets: Sequence[FeatureSet], dtype: str) -> Path:
    """Write sets of one model into one file."""
    blocks = [each.features for each in sets]
    if dtype == "float16":
        blocks = [_halved(each) for each in sets]
    shape = sum(map(len, blocks)), blocks[0].shape[1]
    known = {"name": name, "fingerprint": sets[0].fingerprint}
    images = pd.concat([each.images for each in sets], ignore_index=True)
    return save_array(path, "features", images, blocks, shape, dtype, known)


def _halved(features: FeatureSet) -> np.ndarray:
    found = features.features
    largest = np.maximum(found.max(axis=1), -found.min(axis=1))
    beyond = (largest > HALF[1]) | (largest < HALF[0]) & (largest > 0)
    if beyond.any():
        row = int(beyond.argmax())
        raise UserError(
            f"the largest feature of image {row} of {features} is {largest[row]:g}, which float16 "
            f"cannot hold ({HALF[0]:g} to {HALF[1]:g}); set TEST.STORE to float32"
        )
    return found.astype(np.float16)


def _border(images: pd.DataFrame) -> int:
    """Return how many of the images, from the first on, are queries."""
    return int((images["part"] == "query").sum())
