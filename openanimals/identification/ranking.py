"""All individuals for each encounter, of which ``matches.json`` names the first five."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from openanimals.utils.errors import FileError
from openanimals.utils.files import atomic_path, expanded

FILE = "ranking.safetensors"  # beside matches.json


@dataclass(frozen=True)
class Ranking:
    """How likely each individual is, and the two photographs that are most alike.

    Attributes:
        encounters: E names, in the order of :attr:`Matches.matches`.
        names: of I individuals.
        photographs: annotation ids of the G photographs of known individuals.
        probability: `[E, I]` float32; with that of a new animal they make one.
        photograph: `[E, I]` int32, position in ``photographs``; -1 where nothing can be compared.
        query: `[E, I]` int32, position in :attr:`Match.annotations` of what it is most like.
    """

    encounters: Sequence[str]
    names: Sequence[str]
    photographs: Sequence[str]
    probability: np.ndarray
    photograph: np.ndarray
    query: np.ndarray

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write :data:`FILE` into a folder.

        Raises:
            FileError: it cannot be written.
        """
        from safetensors.numpy import save_file

        texts = {name: getattr(self, name) for name in ("encounters", "names", "photographs")}
        arrays = {
            "probability": np.ascontiguousarray(self.probability, np.float32),
            "photograph": np.ascontiguousarray(self.photograph, np.int32),
            "query": np.ascontiguousarray(self.query, np.int32),
        }
        with atomic_path(expanded(folder) / FILE) as temporary:
            lists = {name: json.dumps([*map(str, some)]) for name, some in texts.items()}
            save_file(arrays, temporary, metadata=lists)
        return expanded(folder) / FILE

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> "Ranking":
        """Read it from a folder.

        Raises:
            FileError: there is none, or it is damaged.
        """
        from safetensors import SafetensorError, safe_open

        file = expanded(folder) / FILE
        try:
            with safe_open(file, "numpy") as content:
                texts = {name: json.loads(text) for name, text in content.metadata().items()}
                return cls(**texts, **{name: content.get_tensor(name) for name in content.keys()})  # noqa: SIM118
        except (OSError, SafetensorError, TypeError, ValueError, AttributeError) as error:
            raise FileError(
                f"{file} cannot be read: {error}; let openanimals identify write it again"
            ) from error

    def called(self, names: Sequence[str | None]) -> "Ranking":
        """Return it with other names `[I]`: equal ones are one individual, None is left out."""
        titles = [*dict.fromkeys(name for name in names if name is not None)]
        if titles == [*names]:
            return replace(self, names=titles)
        lines = np.arange(len(self.encounters))
        best = np.tile([names.index(title) for title in titles], (len(lines), 1))
        probability = np.zeros(best.shape, np.float32)
        for old, new in enumerate(titles.index(name) if name else -1 for name in names):
            if new >= 0:
                probability[:, new] += self.probability[:, old]
                more = self.probability[:, old] > self.probability[lines, best[:, new]]
                best[more, new] = old
        return replace(
            self,
            names=titles,
            probability=probability,
            photograph=np.take_along_axis(self.photograph, best, axis=1),
            query=np.take_along_axis(self.query, best, axis=1),
        )


def most_alike(distances: np.ndarray, individuals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return of each individual the photograph that is most like one of an encounter's.

    Args:
        distances: `[photographs of the encounter, G]`, infinite where two cannot be compared.
        individuals: `[G]`, numbers 0..I-1, each there.

    Returns:
        `[I]`, positions of photographs in G, -1 where none can be compared; and `[I]`, positions of
        the encounter's photographs.
    """
    nearest = distances.argmin(axis=0)
    least = distances[nearest, np.arange(len(individuals))]
    order = np.lexsort((least, individuals))
    first = order[np.searchsorted(individuals[order], np.arange(individuals.max() + 1))]
    return np.where(np.isfinite(least[first]), first, -1), nearest[first]
