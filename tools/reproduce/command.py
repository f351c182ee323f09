"""The command line of ``tools/reproduce.py``: what is asked for, and in which order it is done."""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace

import torch
from filelock import FileLock, Timeout

from openanimals.config import get_cfg
from openanimals.engine.check import count_training_images
from openanimals.utils.errors import UserError
from openanimals.utils.files import expanded, read_json, remove_leftovers, write_text
from openanimals.utils.logging import entry, set_up_logging
from reproduce.aggregate import write_tables
from reproduce.grid import KNOWN_SPECIES, SMOKE_EPOCHS, TABLES, Grid, choose
from reproduce.run import check_settings, logger, note, read, train

TOOL = "python tools/reproduce.py"


def main(arguments: Sequence[str]) -> int:
    """Run a command line; the exit status is 2 after a mistake, or if runs failed."""
    set_up_logging()
    try:
        options = parse(arguments)
        grids = [_grid(options, table) for table in ([options.table] if options.table else TABLES)]
        if options.collect:
            for grid in grids:
                collect(grid)
            return 0
        command = shlex.join([*TOOL.split(), *arguments])
        counts = [reproduce(grid, options.seeds, options.gpus, command) for grid in grids]
        failed, total = map(sum, zip(*counts, strict=True))
        if failed:
            where = ", ".join(f"{grid.folder}.md" for grid in grids)
            raise UserError(f"{failed} of {total} runs failed; see {where}")
    except UserError as error:
        print(entry(f"error: {error}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; to go on: the same command", file=sys.stderr)
        return 130  # what shells expect of a program that Ctrl-C ended
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what a command line asks for.

    Raises:
        UserError: names the option.
    """
    parser = argparse.ArgumentParser(TOOL, description="Train, or go on with, a table.")
    parser.add_argument("--table", choices=TABLES)
    parser.add_argument("--species", nargs="+", default=[], help="default: those of the paper")
    parser.add_argument("--methods", nargs="+", default=[], help="rows of the table; default: all")
    parser.add_argument("--seeds", type=int, help="repetitions, default: 3")
    parser.add_argument("--output", default="logs/reproduce", help="default: logs/reproduce")
    parser.add_argument("--size", choices=("published", "cpu"), default="published")
    parser.add_argument("--epochs", type=int, default=0, help="schedules are scaled to so many")
    parser.add_argument("--gpus", type=int, default=0, help="runs at once, each on its own GPU")
    parser.add_argument("--collect", action="store_true", help="only write the tables")
    parser.add_argument("--smoke", action="store_true", help="toy runs: does the grid work?")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides")
    options = parser.parse_args(arguments)
    for names in (options.species, options.methods):  # may have taken the KEY VALUE pairs, too
        keys = [name for name in names if "." in name or name in get_cfg()]
        first = names.index(keys[0]) if keys else len(names)
        options.opts = [*names[first:], *options.opts]
        del names[first:]
    devices = torch.cuda.device_count()
    given = (options.size != "published", options.epochs, options.gpus)
    if options.smoke:
        options.size, options.epochs = "smoke", SMOKE_EPOCHS
    if options.seeds is None:
        options.seeds = 1 if options.smoke else 3
    for wrong, message in (
        (not (options.smoke or options.table), f"which --table? One of {', '.join(TABLES)}"),
        (
            options.methods and not options.table,
            "--methods are rows of one table: name the --table",
        ),
        (options.smoke and any(given), "--smoke has its own --size and --epochs, and no --gpus"),
        (options.seeds < 1, f"--seeds is {options.seeds}; expected 1 or more"),
        (options.epochs < 0, f"--epochs is {options.epochs}; expected 0 or more"),
        (
            options.size == "cpu" and options.epochs == 0,
            "--size cpu compares at equal budget: say for how many --epochs",
        ),
        (
            not 0 <= options.gpus <= devices,
            f"--gpus is {options.gpus}, but PyTorch sees {devices} CUDA devices; leave it out to "
            "train one run after another",
        ),
        (
            "DATASETS.NAMES" in options.opts[::2] and len(options.species) != 1,
            "DATASETS.NAMES is one species' data: name it by --species, on its own",
        ),
    ):
        if wrong:
            raise UserError(message)
    return options


def _grid(options: argparse.Namespace, table: str) -> Grid:
    known = list(TABLES[table]["rows"])
    grid = Grid(
        table,
        expanded(options.output),
        choose("row", options.methods or known, known),
        choose("species", options.species or TABLES[table]["species"], KNOWN_SPECIES),
        options.size,
        options.epochs,
        tuple(options.opts),
    )
    grid.twins  # noqa: B018 (loads all rows: mistakes are told before anything runs)
    return grid


def reproduce(grid: Grid, seeds: int, gpus: int, command: str) -> tuple[int, int]:
    """Train the runs that have not finished, and write the tables after each.

    Args:
        grid: the table.
        seeds: repetitions.
        gpus: runs at once, each on a GPU of its own; 0: one, wherever MODEL.DEVICE says.
        command: the command line, noted beside each run.

    Returns:
        How many runs failed, and how many there are in all.

    Raises:
        UserError: another tool works on the table, or it has runs with other settings.
    """
    try:
        grid.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(grid.folder / ".lock", timeout=0).acquire()
    except Timeout:
        raise UserError(
            f"{grid.folder} is being worked on by another tools/reproduce.py; to see its tables "
            "use --collect, to share the work choose another --output"
        ) from None
    except OSError as error:
        raise UserError(f"--output {grid.output} cannot be written: {error}") from error
    with lock:
        images, problems = {}, {}
        for name in grid.species:
            try:
                images[name] = count_training_images(grid.run(grid.rows[0], name, 0).config)
            except (UserError, OSError) as error:
                problems[name] = str(error)
                logger.error("no run on %s: %s", name, error)
        check_settings(grid, images)
        options = {"size": grid.size, "epochs": grid.epochs, "overrides": grid.overrides}
        write_text(grid.folder / "options.json", json.dumps(options) + "\n")
        remove_leftovers(grid.output, f"{grid.table}*")  # of a tool that was killed
        runs = [
            grid.run(row, name, seed, images.get(name, 0))
            for name in grid.species
            for row in dict.fromkeys(grid.twins[row] for row in grid.rows)
            for seed in range(seeds)
        ]
        runs = [run for run in runs if run.trains or not run.seed]  # without chance, one tells all
        for run in runs:
            if run.species in problems and read(run.folder)["status"] != "finished":
                note(run.folder, status="failed", error=problems[run.species])
        write_tables(grid)

        def ended() -> None:
            write_tables(grid)
            for run in runs if grid.size == "smoke" else ():
                if read(run.folder)["status"] == "finished":
                    for weights in run.folder.glob("model_*.pth"):  # of no use, and many
                        weights.unlink()

        train([run for run in runs if run.species in images], images, gpus, command, ended)
        logger.info("written: %s.md", grid.folder)
        return sum(read(run.folder)["status"] == "failed" for run in runs), len(runs)


def collect(grid: Grid) -> None:
    """Only write the tables, from the runs that there are; a tool may train meanwhile.

    Raises:
        UserError: there are no runs of the table, or they were made with other settings.
    """
    try:
        options = read_json(grid.folder / "options.json", "size", "epochs", "overrides")
    except FileNotFoundError:
        raise UserError(f"no runs in {grid.folder}; train them, or name their --output") from None
    if (grid.size, grid.epochs, grid.overrides) == ("published", 0, ()):  # nothing was asked for
        grid = replace(grid, **options | {"overrides": tuple(options["overrides"])})
    else:
        check_settings(grid, {})
    write_tables(grid)
    logger.info("written: %s.md", grid.folder)
