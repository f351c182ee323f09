"""What the TEST keys ask of an evaluation: which distances, and which protocols of a test set."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain

import pandas as pd
import torch

from openanimals.config import CfgNode
from openanimals.evaluation import protocols
from openanimals.evaluation.by_individual import ByIndividual
from openanimals.evaluation.distance import Features
from openanimals.evaluation.evaluator import feature_blocks, judge
from openanimals.evaluation.metrics import Result
from openanimals.evaluation.protocols import Protocol, ProtocolError
from openanimals.evaluation.query_expansion import QueryExpansion
from openanimals.evaluation.rerank import Rerank
from openanimals.evaluation.score_blocks import MatcherBlocks, ScoreBlocks
from openanimals.utils.viewpoints import LATERAL

TRAINED = "trained"  # a column of the queries: whether training saw the photograph
Images = tuple[pd.DataFrame, pd.DataFrame]  # tables of the queries and of the gallery


def build_blocks(
    cfg: CfgNode, query: Features, gallery: Features, device: torch.device
) -> tuple[ScoreBlocks, str]:
    """Return the score blocks of features, and what they are in words.

    Raises:
        UserError: the gallery does not span TEST.PCA dimensions.
    """
    keys, aqe, rerank = cfg.TEST, cfg.TEST.AQE, cfg.TEST.RERANK
    return feature_blocks(
        query,
        gallery,
        keys.METRIC,
        QueryExpansion(aqe.QE_K, aqe.ALPHA, aqe.QE_TIME) if aqe.ENABLED else None,
        Rerank(rerank.K1, rerank.K2, rerank.LAMBDA) if rerank.ENABLED else None,
        dimensions=keys.PCA,
        device=device if device.type == "cuda" else "cpu",  # MPS has no float64
    )


def build_protocols(
    cfg: CfgNode,
    name: str,
    images: Images,
    *,
    extras: bool = True,
    notes: list[str] | None = None,
) -> dict[str, Protocol]:
    """Return the protocols that a test set is judged by, the first the one of TEST.PROTOCOL.

    Beside the paper's stands the encounter protocol, wherever images have times; beside any other
    the paper's. One that stands beside and cannot be applied is skipped; ``notes`` gets the reason.

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
                if notes is not None:
                    notes.append(f"{name}: without the protocol {beside}: {error}")
    return chosen


def protocol_notes(cfg: CfgNode, name: str, images: Images) -> list[str]:
    """Return what a reader of a test set's results must know of its protocols, to be told once."""
    notes: list[str] = []
    for title, protocol in build_protocols(cfg, name, images, notes=notes).items():
        if protocol.note:
            notes.append(f"{title}: {protocol.note}")
        if protocol.viewpoints:
            matched, own = protocol.matched(), protocol.viewpoints[0]
            notes += [
                f"{title}: without the side {side}: no match for its {(own == side).sum()} queries"
                for side in LATERAL
                if not matched[own == side].any()
            ]
    return notes


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
    blocks: MatcherBlocks | Callable[[Protocol], MatcherBlocks],
    ranked_by: str,
    *,
    extras: bool = True,
) -> dict[str, Result]:
    """Judge the scores of a test set, which are ``ranked_by`` in words.

    Queries that training saw are known by the column :data:`TRAINED` of their table, if it has one.

    Args:
        cfg: the configuration.
        name: of the test set.
        images: the tables of the queries and of the gallery.
        blocks: scores; or a function that returns them for a protocol, where they depend on which
            photographs there are for a query.
        ranked_by: what they are, in words.
        extras: whether to judge by more than TEST.PROTOCOL.

    Returns:
        First the result by TEST.PROTOCOL under the name of the test set, then, with ``extras``,
        those by the protocols that belong beside it, under ``<name> (<protocol>)``. With
        TEST.BY_INDIVIDUAL each is followed by that of individuals.

    Raises:
        ProtocolError: TEST.PROTOCOL cannot be applied.
    """
    results: dict[str, Result] = {}
    chosen = build_protocols(cfg, name, images, extras=extras)
    trained = images[0][TRAINED].to_numpy(bool) if TRAINED in images[0] else None
    groups: list[list[tuple[str, Protocol]]] = []
    for title, protocol in chosen.items():
        groups.append([(title, protocol)])
        if cfg.TEST.BY_INDIVIDUAL:
            start = f"{name} (" if title == name else f"{title[:-1]}, "
            groups[-1].append((f"{start}by individual)", ByIndividual(protocol)))
    if not callable(blocks):
        groups = [list(chain(*groups))]
    for group in groups:
        titles, asked = zip(*group, strict=True)
        scores = blocks(asked[0]) if callable(blocks) else blocks
        judged = judge(scores, asked, ranked_by=ranked_by, roc=cfg.TEST.ROC.ENABLED)
        for title, protocol, result in zip(titles, asked, judged, strict=True):
            results[title] = replace(result, caveat=cfg.MODEL.CAVEAT, trained=trained)
            if extras and protocol.viewpoints:
                results |= _by_side(name, results[title], protocol)
    return results


def _by_side(name: str, whole: Result, protocol: Protocol) -> dict[str, Result]:
    """Return the results of the queries of each side, for the sides that have any with a match."""
    results = {}
    for side in LATERAL:
        query, gallery = (part == side for part in protocol.viewpoints or ())
        if whole.matched[query].any():
            part = replace(whole.part(query, gallery), protocol=f"{whole.protocol} {side}")
            results[f"{name} ({part.protocol})"] = part
    return results
