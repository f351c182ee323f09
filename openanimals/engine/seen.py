"""Which queries show photographs that were trained on: their figures say nothing of new ones."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from logging import getLogger

from openanimals.config import CfgNode, get_cfg
from openanimals.config.files import YamlError, parse
from openanimals.data.build import Sets, TestSet
from openanimals.data.catalogue import Catalogue, CatalogueError
from openanimals.data.splits import make_split
from openanimals.engine.loading import read_weights
from openanimals.evaluation.build import TRAINED
from openanimals.utils.errors import UserError

logger = getLogger(__name__)

KEYS = ("NAMES", "SPLIT", "SPLIT_FILE", "COMBINEALL")


def mark_seen(sets: Sets, trained: Iterable[Catalogue]) -> None:
    """Mark the queries of the test sets whose photographs are among those that were trained on."""
    seen = {image for images in trained for image in _files_and_boxes(images)}
    sets.tests = [_marked(test_set, seen) for test_set in sets.tests]


def _marked(test_set: TestSet, seen: set[object]) -> TestSet:
    marks = [image in seen for image in _files_and_boxes(test_set.query)]
    if not any(marks):
        return test_set
    query = test_set.query.with_table(test_set.query.table.assign(**{TRAINED: marks}))
    return replace(test_set, query=query)


def _files_and_boxes(images: Catalogue) -> Iterator[object]:
    boxes = images.column("bbox")
    return ((os.path.realpath(images.path(row)), boxes[row]) for row in range(len(images)))


def trained_by(cfg: CfgNode, sets: Sets) -> Iterator[Catalogue]:
    """Yield what the run that left MODEL.WEIGHTS has trained on of the sets that are tested now.

    Its checkpoint carries its configuration, of which the DATASETS keys are looked at and nothing
    is obeyed; of one without, nothing is known.
    """
    config = read_weights(cfg.MODEL.WEIGHTS).config if cfg.MODEL.WEIGHTS else None
    began = get_cfg()
    try:
        given = parse(config or "")["DATASETS"]
        began.merge([("", f"DATASETS.{key}", given[key]) for key in KEYS if key in given])
    except (YamlError, TypeError, KeyError):
        return
    keys = began.DATASETS
    for name in keys.NAMES:
        if name in sets.splits:
            catalogue, _ = sets.splits[name]
            try:
                if keys.SPLIT_FILE != cfg.DATASETS.SPLIT_FILE:
                    raise CatalogueError(f"the split was that of {keys.SPLIT_FILE or 'no file'}")
                split = make_split(catalogue, keys.SPLIT, keys.SPLIT_FILE)
            except UserError as error:
                told = "cannot tell which queries of %s %s was trained on: %s"
                logger.warning(told, name, cfg.MODEL.WEIGHTS, error)
                continue
            extra = [*split.query, *split.gallery] if keys.COMBINEALL else []
            yield catalogue.select([*split.train, *extra])
