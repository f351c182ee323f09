"""Before any training: get the data, look for what is wrong, tell what it would be."""

from pathlib import Path

from openanimals.config import CfgNode, load
from openanimals.config.checks import batch_problems
from openanimals.data.build import data_root, load_catalogue_of, load_sets
from openanimals.data.contact_sheet import contact_sheet
from openanimals.data.download import prepare
from openanimals.data.splits import make_split
from openanimals.data.validate import check_data
from openanimals.solver import build_schedule
from openanimals.utils.errors import UserError, naming


def prepare_data(name: str, root: str | Path | None = None) -> None:
    """Download, unpack and verify a species, and print what it holds.

    Args:
        name: a class of wildlife-datasets, ``Animals-<Class>``.
        root: the data root; None: the one that DATASETS.ROOT or the environment names.

    Raises:
        UserError: the name is unknown, or the data cannot be had, written or read.
    """
    root = root or data_root(load())
    with naming(root):
        prepare(name, root)


def check(cfg: CfgNode, sheet: str = "") -> tuple[str, int]:
    """Return a report on the data sets of DATASETS.NAMES and DATASETS.TESTS, and their faults.

    Args:
        cfg: its DATASETS keys find, read and split the data.
        sheet: a picture file (.png, .jpg) to draw some images of individuals into; of further data
            sets into ``<name>_1``, ``<name>_2`` and so on beside it.

    Returns:
        Lines of text, and how many faults there are to mend.

    Raises:
        UserError: a data set cannot be found, read or split, or the picture not be written.
    """
    lines, faults = [], 0
    for number, name in enumerate(dict.fromkeys([*cfg.DATASETS.NAMES, *cfg.DATASETS.TESTS])):
        catalogue = load_catalogue_of(cfg, name)
        split = make_split(catalogue, cfg.DATASETS.SPLIT, cfg.DATASETS.SPLIT_FILE)
        report, found = check_data(catalogue, split, min_images=cfg.DATALOADER.NUM_INSTANCE)
        faults += found
        lines += [*([""] if number else []), report]
        if sheet:
            path = Path(sheet)
            path = path.with_stem(f"{path.stem}_{number}") if number else path
            contact_sheet(catalogue, path)
            lines.append(f"contact sheet: {path}")
    try:
        sets = load_sets(cfg)
        lines += batch_problems(cfg, identities=len(sets.train.identities)) if sets.train else []
        lines += [note] if (note := sets.copies()) else []
    except UserError as error:
        lines.append(f"no training is possible: {error}")
    return "\n".join(lines), faults


def count_training_images(cfg: CfgNode) -> int:
    """Return how many images training has."""
    train = load_sets(cfg).train
    assert train
    return len(train.images)


def describe_schedule(cfg: CfgNode, images: int) -> str:
    """Return in words where warm-up, plateau and decay begin and end, with so many images."""
    schedule = build_schedule(cfg, max(1, images // cfg.SOLVER.IMS_PER_BATCH))
    return "; ".join(schedule.describe(cfg.SOLVER.BASE_LR))
