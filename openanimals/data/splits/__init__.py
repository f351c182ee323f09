"""Which rows of a catalogue train, which are queries and which are the gallery."""

from openanimals.data.splits.build import make_split, source_split
from openanimals.data.splits.io import PARTS, Split, read_split, write_split
from openanimals.data.splits.paper import hold_out, paper_partition

__all__ = [
    "PARTS",
    "Split",
    "hold_out",
    "make_split",
    "paper_partition",
    "read_split",
    "source_split",
    "write_split",
]
