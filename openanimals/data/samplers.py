"""Which images make a batch: endless seeded streams of rows, and the batches cut from them.

A stream is a function of its arguments alone. To resume, start it again and skip the batches that
are done; to share a batch, every process draws the same stream and keeps its own part.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from openanimals.utils.errors import UserError
from openanimals.utils.registry import Registry

SAMPLER_REGISTRY: Registry[Callable[..., Iterator[int]]] = Registry("sampler")
"""``f(cfg, train: TrainSet)`` gives an endless stream of rows of the training set."""

NAIVE_SEED = 860870892
"""Seed of :func:`identity_stream` in the published runs: ``RandomState(666).randint(2**31)``."""


def identity_stream(
    labels: Sequence[Any], batch_size: int, instances: int, seed: int
) -> Iterator[int]:
    """Stream P x K batches: ``batch_size / instances`` identities with ``instances`` images each.

    In a round each identity's images are shuffled once and used up ``instances`` at a time; one
    that has fewer in all is filled up by drawing with repetition. The identities of a batch are
    drawn from those with enough images left. When these are fewer than P, a new round begins.

    Args:
        labels: the identity of each row, all text or all numbers.
        batch_size: images in a batch, over all processes.
        instances: images of an identity in a batch, K.
        seed: seed of the stream, 0 to 2**32 - 1.

    Returns:
        Endless positions in ``labels``; each run of ``batch_size`` is a batch, grouped by identity.

    Raises:
        ValueError: there are fewer identities than P, or P is 0.

    Source: NaiveIdentitySampler of FastReID, as used by ARBase (arXiv 2410.00204).
    """
    rows_of = _rows_by_identity(labels)
    _check_batch(len(rows_of), batch_size, instances)
    return _identity_rounds(rows_of, batch_size // instances, instances, _legacy_rng(seed))


def _identity_rounds(
    rows_of: list[np.ndarray], drawn: int, instances: int, rng: np.random.RandomState
) -> Iterator[int]:
    """Yield rounds for ever; the identities are positions in ``rows_of``."""
    while True:
        available = list(range(len(rows_of)))
        left: dict[int, deque[int]] = {}  # rows not yet used in this round
        while len(available) >= drawn:
            for identity in rng.choice(available, drawn, replace=False).tolist():
                if identity not in left:
                    left[identity] = deque(_shuffled(rows_of[identity], instances, rng))
                queue = left[identity]
                for _ in range(instances):
                    yield queue.popleft()
                if len(queue) < instances:
                    available.remove(identity)


def _shuffled(rows: np.ndarray, instances: int, rng: np.random.RandomState) -> list[int]:
    """Return an identity's rows in random order, at least ``instances`` of them."""
    enough = len(rows) >= instances
    rows = rows.copy() if enough else rng.choice(rows, instances, replace=True)
    rng.shuffle(rows)
    return rows.tolist()


def balanced_stream(
    labels: Sequence[Any], cameras: Sequence[Any], batch_size: int, instances: int, seed: int
) -> Iterator[int]:
    """Stream P x K batches in which an identity's images come from different cameras.

    An epoch takes each identity once, in random order; those that fill no batch are dropped. Of an
    identity come a random image and K - 1 of its images by other cameras or, where there are none,
    of its other images. They are drawn with repetition if there are fewer than K to choose from; an
    identity's only image is repeated.

    Args:
        labels: the identity of each row, all text or all numbers.
        cameras: the camera of each row; None, like any label, is one camera.
        batch_size: images in a batch, over all processes.
        instances: images of an identity in a batch, K.
        seed: seed of the stream, 0 to 2**32 - 1.

    Returns:
        Endless positions in ``labels``; each run of ``batch_size`` is a batch, grouped by identity.

    Raises:
        ValueError: as for :func:`identity_stream`.

    Source: BalancedIdentitySampler of FastReID.
    """
    rows_of = _rows_by_identity(labels)
    _check_batch(len(rows_of), batch_size, instances)
    drawn = batch_size // instances
    return _balanced_epochs(rows_of, cameras, drawn, instances, _legacy_rng(seed))


def _balanced_epochs(
    rows_of: list[np.ndarray],
    cameras: Sequence[Any],
    drawn: int,
    instances: int,
    rng: np.random.RandomState,
) -> Iterator[int]:
    whole = len(rows_of) // drawn * drawn  # identities that fill batches
    while True:
        for identity in rng.permutation(len(rows_of))[:whole].tolist():
            rows = rows_of[identity].tolist()
            first = int(rng.choice(rows))
            yield first
            others = [row for row in rows if cameras[row] != cameras[first]]
            others = others or [row for row in rows if row != first]
            if others:
                repeat = len(others) < instances  # fewer than K - 1 would do, but so it is drawn
                yield from rng.choice(others, instances - 1, replace=repeat).tolist()
            else:
                yield from [first] * (instances - 1)


def shuffled_stream(count: int, seed: int) -> Iterator[int]:
    """Stream the rows 0 to ``count - 1``, each once in an epoch, in a new order every epoch.

    Args:
        count: number of rows.
        seed: seed of the stream, 0 to 2**32 - 1.

    Raises:
        ValueError: there are no rows.

    Source: TrainingSampler of FastReID.
    """
    if count < 1:
        raise UserError("the training set has no images; expected at least one")
    return _permutations(count, _legacy_rng(seed))


def _permutations(count: int, rng: np.random.RandomState) -> Iterator[int]:
    while True:
        yield from rng.permutation(count).tolist()


class BatchSampler:
    """Cuts a stream into batches and gives one process its contiguous share of each.

    Args:
        stream: rows, endless or not; what is left at its end and fills no batch is dropped.
        batch_size: images in a batch, over all processes.
        start: batches that a run that is resumed has done.
        rank: this process, 0 to ``world_size - 1``.
        world_size: number of processes.
    """

    def __init__(
        self,
        stream: Iterator[int],
        batch_size: int,
        *,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.stream, self.batch_size, self.start = stream, batch_size, start
        share = batch_size // world_size
        self.share = slice(rank * share, (rank + 1) * share)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield for each image of a batch its row, and its number in the whole training."""
        first = self.start * self.batch_size
        numbered = enumerate(islice(self.stream, first, None), first)
        while len(batch := list(islice(numbered, self.batch_size))) == self.batch_size:
            yield [(row, number) for number, row in batch[self.share]]


def identities_too_small(labels: Sequence[Any], instances: int) -> list[Any]:
    """Return the identities with fewer than ``instances`` images, sorted: they will be repeated."""
    return sorted(label for label, count in Counter(labels).items() if count < instances)


def _rows_by_identity(labels: Sequence[Any]) -> list[np.ndarray]:
    """Return the rows of each identity, identities in sorted order."""
    rows: dict[Any, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    return [np.array(rows[label]) for label in sorted(rows)]


def _check_batch(identities: int, batch_size: int, instances: int) -> None:
    """Raise unless batches of P x K can be drawn; without this check the stream would hang."""
    needed = batch_size // instances
    if not 0 < needed <= identities:
        raise UserError(
            f"a batch needs {needed} identities (SOLVER.IMS_PER_BATCH {batch_size} / "
            f"DATALOADER.NUM_INSTANCE {instances}) but the training set has {identities}; "
            f"lower SOLVER.IMS_PER_BATCH to at most {identities * instances} "
            f"or raise DATALOADER.NUM_INSTANCE"
        )


def _legacy_rng(seed: int) -> np.random.RandomState:
    """Numpy's legacy generator, whose streams are the same in every version of numpy."""
    return np.random.RandomState(seed)
