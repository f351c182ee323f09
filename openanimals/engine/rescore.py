"""Judge a model or a matcher again, by other rules, from the features or scores that it left."""

from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import torch

from openanimals.config import CfgNode, ConfigError, load
from openanimals.engine.evaluate import show_results, write_results
from openanimals.evaluation import Result
from openanimals.evaluation.build import Images, build_blocks, judge_test_set, protocol_notes
from openanimals.evaluation.evaluator import GIVEN
from openanimals.evaluation.report import comparison_table
from openanimals.evaluation.results_io import load_evaluation, load_scores
from openanimals.evaluation.score_blocks import ScoreBlocks, checked_blocks
from openanimals.evaluation.significance import compare_evaluations
from openanimals.utils.files import expanded

logger = getLogger(__name__)

RESULTS_RESCORED = "results_rescored.json"
OF_SCORES = ("TEST.PROTOCOL", "TEST.ENCOUNTER.", "TEST.ROC.")
OF_FEATURES = (*OF_SCORES, "TEST.METRIC", "TEST.PCA", "TEST.AQE.", "TEST.RERANK.")


def rescore(folder: str | Path, overrides: Sequence[Any] = ()) -> dict[str, Result]:
    """Judge what an evaluation saved, show the results and write them.

    They go to results_rescored.json; the evaluation's own results.json stays as it is.

    Args:
        folder: the output folder of a run or of an evaluation, or one with scores that
            :func:`openanimals.evaluation.results_io.save_scores` wrote.
        overrides: ``[KEY, VALUE, ...]`` of the keys in :data:`OF_FEATURES`, or in :data:`OF_SCORES`
            where there are only scores.

    Raises:
        UserError: the folder has neither usable features nor scores, or a key is wrong or would
            need what is not there.
    """
    folder = expanded(folder)
    scores = sorted(folder.glob("scores_*.safetensors"))
    features = not scores or any(folder.glob("features_*.safetensors"))
    cfg = _config(folder, overrides, OF_FEATURES if features else OF_SCORES)
    results: dict[str, Result] = {}
    if features:
        for name in cfg.DATASETS.TESTS:
            query, gallery = load_evaluation(folder, name)
            how = build_blocks(cfg, query.features, gallery.features, torch.device("cpu"))
            results |= _judged(cfg, name, (query.images, gallery.images), *how)
    for path in () if features else scores:
        name, array, *images = load_scores(path)
        blocks = checked_blocks(array, *map(len, images))
        results |= _judged(cfg, name, (images[0], images[1]), blocks, GIVEN)
    write_results(folder, results, RESULTS_RESCORED)
    show_results(results)
    logger.info("written: %s", folder / RESULTS_RESCORED)
    return results


def _judged(
    cfg: CfgNode, name: str, images: Images, blocks: ScoreBlocks, ranked_by: str
) -> dict[str, Result]:
    for note in protocol_notes(cfg, name, images):
        logger.info("note: %s", note)
    return judge_test_set(cfg, name, images, blocks, ranked_by)


def comparison(first: str | Path, second: str | Path) -> str:
    """Return the table of how two models differ on the same queries.

    Each is the output folder of a run or of an evaluation, or a rankings file.
    """
    return comparison_table(compare_evaluations(first, second))


def _config(folder: Path, overrides: Sequence[Any], changeable: Sequence[str]) -> CfgNode:
    """Return the configuration of a run, changed in what can be; scores do without one."""
    path: Path | None = folder / "config.yaml"
    if path is not None and not path.is_file():
        if changeable is OF_FEATURES:
            raise ConfigError([f"no {path.absolute()}; expected the output folder of a run"])
        path = None
    cfg = load(path, overrides)
    allowed = ", ".join(f"{key}*" if key.endswith(".") else key for key in changeable)
    what = "features" if changeable is OF_FEATURES else "scores"
    ConfigError.raise_for(
        [
            f"{key} cannot be changed any more: the {what} are what they are; only {allowed} can"
            for key in map(str, overrides[::2])
            if not key.startswith(tuple(changeable))
        ]
    )
    return cfg
