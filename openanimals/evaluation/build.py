"""What the TEST keys ask of an evaluation: which distances, and which protocols of a test set."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from logging import getLogger

import numpy as np
import pandas as pd
import torch

from openanimals.config import CfgNode
from openanimals.evaluation import protocols
from openanimals.evaluation.distance import Features
from openanimals.evaluation.evaluator import feature_blocks, in_words, judge
from openanimals.evaluation.metrics import Result
from openanimals.evaluation.pca import reduce_dimensions
from openanimals.evaluation.protocols import Protocol, ProtocolError
from openanimals.evaluation.query_expansion import QueryExpansion
from openanimals.evaluation.rerank import Rerank
from openanimals.evaluation.score_blocks import ScoreBlocks
from openanimals.utils.viewpoints import LATERAL

logger = getLogger(__name__)

Images = tuple[pd.DataFrame, pd.DataFrame]  # tables of the queries and of the gallery


def build_blocks(
    cfg: CfgNode, query: Features, gallery: Features, device: torch.device
) -> tuple[Callable[[], ScoreBlocks], str]:
    """Return what gives the score blocks of features, as often as it is called, and its words.

    Raises:
        UserError: the gallery does not span TEST.PCA dimensions.
    """
    keys = cfg.TEST
    aqe, rerank = keys.AQE, keys.RERANK
    place = device if device.type == "cuda" else "cpu"  # MPS has no float64
    how = (
        keys.METRIC,
        QueryExpansion(aqe.QE_K, aqe.ALPHA, aqe.QE_TIME) if aqe.ENABLED else None,
        Rerank(rerank.K1, rerank.K2, rerank.LAMBDA) if rerank.ENABLED else None,
    )
    words = in_words(*how)
    if keys.PCA:
        query, gallery = reduce_dimensions(query, gallery, keys.PCA, device=place)
        words = f"PCA {keys.PCA}, {words}"
    return partial(feature_blocks, query, gallery, *how, device=place), words


def build_protocols(
    cfg: CfgNode, name: str, images: Images, *, extras: bool = True
) -> dict[str, Protocol]:
    """Return the protocols that a test set is judged by, the first the one of TEST.PROTOCOL.

    Beside the paper's stands the encounter protocol, wherever images have times; beside any other
    the paper's. One that stands beside and cannot be applied is skipped.

    Raises:
        ProtocolError: TEST.PROTOCOL leaves no query with a match, or knows of no encounters.
    """
    asked = cfg.TEST.PROTOCOL
    beside = "encounter" if asked == "paper" else "paper"
    keys = cfg.TEST.ENCOUNTER
    known: dict[str, Callable[..., Protocol]] = {
        "paper": protocols.paper,
        "encounter": partial(protocols.encounter, by=keys.BY, gap=keys.GAP),
        "flank": protocols.viewpoint,
    }
    chosen = {}
    for title, rule in {name: asked, f"{name} ({beside})": beside}.items():
        if title == name or extras:
            try:
                chosen[title] = known[rule](*images)
            except ProtocolError as error:
                if title == name:
                    raise ProtocolError(f"{name}: {error}") from None
                logger.info("without the protocol %s: %s: %s", beside, name, error)
    return chosen


def check_protocol(cfg: CfgNode, name: str, images: Images) -> None:
    """Refuse a TEST.PROTOCOL or TEST.PCA that a test set does not allow, before any work is done.

    Raises:
        ProtocolError: it cannot be applied.
    """
    build_protocols(cfg, name, images, extras=False)
    if len(images[1]) < cfg.TEST.PCA:
        raise ProtocolError(
            f"{name}: TEST.PCA is {cfg.TEST.PCA}, but the gallery has {len(images[1])} images, "
            "which cannot span more dimensions than that"
        )


def judge_test_set(
    cfg: CfgNode,
    name: str,
    images: Images,
    blocks: Callable[[], ScoreBlocks],
    ranked_by: str,
    *,
    extras: bool = True,
) -> dict[str, Result]:
    """Judge the scores of a test set.

    Args:
        cfg: its TEST keys and MODEL.CAVEAT.
        name: of the test set.
        images: its tables.
        blocks: gives the score blocks, as often as it is called.
        ranked_by: what the scores are, in words.
        extras: also by the protocols that belong beside TEST.PROTOCOL.

    Returns:
        First the result by TEST.PROTOCOL under the name of the test set, then the others under
        ``<name> (<protocol>)``.

    Raises:
        ProtocolError: TEST.PROTOCOL cannot be applied.
    """
    results = {}
    for title, protocol in build_protocols(cfg, name, images, extras=extras).items():
        result = judge(blocks(), protocol, ranked_by=ranked_by, roc=cfg.TEST.ROC.ENABLED)
        results[title] = replace(result, caveat=cfg.MODEL.CAVEAT)
        if extras and protocol.note:
            logger.info("%s: %s", title, protocol.note)
        if extras and protocol.viewpoints:
            results |= _by_side(name, results[title], protocol)
    return results


def _by_side(name: str, whole: Result, protocol: Protocol) -> dict[str, Result]:
    """Return the results of the queries of each side, for the sides that have any with a match."""
    results = {}
    for side in LATERAL:
        query, gallery = (
            np.array(part, dtype=object) == side for part in protocol.viewpoints or ()
        )
        if whole.matched[query].any():
            part = replace(whole.part(query, gallery), protocol=f"{whole.protocol} {side}")
            results[f"{name} ({part.protocol})"] = part
        else:
            logger.info("without the side %s: no match for its %d queries", side, query.sum())
    return results
