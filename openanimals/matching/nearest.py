"""Nearest descriptors among those of the photographs that a query may see: exact, or by cells.

Descriptors are whole numbers, so squared distances are whole too, products in float32 are exact in
any order, and a distance and a row fit into one int64: neighbours are sorted by distance, equal
ones by row, whatever the blocks or threads.

A product of matrices gives the similarity of each query to each row of a block. Of these only the
largest in each chunk of 32 rows is looked at again: the k nearest rows are in the k chunks with the
largest of these. In a search of all, a chunk is of one photograph, so that a query's candidates are
told by chunks, too.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

CHUNK = 32  # rows of which the largest similarity is looked at
ROWS = 2048  # compared at once
QUERIES = 512  # compared at once: 4 MiB of similarities, which stay in the cache
PART = 2**15  # descriptors that choose their cells at once
NOTHING = torch.iinfo(torch.int64).max  # instead of a neighbour
ROW_BITS = 32
SAMPLE = 64  # descriptors for each cell that cells are learnt from
ROUNDS = 6  # of k-means


class Neighbours:
    """The descriptors of a gallery, among which those of queries are looked up.

    Args:
        descriptors: uint8 `[D, C]`, of a length that float32 holds squared (C up to 256).
        photographs: the photograph of each `[D]`, ascending from 0.
        cells: parts that the descriptors are divided into by k-means, of which a query descriptor
            searches the nearest ones; 0 searches all, exactly.
        probes: how many cells are searched; all of them is exact, too.
    """

    def __init__(
        self, descriptors: np.ndarray, photographs: np.ndarray, *, cells: int = 0, probes: int = 32
    ) -> None:
        self.descriptors = torch.from_numpy(np.ascontiguousarray(descriptors))
        self.photographs = torch.from_numpy(np.asarray(photographs, dtype=np.int64))
        # Into one array: small ones between large temporary ones would keep the memory of these.
        self.norms = torch.empty(len(descriptors))
        for norms, part in zip(self.norms.split(PART), self.descriptors.split(PART), strict=True):
            norms.copy_(_norms(part))
        self.cells = min(cells, len(descriptors))
        self.probes = min(probes, self.cells)
        if self.cells:
            self.centres = _centres(self.descriptors, self.cells)
            cell = _nearest_cells(self.descriptors, self.centres, 1)[:, 0]
            self.members = _grouped(cell, self.cells)

    def search(
        self, queries: np.ndarray, photographs: np.ndarray, candidates: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest descriptors of each query descriptor.

        Args:
            queries: uint8 `[N, C]`.
            photographs: the query photograph of each `[N]`.
            candidates: bool `[Q, G]`: the gallery photographs that each query photograph may see.
            k: how many.

        Returns:
            Squared distances `[N, k]` in float64, ascending, and rows `[N, k]`; where there are
            fewer, infinite and -1.
        """
        given = torch.from_numpy(np.ascontiguousarray(queries))
        owners = torch.from_numpy(np.asarray(photographs, dtype=np.int64))
        seen = torch.from_numpy(np.asarray(candidates, dtype=bool))
        best = torch.full((len(given), k), NOTHING)
        if len(given) and len(self.descriptors):
            search = self._search_cells if self.cells else self._search_all
            search(given, owners, seen, best)
        lacking = best == NOTHING
        distances = (best >> ROW_BITS).double().masked_fill(lacking, torch.inf)
        rows = (best & (2**ROW_BITS - 1)).masked_fill(lacking, -1)
        return distances.numpy(), rows.numpy()

    def recall(self, queries: np.ndarray, k: int) -> float:
        """Return the share of the k nearest neighbours of descriptors `[N, C]` that is found.

        All photographs are candidates here.
        """
        whole = Neighbours(self.descriptors.numpy(), self.photographs.numpy())
        photographs = np.zeros(len(queries), dtype=np.int64)
        everything = np.ones((1, int(self.photographs.max()) + 1), dtype=bool)
        found, exact = (
            index.search(queries, photographs, everything, k)[0] for index in (self, whole)
        )
        return float((found <= exact[:, -1:]).mean())

    def _search_all(self, queries: Tensor, owners: Tensor, seen: Tensor, best: Tensor) -> None:
        for photographs in self._blocks(seen):
            using = seen[:, photographs].any(1)[owners].nonzero()[:, 0]
            if not len(using):
                continue
            rows = torch.cat([_padded(self._keypoints(photograph)) for photograph in photographs])
            hidden = ~seen[:, self.photographs[rows[::CHUNK]]]  # [Q, chunks]
            gallery, norms = self._taken(rows)
            for part in using.split(QUERIES):
                similar = _similarities(queries[part], gallery, norms)
                largest = similar.amax(2).masked_fill_(hidden[owners[part]], -torch.inf)
                _merge(queries[part], part, similar, largest, rows, best)

    def _blocks(self, seen: Tensor) -> list[list[int]]:
        """Return photographs, about 2048 descriptors at a time.

        Those that the same queries may see come together, so that others skip them: of candidates
        by side, half of the products are never made.
        """
        alike: Iterable[int] = np.lexsort(np.packbits(seen.numpy(), axis=0)) if len(seen) else []
        self.starts = torch.searchsorted(self.photographs, torch.arange(seen.shape[1] + 1))
        blocks: list[list[int]] = [[]]
        filled = 0
        for photograph in map(int, alike):
            count = len(self._keypoints(photograph))
            if filled + count > ROWS and filled:
                blocks.append([])
                filled = 0
            if count:
                blocks[-1].append(photograph)
                filled += count
        return [sorted(block) for block in blocks if block]  # equal ones are sorted by row

    def _keypoints(self, photograph: int) -> Tensor:
        return torch.arange(int(self.starts[photograph]), int(self.starts[photograph + 1]))

    def _search_cells(self, queries: Tensor, owners: Tensor, seen: Tensor, best: Tensor) -> None:
        probed = _nearest_cells(queries, self.centres, self.probes)
        using = _grouped(probed.flatten(), self.cells)
        every = bool(seen.all())
        for cell, members in enumerate(self.members):
            if not len(using[cell]) or not len(members):
                continue
            rows = _padded(members)
            gallery, norms = self._taken(rows)
            hidden = ~seen[:, self.photographs[rows]]  # [Q, rows]
            for part in (using[cell] // self.probes).split(max(1, ROWS * QUERIES // len(rows))):
                similar = _similarities(queries[part], gallery, norms)
                if not every:
                    similar.view(len(part), -1).masked_fill_(hidden[owners[part]], -torch.inf)
                _merge(queries[part], part, similar, similar.amax(2), rows, best)

    def _taken(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        norms = self.norms[rows].masked_fill_(rows < 0, torch.inf)  # the padding's
        return self.descriptors[rows].float(), norms


def _norms(descriptors: Tensor) -> Tensor:
    return descriptors.float().square().sum(1)


def _padded(rows: Tensor) -> Tensor:
    """Fill the last chunk up, with -1."""
    return torch.nn.functional.pad(rows, (0, -len(rows) % CHUNK), value=-1)


def _similarities(queries: Tensor, gallery: Tensor, norms: Tensor) -> Tensor:
    """Return the squared norms of the queries less the squared distances, `[N, chunks, CHUNK]`."""
    similar = torch.addmm(norms, queries.float(), gallery.T, beta=-1, alpha=2)
    return similar.view(len(queries), len(gallery) // CHUNK, CHUNK)


def _merge(
    queries: Tensor, part: Tensor, similar: Tensor, largest: Tensor, rows: Tensor, best: Tensor
) -> None:
    """Put the nearest rows of a block among the best ones so far.

    Args:
        queries: descriptors of some of the queries `[n, C]`.
        part: which of the queries they are `[n]`.
        similar: see :func:`_similarities`; -inf counts for nothing.
        largest: the largest similarity of each chunk `[n, chunks]`; -inf hides a chunk.
        rows: of the block, ascending, but for the padding.
        best: of all queries `[N, k]`, each a squared distance and a row.
    """
    chunks, k = largest.shape[1], best.shape[1]
    if chunks > k:
        # Of equal chunks the first: a double holds both numbers.
        order = largest.double().mul_(chunks).sub_(torch.arange(chunks))
        nearest = order.topk(k, dim=1, sorted=False).indices
    else:
        nearest = torch.arange(chunks).expand(len(part), chunks)
    inside = nearest[:, :, None].expand(-1, -1, CHUNK)
    hidden = largest.gather(1, nearest)[:, :, None] == -torch.inf
    distances = _norms(queries)[:, None, None] - similar.gather(1, inside)
    hidden = hidden | (distances == torch.inf)
    found = (distances.masked_fill_(hidden, 0).long() << ROW_BITS) | rows.view(chunks, CHUNK)[
        nearest
    ]
    found.masked_fill_(hidden, NOTHING)
    both = torch.cat([best[part], found.flatten(1)], dim=1)
    best[part] = both.topk(k, dim=1, largest=False).values


def _grouped(numbers: Tensor, count: int) -> tuple[Tensor, ...]:
    """Return where each of the numbers 0..count-1 is, ascending."""
    sizes = torch.bincount(numbers, minlength=count).tolist()
    return torch.argsort(numbers, stable=True).split(sizes)


def _nearest_cells(descriptors: Tensor, centres: Tensor, count: int) -> Tensor:
    """Return the nearest centres of each descriptor `[N, count]`."""
    norms, cells = _norms(centres), torch.empty(len(descriptors), count, dtype=torch.int64)
    for nearest, part in zip(cells.split(PART), descriptors.split(PART), strict=True):
        similar = torch.addmm(norms, part.float(), centres.T, beta=-1, alpha=2)
        nearest.copy_(similar.topk(count, dim=1).indices)
    return cells


def _centres(descriptors: Tensor, cells: int) -> Tensor:
    """Divide descriptors by k-means, float32 `[cells, C]`; draws no lots."""
    sample = descriptors[:: max(1, len(descriptors) // (cells * SAMPLE))].float()
    centres = sample[torch.linspace(0, len(sample) - 1, cells).long()]
    for _ in range(ROUNDS):
        cell = _nearest_cells(sample, centres, 1)[:, 0]
        sums = torch.zeros_like(centres).index_add_(0, cell, sample)
        counts = torch.bincount(cell, minlength=cells)[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres
