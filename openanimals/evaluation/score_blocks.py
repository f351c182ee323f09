"""Score blocks: the seam between whatever compares photographs and everything that judges it.

An iterator of consecutive query rows and their distances `[rows, G]` to the whole gallery, which
are small where two photographs are alike. Distances of features come as such, a block at a time
(:func:`openanimals.evaluation.distance.distance_blocks`); those of a matcher that has no features
can as well.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from openanimals.evaluation.inputs import as_array
from openanimals.utils.errors import UserError

BLOCK_PAIRS = 2**22  # distances at hand at once, 16 MiB; but never less than a tile of queries

EXPECTED = "expected blocks of consecutive queries, from the first to the last"

ScoreBlocks = Iterator[tuple[slice, np.ndarray]]
MatcherBlocks = Iterator[tuple[slice, np.ndarray] | tuple[slice, np.ndarray, np.ndarray]]
"""Blocks that may have, third, a matcher's own distances of individuals."""

Scores = np.ndarray | Tensor | Iterable[tuple[slice, Any]]


def checked_blocks(scores: Scores, queries: int, gallery: int) -> ScoreBlocks:
    """Yield scores of a user's as score blocks, in memory of their own.

    Args:
        scores: an array `[Q, G]`, which may be mapped from a file; or an iterable of consecutive
            query rows and their distances `[rows, G]`.
        queries: how many there are, Q.
        gallery: how many images are in the gallery, G.

    Yields:
        Query rows, and their distances `[rows, G]` in float32.

    Raises:
        UserError: scores have another shape or are not finite, or queries are missing or repeated.
    """
    done = 0
    for rows, given in _pairs(scores, queries, gallery):
        start, stop, _ = rows.indices(queries)
        block = as_array(given, f"scores of the query rows {start} to {stop - 1}")
        if block.shape != (stop - start, gallery) or block.dtype.kind not in "fiu":
            raise UserError(
                f"scores of the query rows {start} to {stop - 1} are {block.dtype} of the shape "
                f"{list(block.shape)}; expected numbers [{stop - start}, {gallery}]"
            )
        if start < done:
            raise UserError(f"scores of query row {start} are there twice; {EXPECTED}")
        if start > done:
            raise UserError(
                f"scores of the query rows {done} to {start - 1} are missing; {EXPECTED}"
            )
        with np.errstate(over="ignore"):  # told below
            block = block.astype(np.float32)  # a copy
        if not np.isfinite(block).all():
            row, column = np.argwhere(~np.isfinite(block))[0].tolist()
            raise UserError(
                f"the score of query row {start + row} and gallery row {column} is "
                f"{block[row, column]}; nothing can be ranked by scores that are not finite"
            )
        done = stop
        if len(block):
            yield slice(start, stop), block
        del block  # before the next one is made
    if done < queries:
        raise UserError(f"scores of the query rows {done} to {queries - 1} are missing; {EXPECTED}")


def _pairs(scores: Scores, queries: int, gallery: int) -> Iterator[tuple[slice, Any]]:
    """Yield query rows and their scores: of an array, some rows at a time."""
    if not isinstance(scores, np.ndarray | Tensor):
        for item in scores:
            if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], slice)):
                raise UserError(
                    f"a block of scores is {item!r:.60}; expected a slice of query rows and the "
                    "distances of these queries"
                )
            yield item
        return
    if tuple(scores.shape) != (queries, gallery):
        raise UserError(
            f"scores have the shape {list(scores.shape)}; expected [{queries}, {gallery}], one for "
            "each query and gallery image"
        )
    step = max(1, BLOCK_PAIRS // max(1, gallery))
    for start in range(0, queries, step):
        rows = slice(start, min(start + step, queries))
        yield rows, scores[rows]
