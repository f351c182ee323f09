"""Learn from training individuals what the scores of several matchers are worth, and fuse them."""

from collections.abc import Mapping
from dataclasses import asdict
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np

from openanimals.config import CfgNode
from openanimals.evaluation.build import build_protocols
from openanimals.evaluation.by_individual import ByIndividual
from openanimals.evaluation.protocols import Protocol
from openanimals.matching.calibration import Fusion, folds, reliability
from openanimals.matching.fused import FusedMatcher, all_scores
from openanimals.matching.matcher import Images, Matcher
from openanimals.utils.files import read_json, write_json

logger = getLogger(__name__)

CALIBRATION = "calibration.json"


def calibrated(
    cfg: CfgNode,
    matchers: Mapping[str, Matcher],
    images: Images,
    whose: str,
    folder: Path | None,
) -> FusedMatcher:
    """Compare each photograph with all others, and learn from the scores of pairs.

    Args:
        cfg: the configuration.
        matchers: by name.
        images: photographs of individuals that are known.
        whose: these are, in words.
        folder: gets ``calibration.json``; None: nothing.

    Raises:
        UserError: there are too few pairs.
    """
    prepared = {name: matcher.prepare(images) for name, matcher in matchers.items()}
    tables = images.table, images.table
    (protocol,) = build_protocols(cfg, "calibration", tables, extras=False).values()
    candidates = protocol.candidates() & ~np.eye(len(images), dtype=bool)
    own = protocol.individuals()
    scores, named = all_scores(matchers, prepared, prepared, candidates, own)
    there = np.stack([candidates[:, own == code].any(axis=1) for code in range(own.max() + 1)], 1)
    content, fusions = {}, []
    for what, values, among, others in (
        ("photographs", scores, candidates, own),
        ("individuals", named, there, np.arange(own.max() + 1)),
    ):
        rows, columns = np.nonzero(among)
        pairs = np.stack([own[rows], others[columns]], axis=1)
        fusion, measured = _fitted(cfg, {n: v[rows, columns] for n, v in values.items()}, pairs)
        content[what] = {**asdict(fusion), "individuals left out": measured}
        fusions.append(fusion)
        logger.info(
            "fusion: calibrated on %d pairs of %s, %d of one individual, of %s; Brier score of "
            "individuals left out: %.4f",
            *(measured["pairs"], what, measured["of one individual"], whose, measured["Brier"]),
        )
    if folder is not None:
        write_json(folder / CALIBRATION, content)
    return FusedMatcher(matchers, *fusions)


def measure(
    name: str,
    protocol: Protocol,
    photographs: np.ndarray,
    individuals: np.ndarray,
    folder: Path,
) -> None:
    """Tell how true the probabilities of a test set are; its individuals calibrated nothing.

    Args:
        name: of the test set.
        protocol: says which pairs there are.
        photographs: probabilities `[Q, G]`.
        individuals: the same, of each query and individual of the gallery `[Q, I]`.
        folder: its ``calibration.json`` gets what is measured.
    """
    content = {}
    for what, rule, values in (
        ("photographs", protocol, photographs),
        ("individuals", ByIndividual(protocol), individuals),
    ):
        same, there = rule.masks(slice(0, len(values)))[0], rule.candidates()
        content[what] = _measured(values[there], same[there])
        logger.info(
            "fusion: %s: %d pairs with %s, %d of one individual, Brier score %.4f",
            *(name, content[what]["pairs"], what, content[what]["of one individual"]),
            content[what]["Brier"],
        )
    write_json(folder / CALIBRATION, {**read_json(folder / CALIBRATION), name: content})


def _fitted(
    cfg: CfgNode, scores: Mapping[str, np.ndarray], pairs: np.ndarray
) -> tuple[Fusion, dict[str, Any]]:
    """Return a fusion learnt from all pairs, and how one fares on individuals that it left out."""
    same = pairs[:, 0] == pairs[:, 1]

    def fit(some: np.ndarray | slice) -> Fusion:
        part = {name: own[some] for name, own in scores.items()}
        how = {"kind": cfg.FUSION.CALIBRATION, "how": cfg.FUSION.HOW}
        return Fusion.fit(part, same[some], pairs[some], **how)

    left_out = np.zeros(len(same))
    for learn, judge in folds(pairs):
        left_out[judge] = fit(learn)({name: own[judge] for name, own in scores.items()})
    return fit(slice(None)), _measured(left_out, same)


def _measured(probabilities: np.ndarray, same: np.ndarray) -> dict[str, Any]:
    return {
        "pairs": len(same),
        "of one individual": int(same.sum()),
        "Brier": float(np.mean((probabilities - same) ** 2)),
        "reliability": reliability(probabilities, same).to_dict("records"),
    }
