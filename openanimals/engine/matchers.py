"""The matchers that TEST.MATCHER names: a network's features, local ones, or both, fused."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from openanimals.config import CfgNode, get_cfg
from openanimals.data.build import Sets
from openanimals.data.cache import ImageCache
from openanimals.data.catalogue import Catalogue, concatenate
from openanimals.data.image_io import ImageError, read_image
from openanimals.engine.device import room_to_evaluate
from openanimals.engine.evaluate import extract
from openanimals.engine.fusion import calibrated
from openanimals.evaluation.distance import distance_blocks
from openanimals.matching.local import ONE_TO_ONE, LocalMatcher
from openanimals.matching.matcher import MATCHER_REGISTRY, Blocks, Matcher
from openanimals.matching.one_to_one import Spots
from openanimals.utils.errors import UserError
from openanimals.utils.machine import cores, user_cache
from openanimals.utils.registry import did_you_mean

FEATURES, LOCAL, FUSED = "cosine", "local", "fusion"  # the names that are not registered
ShowSpots = Callable[[int, int], Spots]
SEED = 0  # of the individuals that a calibration looks at, if there are many


@dataclass
class CatalogueImages:
    """The photographs of a catalogue, cut to their boxes; see :class:`.Images`."""

    images: Catalogue
    masked: bool = False
    boxes: list = field(init=False)
    paths: list[Path] = field(init=False)

    def __post_init__(self) -> None:
        self.boxes = self.images.column("bbox")
        self.paths = [self.images.root / path for path in self.images.column("path")]

    @property
    def table(self) -> Any:
        """One row a photograph, with the columns of a catalogue."""
        return self.images.table

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return pixels `[H, W, 3]`, and `[H, W]`, True on the animal, if masks are asked for."""
        path, box, mask = self.paths[row], self.boxes[row], self.images.mask(row)
        pixels = read_image(path, bbox=box)
        if not (self.masked and mask):
            return pixels, None
        return pixels, (read_image(path, bbox=box, mask=mask) == pixels).all(axis=2)

    def key(self, row: int) -> str:
        """Return what changes if a photograph, its box or its mask does."""
        path = self.paths[row]
        mask = self.images.mask(row) if self.masked else None
        try:
            known = path.stat()
        except OSError as error:
            raise ImageError(f"{path}: {error.strerror}") from error
        return f"{path.absolute()} {known.st_size} {known.st_mtime_ns} {self.boxes[row]} {mask}"


@dataclass
class FeatureMatcher:
    """A network's features, compared by their distance, as a matcher.

    TEST.FOLD_NORMS is the caller's to see to.
    """

    cfg: CfgNode
    model: nn.Module
    device: torch.device
    cache: ImageCache | None = None

    def prepare(self, photographs: CatalogueImages) -> np.ndarray:
        """Return features `[N, D]`."""
        with room_to_evaluate(self.cfg):
            features, lost = extract(
                self.cfg, self.model, photographs.images, self.device, self.cache
            )
        if lost:
            raise ImageError("; ".join(lost.values()))
        return features

    def score_blocks(
        self,
        query: np.ndarray,
        gallery: np.ndarray,
        candidates: np.ndarray,
        individuals: np.ndarray,
    ) -> Blocks:
        """Yield distances of features; an individual's nearest photograph counts."""
        for rows, distances in distance_blocks(query, gallery, self.cfg.TEST.METRIC):
            yield rows, distances, None


def uses_features(cfg: CfgNode) -> bool:
    """Tell whether TEST.MATCHER looks at a network's features."""
    matcher = cfg.TEST.MATCHER
    return matcher == FEATURES or (matcher == FUSED and FEATURES in cfg.FUSION.MATCHERS)


def matcher_problems(cfg: CfgNode, training: bool) -> list[str]:
    """Return what is wrong with TEST.MATCHER and the matchers of a fusion."""
    own = (FEATURES, LOCAL, *MATCHER_REGISTRY)
    name, parts = cfg.TEST.MATCHER, cfg.FUSION.MATCHERS
    problems = []
    if name not in (FUSED, *own):
        allowed = ", ".join((FUSED, *own))
        problems.append(f"TEST.MATCHER is {name!r}{did_you_mean(name, own)}; known: {allowed}")
    if name == FUSED:
        problems += [
            f"FUSION.MATCHERS names {part!r}{did_you_mean(part, own)}; known: {', '.join(own)}"
            for part in parts
            if part not in own
        ]
        if len(set(parts)) < 2 or len(set(parts)) < len(parts):
            problems.append(f"FUSION.MATCHERS must be two matchers or more, not {list(parts)}")
    if training and not uses_features(cfg):
        problems.append(f"TEST.MATCHER {name} has nothing to train; add --eval-only")
    if name != FEATURES and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        problems.append(f"TEST.MATCHER {name} works in one process: start one")
    if cfg.MATCHING.RULE == ONE_TO_ONE:
        usual = get_cfg().MATCHING
        problems += [
            f"MATCHING.{key} is of a gallery's neighbours, and MATCHING.RULE {ONE_TO_ONE} has "
            "none: leave one of them out"
            for key in ("K", "NORMALISERS", "PROBES")
            if cfg.MATCHING[key] != usual[key]
        ]
    test = cfg.TEST
    given = {
        "TEST.PCA": bool(test.PCA),
        "TEST.AQE.ENABLED": test.AQE.ENABLED,
        "TEST.RERANK.ENABLED": test.RERANK.ENABLED,
        "TEST.METRIC": test.METRIC != FEATURES and not uses_features(cfg),
    }
    if name != FEATURES:
        problems += [
            f"{key} is of features ranked alone, and TEST.MATCHER is {name}: leave one of them out"
            for key, is_given in given.items()
            if is_given
        ]
    return problems


def build_matcher(
    cfg: CfgNode, features: FeatureMatcher | None, sets: Sets, folder: Path | None
) -> Matcher:
    """Return the matcher that TEST.MATCHER names, which :func:`matcher_problems` has checked.

    Args:
        cfg: the configuration.
        features: of the network, where one is needed.
        sets: their training (or validation) individuals calibrate a fusion.
        folder: gets the calibration of a fusion; None: nothing.

    Raises:
        UserError: there is too little to calibrate by.
    """
    if cfg.TEST.MATCHER != FUSED:
        return single_matcher(cfg, cfg.TEST.MATCHER, features)
    matchers = {name: single_matcher(cfg, name, features) for name in cfg.FUSION.MATCHERS}
    if sets.validation is not None:
        images = concatenate([sets.validation.query, sets.validation.gallery])
        whose = "validation individuals, which training did not see"
    elif sets.train is not None:
        images, whose = sets.train.images, "training individuals"
    else:
        raise UserError("a fusion is calibrated on training individuals, and there are none")
    some = _some(images, cfg.FUSION.IMAGES)
    return calibrated(cfg, matchers, CatalogueImages(some, masks_asked(cfg)), whose, folder)


def single_matcher(cfg: CfgNode, name: str, features: FeatureMatcher | None = None) -> Matcher:
    """Return a matcher by its name; that of features is the one given."""
    if name == FEATURES and features is not None:
        return features
    if name != LOCAL:
        return MATCHER_REGISTRY.get(name)(cfg)
    keys = cfg.MATCHING
    return LocalMatcher(
        keys.DETECTOR,
        keys.SIZE,
        keys.POINTS,
        tuple(keys.CENTRE) or None,
        keys.K,
        keys.NORMALISERS,
        keys.RULE,
        keys.SHORTLIST,
        keys.VOTE,
        keys.PROBES,
        folder=Path(cfg.INPUT.CACHE_DIR or user_cache()) / "keypoints",
        workers=min(cfg.DATALOADER.NUM_WORKERS, cores()),
    )


def _some(images: Catalogue, most: int) -> Catalogue:
    """Return the images of as many individuals, drawn by lot, as do not have more than so many."""
    if len(images) <= most:
        return images
    rows: dict[str, list[int]] = {}
    for row, identity in enumerate(images.identities):
        rows.setdefault(identity, []).append(row)
    names = sorted(rows)
    chosen: list[int] = []
    for name in np.random.default_rng(SEED).permutation(names):
        if len(chosen) + len(rows[name]) <= most:
            chosen += rows[name]
    return images.select(sorted(chosen))


def masks_asked(cfg: CfgNode) -> bool:
    """Tell whether keypoints off the animal are left out."""
    return cfg.INPUT.BACKGROUND == "mask"
