"""Judge a model again, by other rules, from what its evaluation left: no model, no photographs."""

from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import torch

from openanimals.config import CfgNode, ConfigError, load
from openanimals.engine.evaluate import show_results, write_results
from openanimals.engine.scoring import score
from openanimals.evaluation import Result
from openanimals.evaluation.rows import SavedResultError
from openanimals.evaluation.store import features_file, load_features

logger = getLogger(__name__)

RESULTS_RESCORED = "results_rescored.json"
CHANGEABLE = (
    *("TEST.METRIC", "TEST.PCA", "TEST.PROTOCOL", "TEST.ENCOUNTER."),
    *("TEST.ROC.", "TEST.AQE.", "TEST.RERANK."),
)


def rescore(folder: str | Path, overrides: Sequence[Any] = ()) -> dict[str, Result]:
    """Judge the saved features of an evaluation, show the results and write them.

    They go to results_rescored.json; the evaluation's own results.json stays as it is.

    Args:
        folder: the output folder of a run, or of an evaluation.
        overrides: ``[KEY, VALUE, ...]`` of the keys in :data:`CHANGEABLE`.

    Raises:
        ValueError: the folder has no configuration or no usable features, or a key is wrong or
            would need the model.
    """
    folder = Path(folder)
    cfg = _config(folder, overrides)
    results: dict[str, Result] = {}
    for name in cfg.DATASETS.TESTS:
        path = features_file(folder, name)
        tested = load_features(path)
        if tested.rows.name != name:  # two names may become one file name
            raise SavedResultError(f"{path} holds features of {tested.rows.name}, not of {name}")
        results |= score(cfg, tested, torch.device("cpu"))
    write_results(folder, results, RESULTS_RESCORED)
    show_results(results)
    logger.info("written: %s", folder / RESULTS_RESCORED)
    return results


def _config(folder: Path, overrides: Sequence[Any]) -> CfgNode:
    """Return the configuration of a run, changed in what saved features allow."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError([f"no {path.absolute()}; expected the output folder of a run"])
    allowed = ", ".join(f"{key}*" if key.endswith(".") else key for key in CHANGEABLE)
    cfg = load(path, overrides)
    ConfigError.raise_for(
        [
            f"{key} cannot be changed any more: the features are what they are; only {allowed} can"
            for key in map(str, overrides[::2])
            if not key.startswith(CHANGEABLE)
        ]
    )
    return cfg
