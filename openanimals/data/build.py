"""From the names in a config to the images that train and the images that test."""

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from openanimals.config import CfgNode
from openanimals.data.boxes import rows_with_bad_boxes
from openanimals.data.catalogue import Catalogue, CatalogueError, concatenate
from openanimals.data.datasets import load_catalogue
from openanimals.data.files import find_copies, unusable_files
from openanimals.data.image_io import limit_megapixels
from openanimals.data.masks import is_shape
from openanimals.data.splits import Split, hold_out, make_split
from openanimals.data.validate import unmatched
from openanimals.utils.files import expanded
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
            box cannot be used.
        lacking: training files that cannot be read, in words; others stand in for them.
    """

    train: TrainSet | None = None
    tests: list[TestSet] = field(default_factory=list)
    validation: TestSet | None = None
    splits: dict[str, tuple[Catalogue, Split]] = field(default_factory=dict)
    held_out: tuple[Catalogue, Split] | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    lacking: str = ""

    def tested(self) -> list[TestSet]:
        """Return the test sets and the one to validate on."""
        return [*self.tests, *([self.validation] if self.validation else [])]

    def copies(self) -> str:
        """Tell how many images in use are there more than once, by content; nothing if none is.

        It counts the queries whose copy is in the gallery or in training: any model finds those.
        """
        train = set(_places(self.train.images) if self.train else ())
        tests = [(_places(test.query), _places(test.gallery)) for test in self.tests]
        every = [*dict.fromkeys(chain(train, *chain.from_iterable(tests)))]
        groups = [[every[row] for row in rows] for rows in find_copies(*zip(*every, strict=True))]
        first = {place: group[0] for group in groups for place in group}
        names = defaultdict(set)
        for catalogue, _ in self.splits.values():
            for place, identity in zip(_places(catalogue), catalogue.identities, strict=True):
                names[first.get(place, place)].add(identity)
        used = {first.get(place, place) for place in every}
        two = [place for place in used if len(names[place]) > 1]
        learnt, easy = {first.get(place, place) for place in train}, 0
        for query, gallery in tests:
            known = {first.get(place, place) for place in gallery}
            easy += sum(
                first.get(q, q) in known or (q not in train and first.get(q, q) in learnt)
                for q in query
            )
        if not (groups or two or easy):
            return ""
        shown = " = ".join(file for file, _ in (groups[0] if groups else (two or every))[:2])
        return (
            f"{len(groups)} photographs are there more than once under other file names, and "
            f"{len(two)} have two individuals' names, for instance {shown}; {easy} queries have a "
            "copy of themselves in the gallery or in training, so they are found too easily "
            "(python tools/check_data.py lists copies; remove all but one)"
        )

    def table(self) -> list[list[str]]:
        """Return rows of text: part, images, individuals, images of each (from, to)."""
        parts = {"train": self.train.images} if self.train else {}
        for test in self.tested():
            parts |= {f"{test.name} query": test.query, f"{test.name} gallery": test.gallery}
        rows = [["part", "images", "individuals", "images each"]]
        for name, images in parts.items():
            counts = images.table["identity"].value_counts()
            each = f"{min(counts)} to {max(counts)}" if len(counts) else "-"
            rows.append([name, str(len(images)), str(len(counts)), each])
        return rows


def _places(images: Catalogue) -> list[tuple[str, tuple | None]]:
    """Return the file and the box of each row."""
    files = (str(images.path(row).absolute()) for row in range(len(images)))
    return list(zip(files, images.column("bbox"), strict=True))


def check_files(cfg: CfgNode, sets: Sets) -> None:
    """Look, in one pass and without opening any, whether the files of all images in use are there.

    Raises:
        CatalogueError: one of a test or validation set is not, or all of a training individual.
    """

    def files(images: Catalogue) -> list[set[str]]:
        masks = [cfg.INPUT.BACKGROUND == "mask" and images.mask(row) for row in range(len(images))]
        drawn = [{mask} if mask and not is_shape(mask) else set() for mask in masks]
        return [{file} | mask for (file, _), mask in zip(_places(images), drawn, strict=True)]

    tested = [files(images) for t in sets.tested() for images in (t.query, t.gallery)]
    trained = files(sets.train.images) if sets.train else []
    bad = unusable_files(file for own in chain(trained, *tested) for file in own)
    lacking = _named(bad, chain(*tested))
    if lacking:
        raise CatalogueError(f"images to evaluate on cannot be read: {lacking}")
    if sets.train and (lacking := _named(bad, trained)):
        labels = zip(sets.train.labels.tolist(), trained, strict=True)
        readable = {label for label, own in labels if not own & bad.keys()}
        if len(readable) < len(sets.train.identities):
            raise CatalogueError(f"of an individual no training image can be read: {lacking}")
        sets.lacking = lacking


def _named(bad: Mapping[str, str], images: Iterable[set[str]]) -> str:
    """Return how many of the images' files are bad, and what is wrong with the first three."""
    reasons = [bad[file] for file in dict.fromkeys(chain(*images)) if file in bad]
    dots = "; ..." if len(reasons) > 3 else ""
    return f"{len(reasons)} files ({'; '.join(reasons[:3])}{dots})" if reasons else ""


def data_root(cfg: CfgNode) -> Path:
    """Return the folder of the data sets: DATASETS.ROOT, else the environment's, else datasets."""
    named = (cfg.DATASETS.ROOT, *map(os.environ.get, ("REID_DATASETS", "FASTREID_DATASETS")))
    return expanded(next(filter(None, named), "datasets"))


def load_catalogue_of(cfg: CfgNode, name: str) -> Catalogue:
    """Return the catalogue called ``name``, found and read as the DATASETS keys say."""
    limit_megapixels(cfg.INPUT.MAX_MEGAPIXELS)
    keys = cfg.DATASETS
    ways = {"date_pattern": keys.DATE_PATTERN, "keep_unknown": keys.KEEP_UNKNOWN}
    return load_catalogue(name, data_root(cfg), **ways)


def load_sets(cfg: CfgNode, train: bool = True) -> Sets:
    """Read the catalogues that DATASETS names, split them and drop rows without a usable box.

    Args:
        cfg: the configuration.
        train: also gather the training set; else only the test sets.

    Raises:
        ValueError: a source is unknown or missing; its split is unusable; the training set is
            empty or of one identity; a test set has no query whose identity is in its gallery, by
            another camera where cameras count; a source is named twice; its boxes are of another
            form; or there are no sides, or no masks, where a key asks for them.
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
    for key in ("NAMES", "TESTS") if train else ("TESTS",):
        _refuse_repeated(f"DATASETS.{key}", cfg.DATASETS[key], sets)
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


def _refuse_repeated(key: str, names: Sequence[str], sets: Sets) -> None:
    """Refuse a source that a key names twice, if by other words (``folder:a``, ``folder:a/``)."""
    first: dict[tuple[str, str], str] = {}
    for name in names:
        catalogue = sets.splits[name][0]
        same = os.path.realpath(catalogue.root), catalogue.digest()
        if same in first:
            raise CatalogueError(
                f"{key} names one data set twice: {first[same]!r} and {name!r}; remove one of them"
            )
        first[same] = name


def _test_set(cfg: CfgNode, name: str, catalogue: Catalogue, split: Split) -> TestSet:
    query, gallery = catalogue.select(split.query), catalogue.select(split.gallery)
    nobody, camera = unmatched(query, gallery)
    if camera and nobody + camera == len(query):
        raise CatalogueError(
            f"{name}: none of its {len(query)} query images has a match by another camera: of "
            f"{camera} queries, all images of their individual in the gallery are by their own "
            "camera, and these do not count; expected other cameras in the column camera, or a "
            "catalogue with cameras_count=False"
        )
    if nobody == len(query):
        raise CatalogueError(
            f"{name}: none of its {len(query)} query images has another image of the same "
            f"individual among the {len(gallery)} gallery images, so nothing can be "
            "evaluated; expected individuals with at least 3 images in the test half"
        )
    return TestSet(name, query, gallery, cfg.INPUT.BACKGROUND == "mask")


def _check_masks(catalogue: Catalogue, split: Split) -> None:
    """Refuse a catalogue without masks in use; warn of images that lack one."""
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
    """Return the split without rows whose box cannot be used, and how many they were.

    They are dropped after the partition, so that nothing shifts.
    """
    bad = set(rows_with_bad_boxes(catalogue))
    parts = asdict(split).values()
    good = Split(*([row for row in rows if row not in bad] for rows in parts))
    return good, len(bad & set().union(*parts))


def _separate_viewpoints(images: Catalogue) -> Catalogue:
    """Make each side of an animal an individual of its own: ``Kesi`` becomes ``Kesi|left``.

    Photographs of no known side keep the plain name: nothing tells which of the two they show, and
    views from the front or from above are a pattern of their own.
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
