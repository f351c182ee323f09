"""From features to results: which protocols apply to a test set, and what they say of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from logging import getLogger
from typing import Any

import numpy as np
import torch

from openanimals.config import CfgNode
from openanimals.data.build import TestSet
from openanimals.data.catalogue import LATERAL, lateral_viewpoint
from openanimals.evaluation import Expansion, Rerank, Result, evaluate
from openanimals.evaluation.encounters import bursts, days
from openanimals.evaluation.pca import reduce_dimensions
from openanimals.evaluation.protocols import Labels, Pairs, uses_cameras
from openanimals.evaluation.rows import TestRows
from openanimals.evaluation.store import TestFeatures
from openanimals.utils.errors import UserError

logger = getLogger(__name__)


class ProtocolError(UserError):
    """A protocol that a test set does not allow; names the set, the key and what is missing."""


@dataclass(frozen=True)
class Protocol:
    """What is removed from the rankings of a test set.

    Attributes:
        rule: in words.
        labels: keyword arguments of :class:`Pairs` and :func:`evaluate`.
        note: what a reader should know of the images; empty: nothing.
    """

    rule: str
    labels: dict[str, Any]
    note: str = ""


def score(
    cfg: CfgNode,
    tested: TestFeatures,
    device: torch.device,
    *,
    extras: bool = True,
    shard: slice | None = None,
) -> dict[str, Result]:
    """Judge the features of a test set.

    Args:
        cfg: its TEST keys and MODEL.CAVEAT.
        tested: the test set.
        device: where distances are computed.
        extras: also by the protocols that belong beside TEST.PROTOCOL.
        shard: the rows of the gallery whose features these are, where processes share the work;
            None: all.

    Returns:
        First the result by TEST.PROTOCOL under the name of the test set, then the others under
        ``<name> (<protocol>)``.

    Raises:
        ProtocolError: TEST.PROTOCOL cannot be applied.
        ValueError: the gallery does not span TEST.PCA dimensions.
    """
    options = {**evaluation_options(cfg, device), "shard": shard}
    if cfg.TEST.PCA:
        both = tested.query, tested.gallery
        query, gallery = reduce_dimensions(*both, cfg.TEST.PCA, device=options["device"])
        tested = replace(tested, query=query, gallery=gallery)
    results = {}
    for title, protocol in protocols(cfg, tested.rows, extras=extras).items():
        results[title] = _judge(cfg, tested, protocol, options)
        if extras and protocol.note:
            logger.info("%s: %s", title, protocol.note)
        if extras and "sides" in protocol.labels:
            results |= _by_side(tested.rows.name, results[title], protocol.labels["sides"])
    return results


def evaluation_options(cfg: CfgNode, device: torch.device) -> dict[str, Any]:
    """Return what the TEST keys ask of :func:`openanimals.evaluation.evaluate`, by argument."""
    aqe, rerank = cfg.TEST.AQE, cfg.TEST.RERANK
    return {
        "metric": cfg.TEST.METRIC,
        "expansion": Expansion(aqe.QE_K, aqe.ALPHA, aqe.QE_TIME) if aqe.ENABLED else None,
        "rerank": Rerank(rerank.K1, rerank.K2, rerank.LAMBDA) if rerank.ENABLED else None,
        "roc": cfg.TEST.ROC.ENABLED,
        "device": device if device.type == "cuda" else "cpu",  # MPS has no float64
    }


def protocols(cfg: CfgNode, rows: TestRows, *, extras: bool = True) -> dict[str, Protocol]:
    """Return the protocols that a test set is judged by, the first the one of TEST.PROTOCOL.

    Beside the paper's stands the encounter protocol, wherever images have times; beside any other
    the paper's. One that stands beside and cannot be applied is skipped.

    Raises:
        ProtocolError: TEST.PROTOCOL leaves no query with a match, or knows of no encounters.
    """
    asked = cfg.TEST.PROTOCOL
    chosen = {rows.name: _PROTOCOLS[asked](cfg, rows)}
    beside = "encounter" if asked == "paper" else "paper"
    if extras:
        try:
            chosen[f"{rows.name} ({beside})"] = _PROTOCOLS[beside](cfg, rows)
        except ProtocolError as error:
            logger.info("without the protocol %s: %s", beside, error)
    return chosen


def check_protocol(cfg: CfgNode, tests: Sequence[TestSet]) -> None:
    """Refuse a TEST.PROTOCOL or TEST.PCA that test sets do not allow, before any work is done.

    Raises:
        ProtocolError: it cannot be applied to a set.
    """
    for test_set in tests:
        protocols(cfg, rows_of(test_set), extras=False)
        if len(test_set.gallery) < cfg.TEST.PCA:
            raise ProtocolError(
                f"{test_set.name}: TEST.PCA is {cfg.TEST.PCA}, but the gallery has "
                f"{len(test_set.gallery)} images, which cannot span more dimensions than that"
            )


def rows_of(test_set: TestSet) -> TestRows:
    """Return what is known of the images of a test set."""
    query, gallery = test_set.query.table, test_set.gallery.table
    return TestRows(test_set.name, test_set.source, query, gallery)


def _paper(cfg: CfgNode, rows: TestRows) -> Protocol:
    labels: dict[str, Any] = {}
    if uses_cameras(rows.source):
        labels["query_cameras"], labels["gallery_cameras"] = rows.labels("camera")
    return Protocol("paper", labels)


def _encounter(cfg: CfgNode, rows: TestRows) -> Protocol:
    by, gap = cfg.TEST.ENCOUNTER.BY, cfg.TEST.ENCOUNTER.GAP
    encounters = _encounters(rows, by, gap)
    images = [label for part in encounters for label in part]
    unknown, lacking = images.count(None), "time of day" if by == "gap" else by
    if unknown == len(images):
        raise ProtocolError(
            f"{rows.name}: none of the {unknown} images has a {lacking}, by which encounters "
            f"would be told apart (TEST.ENCOUNTER.BY is {by!r})"
        )
    note = f"{unknown} of {len(images)} images have no {lacking}, each is an encounter of its own"
    rule = f"encounter by {by}" + (f" of {gap:g} minutes" if by == "gap" else "")
    labels = {**_paper(cfg, rows).labels, "encounters": encounters}
    reason = "the images of their individuals in the gallery are all of their own encounters"
    return _checked(rows, Protocol(rule, labels, note if unknown else ""), reason)


def _flank(cfg: CfgNode, rows: TestRows) -> Protocol:
    query, gallery = (list(map(lateral_viewpoint, p)) for p in rows.labels("viewpoint"))
    unknown, images = query.count(None) + gallery.count(None), len(query) + len(gallery)
    note = f"{unknown} of {images} images show no known side" if unknown else ""
    labels = {**_paper(cfg, rows).labels, "sides": (query, gallery)}
    reason = f"{query.count(None)} queries and {gallery.count(None)} gallery images have no side"
    return _checked(rows, Protocol("flank", labels, note), reason)


_PROTOCOLS = {"paper": _paper, "encounter": _encounter, "flank": _flank}


def _checked(rows: TestRows, protocol: Protocol, reason: str) -> Protocol:
    """Return the protocol if it leaves a query with a match."""
    if not Pairs(*rows.labels("identity"), **protocol.labels).matched().any():
        raise ProtocolError(
            f"{rows.name}: under the protocol {protocol.rule!r} (TEST.PROTOCOL) none of the "
            f"{len(rows.query)} queries has a match left in its ranking: {reason}"
        )
    return protocol


def _encounters(rows: TestRows, by: str, gap: float) -> tuple[Labels, Labels]:
    """Return the encounter of each query and of each gallery image, None where unknown."""
    if by == "sequence":
        return rows.labels("sequence")
    dates = [date for part in rows.labels("date") for date in part]
    identities = [name for part in rows.labels("identity") for name in part]
    labels: list = days(dates) if by == "date" else bursts(identities, dates, gap)
    return labels[: len(rows.query)], labels[len(rows.query) :]


def _judge(
    cfg: CfgNode, tested: TestFeatures, protocol: Protocol, options: Mapping[str, Any]
) -> Result:
    identities = tested.rows.labels("identity")
    result = evaluate(tested.query, tested.gallery, *identities, **protocol.labels, **options)
    metric = f"PCA {cfg.TEST.PCA}, {result.metric}" if cfg.TEST.PCA else result.metric
    return replace(result, protocol=protocol.rule, caveat=cfg.MODEL.CAVEAT, metric=metric)


def _by_side(test_set: str, whole: Result, sides: tuple[Labels, Labels]) -> dict[str, Result]:
    """Return the results of the queries of each side, for the sides that have any with a match."""
    results = {}
    for name in LATERAL:
        query, gallery = (np.array(part, dtype=object) == name for part in sides)
        if whole.matched[query].any():
            part = replace(whole.part(query, gallery), protocol=f"{whole.protocol} {name}")
            results[f"{test_set} ({part.protocol})"] = part
        else:
            logger.info("without the side %s: no match for its %d queries", name, query.sum())
    return results
