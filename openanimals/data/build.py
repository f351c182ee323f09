"""From the names in a config to the images that train and the images that test."""

import logging
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from openanimals.config import CfgNode
from openanimals.data.catalogue import Catalogue, CatalogueError, concatenate
from openanimals.data.datasets import load_catalogue
from openanimals.data.splits import Split, hold_out, make_split
from openanimals.data.validate import rows_with_bad_boxes
from openanimals.utils.reproducibility import derive_seed
from openanimals.utils.viewpoints import lateral_viewpoint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainSet:
    """Images to learn from.

    Attributes:
        images: one row an image.
        identities: names of the individuals (with DATASETS.FLANKS separate, one for each of their
            sides), sorted; the position is the label.
        labels: the label of each row.
    """

    images: Catalogue
    identities: list[str]
    labels: np.ndarray

    @classmethod
    def of(cls, images: Catalogue) -> "TrainSet":
        """Number the identities of a catalogue in sorted order."""
        names, labels = np.unique(np.array(images.identities, dtype=object), return_inverse=True)
        return cls(images, names.tolist(), labels)


@dataclass(frozen=True)
class TestSet:
    """Images to find again, and images to find them among.

    Attributes:
        name: in logs and results.
        query: the images to find again.
        gallery: the images to find them among.
        masked: whether their background is to be black.
    """

    __test__ = False  # not a pytest class

    name: str
    query: Catalogue
    gallery: Catalogue
    masked: bool = False

    def unmatched_queries(self) -> int:
        """Return how many queries have no image of their individual in the gallery."""
        searchable = set(self.gallery.identities)
        return sum(identity not in searchable for identity in self.query.identities)


@dataclass
class Sets:
    """All images of a run.

    Attributes:
        train: None if only evaluating.
        tests: one for each name in DATASETS.TESTS.
        validation: training identities held out (DATASETS.VAL_FRACTION), or None.
        splits: for each source in use its catalogue and split, to be written beside the run.
        held_out: images of the training half and the part of them that validates, or None.
        dropped: for each source the number of rows of its split that are left out because their
            box is empty or outside the image.
    """

    train: TrainSet | None = None
    tests: list[TestSet] = field(default_factory=list)
    validation: TestSet | None = None
    splits: dict[str, tuple[Catalogue, Split]] = field(default_factory=dict)
    held_out: tuple[Catalogue, Split] | None = None
    dropped: dict[str, int] = field(default_factory=dict)

    def table(self) -> list[list[str]]:
        """Return rows of text: part, images, individuals, images of each (from, to)."""
        parts = {"train": self.train.images} if self.train else {}
        for test in [*self.tests, *([self.validation] if self.validation else [])]:
            parts |= {f"{test.name} query": test.query, f"{test.name} gallery": test.gallery}
        rows = [["part", "images", "individuals", "images each"]]
        for name, images in parts.items():
            counts = images.table["identity"].value_counts()
            each = f"{min(counts)} to {max(counts)}" if len(counts) else "-"
            rows.append([name, str(len(images)), str(len(counts)), each])
        return rows


def data_root(cfg: CfgNode) -> Path:
    """Return the folder of the data sets: DATASETS.ROOT, else the environment's, else datasets."""
    named = (cfg.DATASETS.ROOT, *map(os.environ.get, ("REID_DATASETS", "FASTREID_DATASETS")))
    return Path(next(filter(None, named), "datasets")).expanduser()


def load_catalogue_of(cfg: CfgNode, name: str) -> Catalogue:
    """Return the catalogue called ``name``, found and read as the DATASETS keys say."""
    return load_catalogue(name, data_root(cfg), date_pattern=cfg.DATASETS.DATE_PATTERN)


def load_sets(cfg: CfgNode, train: bool = True) -> Sets:
    """Read the catalogues that DATASETS names, split them and drop rows without a usable box.

    Args:
        cfg: the configuration.
        train: also gather the training set; else only the test sets.

    Raises:
        ValueError: a source is unknown or missing; its split is unusable; the training set is
            empty or of one identity; a test set has no query whose identity is in its gallery; or
            there are no sides, or no masks, where a key asks for them.
    """
    sets = Sets()
    for name in (*(cfg.DATASETS.NAMES if train else ()), *cfg.DATASETS.TESTS):
        if name not in sets.splits:
            catalogue = load_catalogue_of(cfg, name)
            split = make_split(catalogue, cfg.DATASETS.SPLIT, cfg.DATASETS.SPLIT_FILE)
            split, sets.dropped[name] = _without_bad_boxes(catalogue, split)
            if cfg.INPUT.BACKGROUND == "mask":
                _check_masks(catalogue, split)
            sets.splits[name] = (catalogue, split)
    for name in cfg.DATASETS.TESTS:
        catalogue, split = sets.splits[name]
        sets.tests.append(_test_set(cfg, name, catalogue, split))
    if train:
        _add_train(cfg, sets)
    return sets


def _add_train(cfg: CfgNode, sets: Sets) -> None:
    parts = []
    for name in cfg.DATASETS.NAMES:
        catalogue, split = sets.splits[name]
        extra = [*split.query, *split.gallery] if cfg.DATASETS.COMBINEALL else []
        # Where individuals are known before the test, the gallery trains as it is.
        parts.append(catalogue.select(list(dict.fromkeys([*split.train, *extra]))))
    images = concatenate(parts)
    if cfg.DATASETS.VAL_FRACTION:
        seed = derive_seed(cfg.SEED, "validation") % 2**32
        held = hold_out(images.identities, cfg.DATASETS.VAL_FRACTION, seed)
        sets.held_out = (images, held)
        sets.validation = _test_set(cfg, "validation", images, held)
        images = images.select(held.train)
    if cfg.DATASETS.FLANKS == "separate":
        images = _separate_viewpoints(images)
    sets.train = TrainSet.of(images)
    count = len(sets.train.identities)
    if count < 2:
        raise CatalogueError(
            f"the training set of {images.name} has {len(images)} images of {count} individuals; "
            "expected at least 2 individuals. Identities are split between training and test, so "
            "a source needs at least 4 (or a split of its own: DATASETS.SPLIT)"
        )


def _test_set(cfg: CfgNode, name: str, catalogue: Catalogue, split: Split) -> TestSet:
    query, gallery = catalogue.select(split.query), catalogue.select(split.gallery)
    test = TestSet(name, query, gallery, cfg.INPUT.BACKGROUND == "mask")
    if test.unmatched_queries() == len(test.query):
        raise CatalogueError(
            f"{name}: none of its {len(test.query)} query images has another image of the same "
            f"individual among the {len(test.gallery)} gallery images, so nothing can be "
            "evaluated; expected individuals with at least 3 images in the test half"
        )
    return test


def _check_masks(catalogue: Catalogue, split: Split) -> None:
    """Count the images in use that keep their background because they have no mask."""
    used = {*split.train, *split.query, *split.gallery}
    lacking = len(used) - catalogue.table["mask"].iloc[list(used)].count()
    if lacking == len(used):
        raise CatalogueError(
            f"INPUT.BACKGROUND is 'mask', but none of the {lacking} images of {catalogue.name} "
            "has a mask; expected the column mask (or INPUT.BACKGROUND keep)"
        )
    if lacking:
        message = "%s: %d of %d images have no mask and keep their background"
        logger.warning(message, catalogue.name, lacking, len(used))


def _without_bad_boxes(catalogue: Catalogue, split: Split) -> tuple[Split, int]:
    """Drop rows whose box is empty or outside, after the partition so that nothing shifts.

    Returns:
        The split without them, and how many of its rows they were.
    """
    bad = set(rows_with_bad_boxes(catalogue))
    parts = asdict(split).values()
    good = Split(*([row for row in rows if row not in bad] for rows in parts))
    return good, len(bad & set().union(*parts))


def _separate_viewpoints(images: Catalogue) -> Catalogue:
    """Make each side of an animal an individual of its own: ``Kesi`` becomes ``Kesi|left``.

    Photographs of no known side keep the plain name: nothing tells which of the two they show, and
    views from the front or from above are a pattern of their own.

    Raises:
        CatalogueError: no photograph has a known side.
    """
    viewpoints = [lateral_viewpoint(viewpoint) for viewpoint in images.column("viewpoint")]
    if not any(viewpoints):
        raise CatalogueError(
            f"DATASETS.FLANKS is 'separate', but none of the {len(images)} training images of "
            f"{images.name} has a known side; expected left or right in the column viewpoint "
            "(or DATASETS.FLANKS ignore)"
        )
    pairs = zip(images.identities, viewpoints, strict=True)
    names = [f"{name}|{viewpoint}" if viewpoint else name for name, viewpoint in pairs]
    return images.with_table(images.table.assign(identity=pd.Series(names, dtype=object)))
