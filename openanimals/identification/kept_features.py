"""Features of a catalogue's photographs, kept in a file beside it: only new ones are computed."""

from dataclasses import dataclass, replace
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from openanimals.data.image_io import ImageError
from openanimals.engine.matchers import CatalogueImages
from openanimals.engine.predictor import Predictor
from openanimals.evaluation import FeatureSet
from openanimals.evaluation.array_io import SavedResultError
from openanimals.evaluation.distance import distance_blocks
from openanimals.matching.matcher import Blocks
from openanimals.utils.errors import UserError

logger = getLogger(__name__)

CHUNK = 512  # photographs computed before they are written down


@dataclass
class KeptFeatures:
    """A network as a matcher, whose features of each photograph are computed once.

    A photograph is known by its path, size, time, box and mask. A work that is killed goes on where
    it was.

    Attributes:
        predictor: gives the features.
        name: of the model, in messages.
        file: where they are kept, with ``.safetensors`` and ``.parquet`` after it.
        metric: of their distance.
    """

    predictor: Predictor
    name: str
    file: Path
    metric: str = "cosine"

    def prepare(self, photographs: Any) -> np.ndarray:
        """Return features `[N, D]`; those of a photograph that cannot be read are NaN.

        Raises:
            UserError: the file is of another model.
        """
        keys = [_key(photographs, row) for row in range(len(photographs))]
        kept = self._load()
        known = {*kept.column("path")} if kept else set()
        lacking = [row for row, key in enumerate(keys) if key and key not in known]
        parts = [kept] if kept else []
        for start in range(0, len(lacking), CHUNK):
            parts += self._compute(photographs, lacking[start : start + CHUNK], keys)
            if parts:
                parts = [FeatureSet.concatenate(parts)]
                parts[0].save(self.file)
        if lacking:
            logger.info("features: %d computed, %d kept", len(lacking), len(keys) - len(lacking))
        if not parts:
            raise ImageError(f"none of the {len(photographs)} photographs can be read")
        return _in_order(parts[0], keys)

    def score_blocks(
        self,
        query: np.ndarray,
        gallery: np.ndarray,
        candidates: np.ndarray,
        individuals: np.ndarray,
    ) -> Blocks:
        """Yield distances; an individual's nearest photograph counts."""
        for rows, distances in distance_blocks(
            np.nan_to_num(query), np.nan_to_num(gallery), self.metric
        ):
            yield rows, distances, None

    def _load(self) -> FeatureSet | None:
        path = self.file.with_name(f"{self.file.name}.safetensors")
        if not path.is_file():
            return None
        try:
            kept = FeatureSet.load(self.file)
        except SavedResultError as error:
            logger.warning("%s; all features are computed again", error)
            return None
        if kept.fingerprint != self.predictor.fingerprint:
            raise UserError(
                f"{path} holds features of the model {kept.name} ({kept.fingerprint}), and these "
                f"are of {self.name} ({self.predictor.fingerprint}); name the model that the "
                "catalogue was made with, or remove the file"
            )
        return kept

    def _compute(
        self, photographs: CatalogueImages, some: list[int], keys: list[str]
    ) -> list[FeatureSet]:
        """Return the features of some photographs; none where none can be read."""
        # Each by its row, since those that cannot be read are left out.
        images = photographs.images.select(some)
        named = [str(row) for row in some]
        images = images.with_table(images.table.assign(sequence=pd.Series(named, dtype=object)))
        try:
            found = self.predictor.embed(images)
        except ImageError as error:
            logger.warning("%s", error)
            return []
        table = pd.DataFrame({"path": [keys[int(r)] for r in found.column("sequence")]})
        return [replace(found, images=table.assign(identity=None), name=self.name)]


def _key(photographs: CatalogueImages, row: int) -> str:
    try:
        return photographs.key(row)
    except ImageError:
        return ""


def _in_order(kept: FeatureSet, keys: list[str]) -> np.ndarray:
    known = dict(zip(kept.column("path"), range(len(kept)), strict=True))
    at = np.array([known.get(key, -1) for key in keys])
    features = np.asarray(kept.features)[at]
    features[at < 0] = np.nan
    return features
