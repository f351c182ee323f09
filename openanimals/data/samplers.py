"""Which images make a batch: endless seeded streams of rows, and the batches cut from them.

A stream is a function of its arguments alone. To resume, start it again and skip the batches that
are done; to share a batch, every process draws the same stream and keeps its own part. Streams are
drawn by numpy's legacy generator, which gives the same numbers in every version of numpy.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.random import RandomState

from openanimals.utils.errors import UserError
from openanimals.utils.registry import Registry

SAMPLER_REGISTRY: Registry[Callable[..., Iterator[int]]] = Registry("sampler")
"""``f(cfg, train: TrainSet)`` gives an endless stream of rows of the training set."""


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
    rows_of = _rows_by_identity(labels, batch_size, instances)
    rng = RandomState(seed)

    def shuffled(rows: np.ndarray) -> deque[int]:
        enough = len(rows) >= instances
        rows = rows.copy() if enough else rng.choice(rows, instances, replace=True)
        rng.shuffle(rows)
        return deque(rows.tolist())

    def rounds() -> Iterator[int]:
        while True:
            available = list(range(len(rows_of)))
            left: dict[int, deque[int]] = {}  # rows not yet used in this round
            while len(available) >= batch_size // instances:
                drawn = rng.choice(available, batch_size // instances, replace=False)
                for identity in drawn.tolist():
                    if identity not in left:
                        left[identity] = shuffled(rows_of[identity])
                    for _ in range(instances):
                        yield left[identity].popleft()
                    if len(left[identity]) < instances:
                        available.remove(identity)

    return rounds()


def balanced_stream(
    labels: Sequence[Any], cameras: Sequence[Any], batch_size: int, instances: int, seed: int
) -> Iterator[int]:
    """Stream P x K batches in which an identity's images come from different cameras.

    An epoch takes each identity once, in random order; those that fill no batch are dropped. Of an
    identity come a random image and K - 1 of its images by other cameras or, where there are none,
    of its other images. They are drawn with repetition if there are fewer than K to choose from; an
    identity's only image is repeated.

    Arguments and errors are those of :func:`identity_stream`, and ``cameras``, the camera of each
    row; None, like any label, is one camera.

    Source: BalancedIdentitySampler of FastReID.
    """
    rows_of = _rows_by_identity(labels, batch_size, instances)
    rng = RandomState(seed)

    def epochs() -> Iterator[int]:
        drawn = batch_size // instances
        whole = len(rows_of) // drawn * drawn  # identities that fill batches
        while True:
            for identity in rng.permutation(len(rows_of))[:whole].tolist():
                rows = rows_of[identity].tolist()
                first = int(rng.choice(rows))
                yield first
                others = [row for row in rows if cameras[row] != cameras[first]]
                others = others or [row for row in rows if row != first]
                if others:
                    repeat = len(others) < instances  # K - 1 would do, but so it is drawn
                    yield from rng.choice(others, instances - 1, replace=repeat).tolist()
                else:
                    yield from [first] * (instances - 1)

    return epochs()


def shuffled_stream(count: int, seed: int) -> Iterator[int]:
    """Stream the rows 0 to ``count - 1``, each once in an epoch, in a new order every epoch.

    Args:
        count: number of rows, at least 1.
        seed: seed of the stream, 0 to 2**32 - 1.

    Source: TrainingSampler of FastReID.
    """
    rng = RandomState(seed)
    while True:
        yield from rng.permutation(count).tolist()


def batch_sampler(
    stream: Iterator[int], batch_size: int, *, start: int = 0, rank: int = 0, world_size: int = 1
) -> Iterator[list[tuple[int, int]]]:
    """Cut a stream into batches and give one process its contiguous share of each.

    Args:
        stream: rows, endless or not; what is left at its end and fills no batch is dropped.
        batch_size: images in a batch, over all processes.
        start: batches that a run that is resumed has done.
        rank: this process, 0 to ``world_size - 1``.
        world_size: number of processes.

    Yields:
        For each image of the share its row, and its number in the whole training.
    """
    share = batch_size // world_size
    first = start * batch_size
    numbered = enumerate(islice(stream, first, None), first)
    while len(batch := list(islice(numbered, batch_size))) == batch_size:
        yield [(row, number) for number, row in batch[rank * share : (rank + 1) * share]]


def _rows_by_identity(labels: Sequence[Any], batch_size: int, instances: int) -> list[np.ndarray]:
    """Return the rows of each identity, identities in sorted order, if they make a P x K batch."""
    rows: dict[Any, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    needed = batch_size // instances
    if not 0 < needed <= len(rows):  # else the stream would hang
        raise UserError(
            f"a batch needs {needed} identities (SOLVER.IMS_PER_BATCH {batch_size} / "
            f"DATALOADER.NUM_INSTANCE {instances}) but the training set has {len(rows)}"
        )
    return [np.array(rows[label]) for label in sorted(rows)]
