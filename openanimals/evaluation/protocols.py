"""What counts as a match, and what is removed from a query's ranking before it is judged.

The rule of person re-identification: a gallery image of the query's own identity taken by the
query's own camera is neither right nor wrong, it is taken out. The encounter rule does the same
with images of the query's own encounter (:mod:`openanimals.evaluation.encounters`). The flank rule
takes out all images that do not show the query's own side, of whichever individual. Nothing else
is removed: a query that also stands in the gallery stays there, and is found.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from openanimals.utils.errors import UserError

CAMERALESS = ("Animals-", "folder:", "csv:")

Labels = Sequence[object] | np.ndarray


def uses_cameras(source_name: str) -> bool:
    """Return whether the paper's protocol looks at cameras in a source.

    It does not in animal data (``Animals-*``, ``folder:``, ``csv:``): the camera labels of the
    authors' release were only the number of the split, so nothing was ever removed and the
    published numbers rest on that. In the person sets, and sources that users register, it does.
    """
    return not source_name.startswith(CAMERALESS)


class Pairs:
    """The pairs of a query and a gallery image that match, and those that are removed.

    Labels are text, numbers or None. One that is missing (None, NaN) equals no other.

    Args:
        query_identities: one label a query.
        gallery_identities: one label a gallery image.
        query_cameras: one label a query: images of its individual by its camera are removed. None
            removes nothing.
        gallery_cameras: one label a gallery image, or None.
        encounters: labels of the queries and of the gallery: images of a query's individual from
            its encounter are removed. None removes nothing.
        sides: the same for sides: images of any other side than the query's are removed, and so
            are those of an unknown one. A query of unknown side keeps none.

    Raises:
        ValueError: cameras are given for one side only, or not one label for each identity.
    """

    def __init__(
        self,
        query_identities: Labels,
        gallery_identities: Labels,
        query_cameras: Labels | None = None,
        gallery_cameras: Labels | None = None,
        *,
        encounters: tuple[Labels, Labels] | None = None,
        sides: tuple[Labels, Labels] | None = None,
    ) -> None:
        self._identities = _codes(query_identities, gallery_identities)
        cameras = None
        if query_cameras is not None and gallery_cameras is not None:
            cameras = query_cameras, gallery_cameras
        elif query_cameras is not None or gallery_cameras is not None:
            given = "gallery" if query_cameras is None else "query"
            raise UserError(f"only the {given} has cameras; expected both sides or neither")
        self._cameras = self._labels("cameras", cameras)
        self._encounters = self._labels("encounters", encounters)
        self._sides = self._labels("sides", sides)

    def _labels(
        self, name: str, labels: tuple[Labels, Labels] | None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        if labels is None:
            return None
        for what, identities, given in zip(
            ("query", "gallery"), self._identities, labels, strict=True
        ):
            if len(identities) != len(given):
                raise UserError(
                    f"{what}: {len(given)} {name} for {len(identities)} identities; "
                    "expected one each"
                )
        return _codes(*labels)

    def block(
        self, queries: slice, gallery: slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return two masks for some of the pairs.

        Args:
            queries: rows of the queries.
            gallery: rows of the gallery.

        Returns:
            Same identity `[queries, gallery]`; removed, or None where nothing ever is.
        """
        matches = _equal(self._identities, queries, gallery)
        removed = None
        for labels in (self._cameras, self._encounters):
            if labels is not None:
                same = matches & _equal(labels, queries, gallery)
                removed = same if removed is None else removed | same
        if self._sides is not None:
            other = ~_equal(self._sides, queries, gallery)
            removed = other if removed is None else removed | other
        return matches, removed

    def matched(self) -> np.ndarray:
        """Return which queries have a match left in their ranking `[Q]`; needs no features."""
        found = np.zeros(len(self._identities[0]), dtype=bool)
        for query in range(len(found)):
            matches, removed = self.block(slice(query, query + 1))
            found[query] = (matches if removed is None else matches & ~removed).any()
        return found


def _codes(query: Labels, gallery: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as integers, equal where the labels are, and -1 where there is none."""
    codes, _ = pd.factorize(np.array([*query, *gallery], dtype=object))
    codes = codes.astype(np.int32)  # half as much to compare
    return codes[: len(query)], codes[len(query) :]


def _equal(codes: tuple[np.ndarray, np.ndarray], queries: slice, gallery: slice) -> np.ndarray:
    query, images = codes[0][queries, None], codes[1][None, gallery]
    return (query == images) & (query >= 0)
