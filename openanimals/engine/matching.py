"""Evaluate by a matcher other than a network's distances: local features, or both, fused."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from openanimals.config import CfgNode
from openanimals.data.build import Sets, TestSet
from openanimals.data.cache import ImageCache
from openanimals.data.catalogue import Catalogue
from openanimals.data.image_io import ImageError, read_image
from openanimals.engine.device import room_to_evaluate
from openanimals.engine.evaluate import extract
from openanimals.engine.fusion import calibrated
from openanimals.evaluation import Result
from openanimals.evaluation.build import judge_test_set
from openanimals.evaluation.distance import distance_blocks
from openanimals.evaluation.protocols import Protocol
from openanimals.evaluation.results_io import save_scores
from openanimals.evaluation.score_blocks import MatcherBlocks, checked_blocks
from openanimals.matching.local import LocalMatcher
from openanimals.matching.matcher import MATCHER_REGISTRY, Blocks, Matcher
from openanimals.utils.errors import UserError
from openanimals.utils.machine import cores, user_cache
from openanimals.utils.registry import did_you_mean

logger = getLogger(__name__)

FEATURES, LOCAL, FUSED = "cosine", "local", "fusion"  # the names that are not registered
SEED = 0  # of the individuals that a calibration looks at, if there are many


@dataclass
class CatalogueImages:
    """The photographs of a catalogue, cut to their boxes; see :class:`.Images`."""

    images: Catalogue
    masked: bool = False
    boxes: list = field(init=False)

    def __post_init__(self) -> None:
        self.boxes = self.images.column("bbox")

    @property
    def table(self) -> Any:
        """One row a photograph, with the columns of a catalogue."""
        return self.images.table

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return pixels `[H, W, 3]`, and `[H, W]`, True on the animal, if masks are asked for."""
        path, box, mask = self.images.path(row), self.boxes[row], self.images.mask(row)
        pixels = read_image(path, bbox=box)
        if not (self.masked and mask):
            return pixels, None
        return pixels, (read_image(path, bbox=box, mask=mask) == pixels).all(axis=2)

    def key(self, row: int) -> str:
        """Return what changes if a photograph, its box or its mask does."""
        path = self.images.path(row)
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
        return _single(cfg, cfg.TEST.MATCHER, features)
    matchers = {name: _single(cfg, name, features) for name in cfg.FUSION.MATCHERS}
    if sets.validation is not None:
        images = sets.validation.gallery
        whose = "validation individuals, which training did not see"
    elif sets.train is not None:
        images, whose = sets.train.images, "training individuals"
    else:
        raise UserError("a fusion is calibrated on training individuals, and there are none")
    some = _some(images, cfg.FUSION.IMAGES)
    return calibrated(cfg, matchers, CatalogueImages(some, _masked(cfg)), whose, folder)


def _single(cfg: CfgNode, name: str, features: FeatureMatcher | None) -> Matcher:
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


def evaluate_matcher(
    cfg: CfgNode, matcher: Matcher, tests: Sequence[TestSet], *, folder: Path | None = None
) -> dict[str, Result]:
    """Return the results of each test set, as :func:`openanimals.engine.evaluate.evaluate` does.

    The protocol decides which photographs are candidates of a query before these are compared.

    Args:
        cfg: the configuration.
        matcher: compares the photographs.
        tests: the test sets.
        folder: gets the scores by TEST.PROTOCOL and the rankings; None: nothing.

    Raises:
        UserError: the matcher returns scores of another shape, or that are not finite.
    """
    results: dict[str, Result] = {}
    words = cfg.TEST.MATCHER
    if words == FUSED:
        words = f"fusion of {' and '.join(cfg.FUSION.MATCHERS)}"
    for test_set in tests:
        name, sides = test_set.name, (test_set.query, test_set.gallery)
        masked = _masked(cfg)
        query, gallery = (matcher.prepare(CatalogueImages(own, masked)) for own in sides)
        kept: list[np.ndarray] = []

        def blocks_of(protocol: Protocol, query=query, gallery=gallery, kept=kept) -> MatcherBlocks:
            blocks = matcher.score_blocks(
                query, gallery, protocol.candidates(), protocol.individuals()
            )
            return _checked(cfg, blocks, protocol, [] if kept else kept)

        images = test_set.query.table, test_set.gallery.table
        judged = judge_test_set(cfg, name, images, blocks_of, words)
        if folder is not None:
            path = save_scores(folder, name, np.concatenate(kept), *images, judged.values())
            logger.info("scores: %s", path)
        results |= judged
    return results


def _checked(
    cfg: CfgNode, blocks: Blocks, protocol: Protocol, kept: list[np.ndarray]
) -> MatcherBlocks:
    """Yield what a matcher returned, in float32, and keep it, too.

    Raises:
        UserError: it is of another shape, not finite, or not of all queries.
    """
    queries, gallery = map(len, protocol.identities)
    individuals = len(set(protocol.identities[1]))
    others: list[np.ndarray | None] = []

    def of_images() -> Iterator[tuple[slice, np.ndarray]]:
        for rows, distances, named in blocks:
            others.append(named)
            yield rows, distances

    try:
        for rows, distances in checked_blocks(of_images(), queries, gallery):
            kept.append(distances.copy())
            named = others.pop()
            if named is None:
                yield rows, distances
                continue
            shape = len(distances), individuals
            if np.shape(named) != shape or not np.isfinite(named).all():
                raise UserError(
                    f"scores of individuals are of the shape {list(np.shape(named))}, or not "
                    f"finite; expected {list(shape)} finite numbers"
                )
            yield rows, distances, np.array(named, dtype=np.float32)
    except UserError as error:
        raise UserError(f"the matcher {cfg.TEST.MATCHER}: {error}") from error


def _masked(cfg: CfgNode) -> bool:
    return cfg.INPUT.BACKGROUND == "mask"
