"""Evaluate a model on test sets, and leave tables and pictures of the outcome."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from logging import getLogger
from pathlib import Path

import numpy as np
import torch
from torch import nn

from openanimals.config import CfgNode
from openanimals.data.build import TestSet
from openanimals.data.catalogue import Catalogue
from openanimals.data.image_cache import ImageCache
from openanimals.data.image_io import ImageError, read_image
from openanimals.data.loaders import build_test_loader
from openanimals.engine.device import evaluation_dtype
from openanimals.engine.scoring import rows_of, score
from openanimals.evaluation import Result, extract_features, store, tiles
from openanimals.evaluation.report import results_table
from openanimals.evaluation.rows import TestRows
from openanimals.evaluation.visualize import draw_rank_lists, plot_cmc
from openanimals.modeling import fold_norms, naming_the_size
from openanimals.utils import distributed
from openanimals.utils.files import atomic_path

logger = getLogger(__name__)

RESULTS = "results.json"
RESULTS_BEFORE = "results_before_training.json"


def test(
    cfg: CfgNode,
    model: nn.Module,
    tests: Sequence[TestSet],
    device: torch.device,
    *,
    extras: bool = True,
    folder: Path | None = None,
    cache: ImageCache | None = None,
) -> dict[str, Result]:
    """Return the results of each test set, the same in every process.

    Args:
        cfg: the configuration.
        model: gives the features.
        tests: the test sets.
        device: where the model is.
        extras: also judge by the protocols that belong beside TEST.PROTOCOL.
        folder: gets the features and rankings, so that they can be judged again; None: nothing.
        cache: has or gets the images ready; None reads each from its file.

    Returns:
        For each test set, under its name, the result by TEST.PROTOCOL; after it the results by
        other protocols, under ``<name> (<protocol>)``.

    Raises:
        ImageError: names every image that cannot be read.
        ValueError: no query of a set has a match in its gallery.
    """
    if cfg.TEST.FOLD_NORMS:
        model = fold_norms(model)
    own, unreadable = [], []
    for test_set in tests:
        for images in (test_set.query, test_set.gallery):
            features, messages = _extract(cfg, model, images, device, cache)
            own.append(features)
            unreadable += messages
    if unreadable:
        listed = "\n  ".join(unreadable)
        raise ImageError(f"{len(unreadable)} images cannot be evaluated:\n  {listed}")
    results: dict[str, Result] = {}
    for test_set, query, gallery in zip(tests, own[::2], own[1::2], strict=True):
        tested, shard = _spread(cfg, rows_of(test_set), query, gallery)
        judged = score(cfg, tested, device, extras=extras, shard=shard)
        if folder is not None:
            _save(folder, tested, shard, judged, cfg.TEST.STORE)
        results |= judged
    return results


test.__test__ = False  # type: ignore[attr-defined]  # not a pytest function


def _extract(
    cfg: CfgNode,
    model: nn.Module,
    images: Catalogue,
    device: torch.device,
    cache: ImageCache | None,
) -> tuple[np.ndarray, list[str]]:
    """Features of this process's share of images ``[n, D]``, and messages on all unreadable ones.

    The shares are of whole batches: a batch of another size may round in another way.
    """
    share = distributed.shares(len(images), cfg.TEST.IMS_PER_BATCH)[distributed.rank()]
    loader = build_test_loader(cfg, images, range(share.start, share.stop), cache=cache)
    features = np.zeros((0, 0), dtype=np.float32)
    if len(loader):
        with _repeatable_kernels(), naming_the_size(cfg, model):
            features = extract_features(
                model,
                loader,
                device,
                flip=cfg.TEST.FLIP.ENABLED,
                dtype=evaluation_dtype(cfg, device),
            )
    told = distributed.gather((features.shape[1], loader.unreadable))
    dimensions = max(length for length, _ in told)  # 0 where a process had no images
    return features.reshape(-1, dimensions), [message for _, found in told for message in found]


def _spread(
    cfg: CfgNode, rows: TestRows, query: np.ndarray, gallery: np.ndarray
) -> tuple[store.TestFeatures, slice | None]:
    """Send extracted features to the processes that work on them.

    Args:
        cfg: its TEST keys tell what work there is.
        rows: of the test set.
        query: the features that this process extracted of it.
        gallery: the same of the gallery.

    Returns:
        The features of all queries and of the gallery's rows that this process ranks; and which
        these are, None where each process needs them all and does all of the work.
    """
    keys, processes = cfg.TEST, distributed.world_size()
    batches = partial(distributed.shares, unit=keys.IMS_PER_BATCH)
    count = len(rows.gallery)
    queries = [slice(0, len(rows.query))] * processes
    ranked, shard = [slice(0, count)] * processes, None
    all_needed = keys.AQE.ENABLED or keys.RERANK.ENABLED or keys.ROC.ENABLED or keys.PCA
    if processes > 1 and not all_needed:
        ranked = distributed.shares(count, tiles.GALLERY_TILE)
        shard = ranked[distributed.rank()]
    query = distributed.exchange(query, batches(len(rows.query)), queries)
    gallery = distributed.exchange(gallery, batches(count), ranked)
    return store.TestFeatures(rows, query, gallery), shard


def _save(
    folder: Path,
    tested: store.TestFeatures,
    shard: slice | None,
    judged: dict[str, Result],
    dtype: str,
) -> None:
    """Write features and rankings, in the first process; it alone gets all features for it."""
    if shard is not None:
        whole, nothing = slice(0, len(tested.rows.gallery)), slice(0, 0)
        wanted = [whole] + [nothing] * (distributed.world_size() - 1)
        gallery = distributed.exchange(tested.gallery, distributed.gather(shard), wanted)
        tested = replace(tested, gallery=gallery)
    if distributed.is_main():
        logger.info("features: %s", store.save(folder, tested, judged.values(), dtype=dtype))


@contextmanager
def _repeatable_kernels() -> Iterator[None]:
    """Take the same CUDA kernels in every process and run, whatever training was timed to take."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


def write_results(folder: Path, results: Mapping[str, Result], name: str = RESULTS) -> None:
    """Write, for each test set, its percentages, intervals and counts."""
    with atomic_path(folder / name) as temporary:
        content = {test_set: result.as_dict() for test_set, result in results.items()}
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def show_results(results: Mapping[str, Result], before: Path | None = None) -> None:
    """Log the result table, above it the results in the file ``before``, of before training."""
    rows = {}
    if before is not None and before.is_file():
        for name, result in json.loads(before.read_text(encoding="utf-8")).items():
            rows[f"{name}, before training"] = result
    rows.update({name: result.as_dict() for name, result in results.items()})
    logger.info("results\n%s", results_table(rows))


def draw_results(folder: Path, results: Mapping[str, Result], tests: Sequence[TestSet]) -> None:
    """Draw the CMC curves, and for each test set its best, worst and some random queries."""
    plot_cmc(results, folder / "cmc.png")
    for test_set in tests:
        path = folder / f"rank_list_{store.file_name(test_set.name)}.jpg"
        draw_rank_lists(
            results[test_set.name],
            open_query=_opener(test_set.query, test_set.masked),
            open_gallery=_opener(test_set.gallery, test_set.masked),
            path=path,
            title=test_set.name,
        )
        logger.info("pictures: %s, %s", folder / "cmc.png", path)


def _opener(images: Catalogue, masked: bool):
    boxes = images.column("bbox")
    return lambda row: read_image(
        images.path(row), bbox=boxes[row], mask=images.mask(row) if masked else None
    )
