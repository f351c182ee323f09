"""What the command line asks for."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openanimals.config import get_cfg
from openanimals.engine.reproduction.grid import (
    SPECIES,
    TABLES,
    TOY_EPOCHS,
    choose,
    known_species,
)
from openanimals.utils.errors import UserError


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        tables: keys of TABLES.
        output: the folder of the cells and tables.
        rows: of the tables; empty: all.
        species: names of files below configs/species; empty: those of the paper.
        seeds: repetitions of each cell.
        size: a key of SIZES.
        epochs: for all rows, schedules in proportion; 0: as published.
        gpus: cells that run at once, each on a GPU of its own; 0: one, wherever MODEL.DEVICE says.
        overrides: ``KEY, VALUE, ...`` for all cells.
        command: the command line, to be written beside the tables.
    """

    tables: Sequence[str]
    output: Path
    rows: Sequence[str] = ()
    species: Sequence[str] = ()
    seeds: int = 3
    size: str = "published"
    epochs: int = 0
    gpus: int = 0
    overrides: Sequence[Any] = ()
    command: str = ""

    def rows_of(self, table: str) -> list[str]:
        """Return the rows of a table that are asked for."""
        return choose("row", self.rows or list(TABLES[table]), list(TABLES[table]))

    def species_of(self, table: str) -> list[str]:
        """Return the species of a table that are asked for."""
        return choose("species", self.species or SPECIES[table], known_species())


def request_of(options: Mapping[str, Any], arguments: Sequence[str]) -> Request:
    """Return what a command line asks for.

    Args:
        options: of the verb ``reproduce``, by name.
        arguments: the command line, to be written beside the tables.

    Raises:
        ValueError: options that are missing, or exclude each other.
    """
    smoke, table = options["smoke"], options["table"]
    if not (smoke or table):
        raise UserError(f"which --table? One of {', '.join(TABLES)}")
    if smoke and (options["size"] != "published" or options["epochs"] or options["gpus"]):
        raise UserError("--smoke is one process of toy size: leave out --size, --epochs, --gpus")
    lists = {name: list(options[name]) for name in ("species", "methods")}
    overrides = list(options["opts"])
    for names in lists.values():  # which have taken the KEY VALUE pairs that follow them
        is_key = [name in get_cfg() or "." in name for name in names]
        first = is_key.index(True) if True in is_key else len(names)
        overrides = names[first:] + overrides
        del names[first:]
    return Request(
        tables=(table,) if table else tuple(TABLES),
        output=Path(options["output"]),
        rows=lists["methods"],
        species=lists["species"],
        seeds=(1 if smoke else 3) if options["seeds"] is None else options["seeds"],
        size="smoke" if smoke else options["size"],
        epochs=TOY_EPOCHS if smoke else options["epochs"],
        gpus=options["gpus"],
        overrides=overrides,
        command=shlex.join(["openanimals", *arguments]),
    )


def check_request(request: Request) -> None:
    """Refuse what no grid can be made of.

    Raises:
        ValueError: names the option.
    """
    names = [str(key) for key in request.overrides[::2]]
    for option, least in (("seeds", 1), ("epochs", 0), ("gpus", 0)):
        given = getattr(request, option)
        if given < least:
            raise UserError(f"--{option} is {given}; expected {least} or more")
    if request.rows and len(request.tables) > 1:
        raise UserError("--methods are rows of one table: name it by --table")
    for table in request.tables:
        request.rows_of(table), request.species_of(table)
    if request.size == "cpu" and request.epochs < 1:
        raise UserError("--size cpu compares at equal budget: say for how many --epochs")
    if "DATASETS.NAMES" in names and len(request.species) != 1:
        raise UserError("DATASETS.NAMES is one species' data: name it by --species, on its own")
    if request.gpus:
        import torch

        if request.gpus > torch.cuda.device_count():
            raise UserError(
                f"--gpus is {request.gpus}, but PyTorch sees {torch.cuda.device_count()} CUDA "
                "devices; leave it out to run one cell after another"
            )
