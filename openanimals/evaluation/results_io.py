"""What is kept of an evaluation: features or scores, the images that they are of, and rankings.

``features_<test set>.safetensors`` (or ``scores_...``) holds one array, which is mapped into memory
and not read before it is looked at; ``images_<test set>.parquet`` the table of the images, queries
first, with a column ``part``; ``rankings_<test set>.parquet`` a row for each query and protocol. A
digest of what features depend on (path, identity, box) ties them together, so that a date, a
sequence or a viewpoint may be filled in later. Nothing in these files can be executed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pandas as pd

from openanimals.evaluation.array_io import (
    SavedResultError,
    beside,
    digest,
    load_array,
    save_array,
    saved_file,
    write_table,
)
from openanimals.evaluation.inputs import as_array, as_table
from openanimals.evaluation.metrics import Result
from openanimals.evaluation.score_blocks import Scores, checked_blocks
from openanimals.utils.errors import UserError
from openanimals.utils.files import expanded

MEASURES = ("average_precision", "inverse_negative_penalty", "first_hit")
HALF = 2.0**-14, 65504.0  # the range in which float16 keeps 3 digits


@dataclass(frozen=True)
class FeatureSet:
    """Photographs and their features: a query set, a gallery, a whole catalogue.

    Attributes:
        images: one row a photograph, with the columns of a catalogue (path, identity, bbox,
            counted_camera, date, ...) as far as they are known; None where a value is missing.
        features: `[N, D]`, in the order of the rows; may be mapped from a file, and given as
            whatever is like an array.
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
        object.__setattr__(self, "features", as_array(self.features, "features"))
        object.__setattr__(self, "images", as_table(self.images))
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
        if dtype == "float16":
            largest = abs(self.features).max(axis=1)
            beyond = (largest > HALF[1]) | (largest < HALF[0]) & (largest > 0)
            if beyond.any():
                row = int(beyond.argmax())
                raise UserError(
                    f"the largest feature of image {row} of {self} is {largest[row]:g}, which "
                    f"float16 cannot hold ({HALF[0]:g} to {HALF[1]:g}); set TEST.STORE to float32"
                )
        known = {"name": self.name, "fingerprint": self.fingerprint}
        features = self.features.astype(dtype, copy=False)
        return save_array(expanded(path), "features", self.images, features, known)

    @classmethod
    def load(cls, path: str | Path) -> "FeatureSet":
        """Read what :meth:`save` or an evaluation wrote; the features are mapped into memory.

        Raises:
            SavedResultError: a file is missing, damaged, or not of the same images as the one
                beside it; or a date that was filled in is none.
        """
        images, features, known = load_array(expanded(path), "features")
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
    """Write the features of a test set and how its queries fared, as :meth:`FeatureSet.save` does.

    Of the results the rankings of those are kept that are of all its images.
    """
    both = FeatureSet.concatenate(
        [
            replace(side, images=side.images.assign(part=part), name=name)
            for part, side in (("query", query), ("gallery", gallery))
        ]
    )
    path = both.save(saved_file(folder, "features", name), dtype=dtype)
    _save_rankings(path, name, both.images, query.images, len(gallery), results)
    return path


def _save_rankings(
    path: Path,
    name: str,
    both: pd.DataFrame,
    query: pd.DataFrame,
    gallery: int,
    results: Iterable[Result],
) -> None:
    """Write how the queries fared by those results that are of all images."""
    sizes = len(query), gallery
    tables = [
        query[["path", "identity"]].assign(
            protocol=result.protocol, **{key: getattr(result.ranking, key) for key in MEASURES}
        )
        for result in results
        if (len(result.query_identities), len(result.gallery_identities)) == sizes
    ]
    rankings = pd.concat(tables or [pd.DataFrame(columns=["protocol", *MEASURES])])
    # Which images they are of, so that those of others are not compared with them.
    rankings.attrs = {"images": digest(both), "name": name}
    write_table(beside(path, "rankings"), rankings)


def load_evaluation(folder: Path, name: str) -> tuple[FeatureSet, FeatureSet]:
    """Read the queries and the gallery of a test set; their features are mapped into memory.

    Raises:
        SavedResultError: as :meth:`FeatureSet.load`; or they are of another test set.
    """
    path = saved_file(folder, "features", name)
    both = FeatureSet.load(path)
    if both.name != name:  # two names may become one file name
        raise SavedResultError(f"{path} holds features of {both.name}, not of {name}")
    border = int((both.images["part"] == "query").sum())
    return both.select(slice(border)), both.select(slice(border, None))


def save_scores(
    folder: str | Path,
    name: str,
    scores: Scores,
    query_images: pd.DataFrame,
    gallery_images: pd.DataFrame,
    results: Iterable[Result] = (),
) -> Path:
    """Write the scores of whatever compares photographs, to be judged by ``tools/rescore.py``.

    Args:
        folder: created if need be.
        name: of the test set.
        scores: distances, small where images are alike, as :func:`openanimals.evaluate` takes them.
            Blocks of queries are gathered on the disk.
        query_images: one row a query, with the columns of a catalogue, path and identity at least.
        gallery_images: the same of the gallery.
        results: how the queries fared by the scores, to be compared by ``tools/compare.py``.

    Returns:
        The scores file.

    Raises:
        UserError: the scores are not what is expected.
        OSError: it cannot be written.
    """
    shape = len(query_images), len(gallery_images)
    query_images, gallery_images = as_table(query_images), as_table(gallery_images)
    path = saved_file(expanded(folder), "scores", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=path.parent) as file:
        whole = np.memmap(file, np.float32, "w+", shape=shape)
        for rows, block in checked_blocks(scores, *shape):
            whole[rows] = block
        parts = query_images.assign(part="query"), gallery_images.assign(part="gallery")
        both = pd.concat(parts)
        save_array(path, "scores", both, whole, {"name": name})
    if results:
        _save_rankings(path, name, both, query_images, len(gallery_images), results)
    return path


def load_scores(path: Path) -> tuple[str, np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Read what :func:`save_scores` wrote, as :meth:`FeatureSet.load` does.

    Returns:
        The name of the test set, its scores `[Q, G]`, mapped into memory, and the images of the
        queries and of the gallery.
    """
    images, scores, known = load_array(path, "scores")
    query, gallery = images[: len(scores)], images[len(scores) :].reset_index(drop=True)
    return known["name"], scores, query, gallery
