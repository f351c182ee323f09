"""Local features as a matcher: keypoints, their nearest neighbours, and a geometric check.

After HotSpotter (Crall, Stewart, Berger-Wolf, Rubenstein and Sundaresan, "HotSpotter: patterned
species instance recognition", WACV 2013). It needs no training.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from openanimals.matching.geometry import check_matches, shortlisted
from openanimals.matching.keypoints import Keypoints, extract_keypoints
from openanimals.matching.lnbnn import (
    KeypointTable,
    Matches,
    as_table,
    individual_scores,
    lnbnn,
    photograph_scores,
)
from openanimals.matching.matcher import Blocks, Images
from openanimals.matching.nearest import Neighbours
from openanimals.matching.one_to_one import Spots, as_spots, one_to_one
from openanimals.utils.files import atomic_path
from openanimals.utils.progress import Progress

logger = logging.getLogger(__name__)

QUERIES = 64  # photographs matched at a time
TIE = 1e-6  # of the scores before the geometric check, which order what fails it
EXACT = 50_000  # descriptors of a gallery that are always compared with all
A_CELL = 500  # descriptors of a larger one's parts
CELLS = 4096  # most of them: to choose one takes as long as they are many
ONE_TO_ONE = "ratio"  # instead of a rule of LNBNN
SAMPLE = 100  # descriptors of which all neighbours are looked for, to tell how many are found
VERSION = 1  # of what is kept; a change makes it void


@dataclass
class LocalMatcher:
    """Compares photographs by their local features.

    Attributes:
        detector: see :func:`extract_keypoints`, like size and points.
        size: the longest side that photographs are scaled to, in pixels.
        points: most keypoints of a photograph.
        centre: see :func:`extract_keypoints`.
        k: neighbours that each descriptor of a query votes for.
        normalisers: neighbours beyond these that the normaliser is chosen from.
        rule: how, ``"last"`` or by ``"name"``; see :func:`lnbnn`. Or ``"ratio"``: photographs are
            compared one with one, see :func:`one_to_one`.
        shortlist: photographs of each query whose matches are checked by geometry; 0: none are.
        vote: ``"nsum"`` or ``"csum"``, see :func:`individual_scores`.
        probes: parts of a large gallery's descriptors that are searched for each; 0: all of them.
        folder: where keypoints are kept, a file for each photograph; None: nowhere.
        workers: processes that extract keypoints; 0: this one.
    """

    detector: str = "dog"
    size: int = 336
    points: int = 600
    centre: tuple[float, float] | None = (0.6, 0.4)
    k: int = 4
    normalisers: int = 1
    rule: str = "last"
    shortlist: int = 100
    vote: str = "nsum"
    probes: int = 32
    folder: Path | None = None
    workers: int = 0
    _last: tuple[KeypointTable, Neighbours] | None = field(default=None, repr=False)

    def prepare(self, photographs: Images) -> KeypointTable:
        """Return the keypoints of photographs, those that are kept as they are."""
        settings: dict[str, Any] = {"detector": self.detector, "longest": self.size}
        settings |= {"points": self.points, "centre": self.centre}
        extract = partial(extract_keypoints, **settings)
        words = f"{VERSION} {sorted(settings.items())}"
        rows: Any = _Rows(photographs, extract, self.folder, words)
        own: list[Keypoints] = []
        again = 0
        with Progress("extracting keypoints", len(photographs), "photograph") as progress:
            for keypoints, damaged in DataLoader(
                rows, batch_size=None, num_workers=self.workers, collate_fn=_as_it_is
            ):
                own.append(keypoints)
                again += damaged
                progress.update(1)
        if again:
            logger.warning(
                "%d files of keypoints in %s were damaged; made anew", again, self.folder
            )
        if empty := sum(len(keypoints.xy) == 0 for keypoints in own):
            logger.warning("%d photographs have no keypoint; their scores are 0", empty)
        return as_table(own)

    def score_blocks(
        self,
        query: KeypointTable,
        gallery: KeypointTable,
        candidates: np.ndarray,
        individuals: np.ndarray,
    ) -> Blocks:
        """Compare queries with their candidates; see :class:`Matcher`."""
        count, photographs = len(query.diagonals), len(gallery.diagonals)
        if len(np.unique(individuals)) < 2:
            logger.warning(
                "the gallery is of one individual: what its photographs share with a query is "
                "measured against themselves"
            )
        with Progress("matching keypoints", count, "photograph") as progress:
            for start in range(0, count, QUERIES):
                rows = slice(start, min(start + QUERIES, count))
                some = query.select(np.arange(count)[rows])
                size = len(some.diagonals)
                found, kept = self._matches(some, gallery, candidates[rows], individuals)
                scores = TIE * photograph_scores(found, size, photographs)
                scores += photograph_scores(kept, size, photographs)
                named = TIE * individual_scores(found, size, individuals, self.vote)
                named += individual_scores(kept, size, individuals, self.vote)
                progress.update(size)
                yield rows, -scores, -named

    def spots(
        self,
        query: KeypointTable,
        gallery: KeypointTable,
        candidates: np.ndarray,
        individuals: np.ndarray,
    ) -> Callable[[int, int], Spots]:
        """Return what tells which spots of a query and a candidate have made their score.

        The arguments are those of :meth:`score_blocks`; those of the function are a row of the
        queries and one of the gallery.
        """

        @lru_cache(maxsize=1)
        def of_query(row: int) -> Matches:
            some = query.select(np.array([row]))
            return self._matches(some, gallery, candidates[[row]], individuals)[1]

        def of_pair(row: int, column: int) -> Spots:
            matches = of_query(row)
            some = query.select(np.array([row]))
            return as_spots(matches.select(matches.gallery == column), some, gallery)

        return of_pair

    def _matches(
        self,
        query: KeypointTable,
        gallery: KeypointTable,
        candidates: np.ndarray,
        individuals: np.ndarray,
    ) -> tuple[Matches, Matches]:
        """Return the matches of some queries, and those that geometry keeps."""
        if self.rule == ONE_TO_ONE:
            matches = one_to_one(query, gallery, candidates)
        else:
            matches = lnbnn(
                query,
                gallery,
                candidates,
                individuals,
                k=self.k,
                normalisers=self.normalisers,
                rule=self.rule,
                index=self._index(gallery, query),
            )
        if not self.shortlist:
            return matches, matches
        sizes = len(query.diagonals), len(gallery.diagonals)
        short = shortlisted(matches, *sizes, self.shortlist)
        return matches, check_matches(short, query, gallery)

    def _index(self, gallery: KeypointTable, query: KeypointTable) -> Neighbours:
        """Return the index of a gallery, which protocols and pictures share."""
        if self._last is None or self._last[0] is not gallery:
            total = len(gallery.descriptors)
            cells = min(total // A_CELL, CELLS) if self.probes and total > EXACT else 0
            index = Neighbours(
                gallery.descriptors, gallery.photographs, cells=cells, probes=self.probes
            )
            if cells and len(query.descriptors):
                some = query.descriptors[:: max(1, len(query.descriptors) // SAMPLE)]
                logger.info(
                    "%d descriptors in %d parts, of which %d are searched for each: that finds "
                    "%.1f %% of the nearest neighbours (of %d descriptors)",
                    *(total, cells, index.probes),
                    100 * index.recall(some, self.k + self.normalisers),
                    len(some),
                )
            self._last = gallery, index
        return self._last[1]


@dataclass
class _Rows:
    """Keypoints by the row of their photograph, and whether what was kept of them is damaged."""

    photographs: Images
    extract: Callable[..., Keypoints]
    folder: Path | None
    settings: str

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, row: int) -> tuple[Keypoints, bool]:
        if self.folder is None:
            return self.extract(*self.photographs[row]), False
        key = f"{self.settings} {self.photographs.key(row)}"
        path = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
        damaged = False
        if path.is_file():
            try:
                with np.load(path) as kept:
                    return Keypoints(*(kept[name] for name in Keypoints._fields)), False
            except Exception:  # whatever numpy and zipfile raise for what is cut short
                damaged = True
        keypoints = self.extract(*self.photographs[row])
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **keypoints._asdict())
        return keypoints, damaged


def _as_it_is(item: Any) -> Any:
    return item
