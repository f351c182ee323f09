"""Evaluate by whatever TEST.MATCHER names."""

from collections.abc import Iterator
from logging import getLogger
from pathlib import Path

import numpy as np
import torch
from torch import nn

from openanimals.config import CfgNode
from openanimals.data.build import Sets, TestSet
from openanimals.data.cache import ImageCache
from openanimals.engine.evaluate import evaluate
from openanimals.engine.fusion import measure
from openanimals.engine.matchers import (
    FEATURES,
    FUSED,
    CatalogueImages,
    FeatureMatcher,
    ShowSpots,
    build_matcher,
    masks_asked,
)
from openanimals.evaluation import Result
from openanimals.evaluation.build import judge_test_set
from openanimals.evaluation.protocols import Protocol
from openanimals.evaluation.results_io import save_scores
from openanimals.evaluation.score_blocks import MatcherBlocks, checked_blocks
from openanimals.matching.matcher import Blocks, Matcher
from openanimals.modeling import fold_norms
from openanimals.utils.errors import UserError

logger = getLogger(__name__)


def evaluate_sets(
    cfg: CfgNode,
    model: nn.Module | None,
    sets: Sets,
    device: torch.device,
    folder: Path,
    cache: ImageCache | None,
) -> tuple[dict[str, Result], dict[str, ShowSpots]]:
    """Evaluate on each test set by TEST.MATCHER.

    The protocol decides which photographs are candidates of a query before these are compared.

    Args:
        cfg: the configuration.
        model: None if the matcher needs none.
        sets: the test sets, and what calibrates a fusion.
        device: where the model is.
        folder: gets the features, or the scores by TEST.PROTOCOL, and the rankings.
        cache: has or gets the images ready; None reads each from its file.

    Returns:
        The results; and, of a matcher that can tell, by test set, what shows the spots that match
        in a query and a gallery photograph.

    Raises:
        UserError: the matcher returns scores of another shape, or that are not finite.
    """
    if model is not None and cfg.TEST.MATCHER == FEATURES:
        return evaluate(cfg, model, sets.tests, device, folder=folder, cache=cache), {}
    if model is not None and cfg.TEST.FOLD_NORMS:
        model = fold_norms(model)
    features = None if model is None else FeatureMatcher(cfg, model, device, cache)
    matcher = build_matcher(cfg, features, sets, folder)
    results: dict[str, Result] = {}
    shown: dict[str, ShowSpots] = {}
    for test_set in sets.tests:
        judged, show = _evaluate_one(cfg, matcher, test_set, folder)
        results |= judged
        if show:
            shown[test_set.name] = show
    return results, shown


def _evaluate_one(
    cfg: CfgNode, matcher: Matcher, test_set: TestSet, folder: Path
) -> tuple[dict[str, Result], ShowSpots | None]:
    name, images = test_set.name, (test_set.query.table, test_set.gallery.table)
    query, gallery = (
        matcher.prepare(CatalogueImages(own, masks_asked(cfg)))
        for own in (test_set.query, test_set.gallery)
    )
    asked: list[Protocol] = []
    kept: list[tuple] = []

    def blocks_of(protocol: Protocol) -> MatcherBlocks:
        asked.append(protocol)
        pairs = protocol.candidates(), protocol.individuals()
        blocks = matcher.score_blocks(query, gallery, *pairs)
        return _checked(cfg, blocks, protocol, kept if len(asked) == 1 else [])

    words = cfg.TEST.MATCHER
    if words == FUSED:
        words = f"fusion of {' and '.join(cfg.FUSION.MATCHERS)}"
    judged = judge_test_set(cfg, name, images, blocks_of, words)
    distances, named = zip(*kept, strict=True)
    if cfg.TEST.MATCHER == FUSED:
        measure(name, asked[0], 1 - np.concatenate(distances), 1 - np.concatenate(named), folder)
    path = save_scores(folder, name, np.concatenate(distances), *images, judged.values())
    logger.info("scores: %s", path)
    spots = getattr(matcher, "spots", None)
    show = spots and spots(query, gallery, asked[0].candidates(), asked[0].individuals())
    return judged, show


def _checked(cfg: CfgNode, blocks: Blocks, protocol: Protocol, kept: list[tuple]) -> MatcherBlocks:
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
            named = others.pop()
            kept.append((distances.copy(), named))
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
