"""What counts as a match, and what is removed from a query's ranking before it is judged.

The rule is that of person re-identification: a gallery image of the query's own identity taken by
the query's own camera is neither right nor wrong, it is taken out. Nothing else is: a query that
also stands in the gallery stays there, and is found, unless its camera takes it out.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

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

    Args:
        query_identities: one label a query, text or a number.
        gallery_identities: one label a gallery image.
        query_cameras: one label a query, or None to remove nothing. A missing label (None, NaN)
            equals no other, so its row is never removed.
        gallery_cameras: one label a gallery image, or None.

    Raises:
        ValueError: cameras are given for one side only, or not one for each identity.
    """

    def __init__(
        self,
        query_identities: Labels,
        gallery_identities: Labels,
        query_cameras: Labels | None = None,
        gallery_cameras: Labels | None = None,
    ) -> None:
        self._identities = _codes(query_identities, gallery_identities)
        self._cameras = None
        if query_cameras is None and gallery_cameras is None:
            return
        if query_cameras is None or gallery_cameras is None:
            given = "gallery" if query_cameras is None else "query"
            raise ValueError(f"only the {given} has cameras; expected both sides or neither")
        self._cameras = _codes(query_cameras, gallery_cameras)
        for what, identities, cameras in zip(
            ("query", "gallery"), self._identities, self._cameras, strict=True
        ):
            if len(identities) != len(cameras):
                raise ValueError(
                    f"{what}: {len(cameras)} cameras for {len(identities)} identities; "
                    "expected one each"
                )

    def block(self, rows: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Return two masks for some of the queries.

        Args:
            rows: the queries.

        Returns:
            Same identity `[rows, G]`; removed `[rows, G]`, or None where nothing ever is.
        """
        matches = _equal(self._identities, rows)
        return matches, None if self._cameras is None else matches & _equal(self._cameras, rows)


def _codes(query: Labels, gallery: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as integers, equal where the labels are, and -1 where there is none."""
    codes, _ = pd.factorize(np.array([*query, *gallery], dtype=object))
    return codes[: len(query)], codes[len(query) :]


def _equal(codes: tuple[np.ndarray, np.ndarray], rows: slice) -> np.ndarray:
    query, gallery = codes[0][rows, None], codes[1][None]
    return (query == gallery) & (query >= 0)
