"""Look at the data of a configuration before any training."""

from openanimals.config import CfgNode
from openanimals.data.build import load_catalogue_of
from openanimals.data.contact_sheet import contact_sheet
from openanimals.data.splits import make_split
from openanimals.data.validate import check_data


def inspect(cfg: CfgNode, sheet: str = "") -> str:
    """Return a report on the first data set of DATASETS.NAMES, as lines of text.

    Args:
        cfg: its DATASETS keys find, read and split the data.
        sheet: a picture file (.png, .jpg) to draw some images of individuals into.

    Raises:
        ValueError: the data set cannot be found, read or split.
    """
    catalogue = load_catalogue_of(cfg, cfg.DATASETS.NAMES[0])
    split = make_split(catalogue, cfg.DATASETS.SPLIT, cfg.DATASETS.SPLIT_FILE)
    instances = cfg.DATALOADER.NUM_INSTANCE
    report = check_data(catalogue, split, min_images=instances)
    lines = [report.as_table()]
    individuals, wanted = report.parts["train"][1], cfg.SOLVER.IMS_PER_BATCH // instances
    if individuals < wanted:
        lines.append(
            f"a batch takes {wanted} individuals, training has {individuals}: train with "
            f"SOLVER.IMS_PER_BATCH {individuals * instances} or less"
        )
    if sheet:
        contact_sheet(catalogue, sheet)
        lines.append(f"contact sheet: {sheet}")
    return "\n".join(lines)
