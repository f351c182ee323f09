"""Evaluate a model on test sets, and leave tables and pictures of the outcome."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from logging import getLogger
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from openanimals.config import CfgNode
from openanimals.data.build import TestSet
from openanimals.data.cache import ImageCache
from openanimals.data.catalogue import Catalogue
from openanimals.data.image_io import ImageError, read_image
from openanimals.data.loaders import build_test_loader
from openanimals.engine.device import evaluation_dtype, room_to_evaluate
from openanimals.engine.loading import classifiers_of
from openanimals.evaluation import FeatureSet, Result, extract_features
from openanimals.evaluation.array_io import file_name
from openanimals.evaluation.build import build_blocks, judge_test_set
from openanimals.evaluation.report import results_table
from openanimals.evaluation.results_io import save_evaluation
from openanimals.evaluation.visualize import Spots, draw_rank_lists, plot_cmc
from openanimals.modeling import fold_norms, naming_the_size
from openanimals.modeling.weights import fits_any
from openanimals.utils import distributed
from openanimals.utils.errors import UserError
from openanimals.utils.files import read_json, write_json
from openanimals.utils.progress import Progress

logger = getLogger(__name__)

RESULTS = "results.json"
RESULTS_BEFORE = "results_before_training.json"


def evaluate(
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

    Every process extracts the features of a share of the images; the first one ranks them.

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
        UserError: no query of a set has a match in its gallery.
    """
    messages: list[str] = []
    folded = fold_norms(model) if cfg.TEST.FOLD_NORMS else model

    def features_of(images: Catalogue) -> np.ndarray:
        features, unreadable = extract(cfg, folded, images, device, cache)
        messages.extend(unreadable.values())
        return features

    def judge() -> dict[str, Result]:
        made_by = fingerprint(cfg, model) if folder is not None else ""
        results: dict[str, Result] = {}
        for test_set, (query, gallery) in zip(tests, extracted, strict=True):
            name, images = test_set.name, (test_set.query.table, test_set.gallery.table)
            scores = build_blocks(cfg, query, gallery, device)
            judged = judge_test_set(cfg, name, images, *scores, extras=extras)
            if folder is not None:
                path = save_evaluation(
                    folder,
                    name,
                    FeatureSet(images[0], query, made_by),
                    FeatureSet(images[1], gallery, made_by),
                    judged.values(),
                    dtype=cfg.TEST.STORE,
                )
                logger.info("features: %s", path)
            results |= judged
        return results

    with room_to_evaluate(cfg):
        extracted = [(features_of(test.query), features_of(test.gallery)) for test in tests]
        if messages:
            listed = "\n  ".join(messages)
            raise ImageError(f"{len(messages)} images cannot be evaluated:\n  {listed}")
        return distributed.from_main(judge)


def extract(
    cfg: CfgNode,
    model: nn.Module,
    images: Catalogue | Tensor,
    device: torch.device,
    cache: ImageCache | None = None,
) -> tuple[np.ndarray, dict[int, str]]:
    """Run a model over images, as the keys say; every process takes a share of whole batches.

    A batch of another size may round in another way, so features depend on TEST.IMS_PER_BATCH and
    on nothing else: not on the number of processes, nor on who asks.

    Args:
        cfg: the configuration; its TEST.FOLD_NORMS is the caller's to see to.
        model: gives the features.
        images: one feature each; a tensor is uint8 ``[N, 3, H, W]``, resized already.
        device: where the model is.
        cache: has or gets the images ready; None reads each from its file.

    Returns:
        In the first process the features of all images ``[N, D]`` in float32, in the others none;
        and, in each, by row, messages on all images that cannot be read, whose features mean
        nothing.
    """
    shares = distributed.shares(len(images), cfg.TEST.IMS_PER_BATCH)
    own = shares[distributed.rank()]
    batches: Any  # of tensors or of a loader's batches
    if isinstance(images, Tensor):
        batches, lost = images[own].split(cfg.TEST.IMS_PER_BATCH), dict[int, str]()
    else:
        batches = build_test_loader(cfg, images, range(own.start, own.stop), cache=cache)
        lost = batches.unreadable  # filled while they are read
    features = np.zeros((0, 0), dtype=np.float32)
    if own.start < own.stop:
        total = own.stop - own.start
        with naming_the_size(cfg, model), Progress("extracting features", total, "image") as told:
            features = extract_features(
                model,
                batches,
                device,
                flip=cfg.TEST.FLIP.ENABLED,
                dtype=evaluation_dtype(cfg, device),
                told=told.update,
            )
    gathered = distributed.gather((features.shape[1], lost))
    lengths, messages = zip(*gathered, strict=True)  # of a process without images, 0
    collected = distributed.collect(features.reshape(-1, max(lengths)), shares)
    return collected, reduce(or_, messages)


def fingerprint(cfg: CfgNode, model: nn.Module, dtype: str | None = None) -> str:
    """Return a hash of what decides on features: the weights, the preprocessing and the type.

    The rounding of float32 does not count.

    Args:
        cfg: the configuration.
        model: the one before its norms are folded.
        dtype: that features are computed in; None: TEST.DTYPE.
    """
    heads, keys = cfg.MODEL.HEADS, cfg.INPUT
    settings = [cfg.MODEL.BACKBONE.NAME, heads.BRANCHES, heads.STRIPES, heads.POOL_LAYER]
    settings += [cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, cfg.TEST.FLIP.ENABLED]
    settings += [keys.SIZE_TEST, keys.EXACT_TEST, keys.BACKGROUND]
    dtype = dtype or cfg.TEST.DTYPE
    if dtype != "float32":
        settings.append(dtype)
    digest = hashlib.sha256(json.dumps(settings).encode())
    ignored = (*classifiers_of(cfg), "*num_batches_tracked")
    for name, values in model.state_dict().items():
        if not fits_any(name, ignored):
            digest.update(name.encode())
            digest.update(values.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def write_results(folder: Path, results: Mapping[str, Result], name: str = RESULTS) -> None:
    """Write, for each test set, its percentages, intervals and counts."""
    write_json(folder / name, {test_set: each.as_dict() for test_set, each in results.items()})


def show_results(results: Mapping[str, Result], before: Path | None = None) -> None:
    """Log the result table, above it the results in the file ``before``, of before training."""
    rows = {name: result.as_dict() for name, result in results.items()}
    if before is not None and before.is_file():
        earlier = read_json(before).items()
        rows = {f"{name}, before training": result for name, result in earlier} | rows
    logger.info("results\n%s", results_table(rows))


def draw_results(
    folder: Path,
    results: Mapping[str, Result],
    tests: Sequence[TestSet],
    spots: Mapping[str, Callable[[int, int], Spots]],
) -> None:
    """Draw the CMC curves, and for each test set its best, worst and some random queries.

    What cannot be drawn is told; it costs nothing else. Spots are, by test set, what tells which
    match in a query and a gallery photograph.
    """
    with _spared(folder / "cmc.png"):
        plot_cmc(results, folder / "cmc.png")
    for test_set in tests:
        name, path = test_set.name, folder / f"rank_list_{file_name(test_set.name)}.jpg"
        query, gallery = (
            _opener(images, test_set.masked) for images in (test_set.query, test_set.gallery)
        )
        with _spared(path):
            show = spots.get(name)
            draw_rank_lists(results[name], query, gallery, path, title=name, spots=show)
            logger.info("pictures: %s, %s", folder / "cmc.png", path)


@contextmanager
def _spared(picture: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        known = isinstance(error, UserError)
        logger.warning("%s could not be drawn: %s", picture, error, exc_info=not known)


def _opener(images: Catalogue, masked: bool):
    boxes = images.column("bbox")
    return lambda row: read_image(
        images.path(row), bbox=boxes[row], mask=images.mask(row) if masked else None
    )
