"""What is trained: a run is a row of a table, a species and a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from openanimals.config import CfgNode, load
from openanimals.config.strict_yaml import parse
from openanimals.engine.matchers import uses_features
from openanimals.utils.errors import UserError
from openanimals.utils.registry import did_you_mean

CONFIGS = Path(__file__).parents[2] / "configs"

TABLES = parse(Path(__file__).with_name("tables.yml").read_text(encoding="utf-8"))
KNOWN_SPECIES = sorted(file.stem for file in (CONFIGS / "species").glob("*.yml"))

SMOKE = {
    "MODEL.DEVICE": "cpu",
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.NUM_INSTANCE": 4,
    "SOLVER.IMS_PER_BATCH": 16,
    "INPUT.SIZE_TRAIN": [48, 48],  # just enough for three stripes
    "INPUT.SIZE_TEST": [48, 48],
}
SMOKE_EPOCHS = 2
HERD = "Animals-SyntheticHerd:identities=16,images=5,pixels=48,seed={seed}"

OURS = {"SEED": "--seeds", "DATALOADER.SEED": "--seeds", "OUTPUT_DIR": "--output"}
"""Keys that the tool sets for each run, and the options for them."""

PUBLISHED_ITERS_PER_EPOCH = 47
"""Of LeopardID2022. Lengths that are published in iterations are a share of this many an epoch."""


@dataclass(frozen=True)
class Run:
    """A training, or an evaluation of a row that has nothing to train.

    Its place in the table, its folder and its checked configuration.
    """

    row: str
    species: str
    seed: int
    folder: Path
    config: CfgNode

    @property
    def trains(self) -> bool:
        """Whether there is anything to train."""
        return uses_features(self.config)

    def __str__(self) -> str:
        return f"{self.row} on {self.species}, seed {self.seed}"


@dataclass(frozen=True)
class Grid:
    """The runs of a table.

    Args:
        table: a key of TABLES.
        output: the folder of all tables; a run's is ``<output>/<table>/<row>/<species>/seed<k>``.
        rows: those that are asked for.
        species: those that are asked for, names of files below configs/species.
        size: ``published``, ``cpu`` or ``smoke``.
        epochs: of all rows, with schedules in proportion; 0: as each row was published.
        overrides: ``KEY, VALUE, ...`` for all runs.
    """

    table: str
    output: Path
    rows: tuple[str, ...]
    species: tuple[str, ...]
    size: str = "published"
    epochs: int = 0
    overrides: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        ours = OURS | ({"SOLVER.MAX_EPOCH": "--epochs"} if self.epochs else {})
        for key in self.overrides[::2]:
            if key in ours:
                raise UserError(f"{key} is set for each run; use {ours[key]} instead")

    @property
    def folder(self) -> Path:
        """The folder of the table's runs."""
        return self.output / self.table

    @cached_property
    def twins(self) -> dict[str, str]:
        """For each row the first row that has the same configuration, often itself.

        Ten of the eleven techniques are on or off in BoT itself: one training serves them all.
        """
        first: dict[str, str] = {}
        twins = {}
        for row in TABLES[self.table]["rows"]:
            values = dict(self._load(row, KNOWN_SPECIES[0], {}).keys_and_values())
            del values["OUTPUT_DIR"]
            alike = repr((values, self._published_solver(row)))  # what is scaled is the latter
            twins[row] = first.setdefault(alike, row)
        return twins

    def run(self, row: str, species: str, seed: int, images: int = 0) -> Run:
        """Return a run.

        Args:
            row: one of the table's.
            species: the name of a file below configs/species.
            seed: number of the repetition; 0 has the published batches.
            images: that training has; epochs in proportion are counted by them.
        """
        base = self._load(row, species, {})
        # Only the final weights are kept: a grid of checkpoints would fill any disk.
        keys = {"SOLVER.CHECKPOINT_PERIOD": self.epochs or base.SOLVER.MAX_EPOCH}
        keys |= {"SEED": seed, "DATALOADER.SEED": base.DATALOADER.SEED + seed}
        if self.epochs:
            iters_per_epoch = max(1, images // base.SOLVER.IMS_PER_BATCH)
            keys |= scaled_schedule(self._published_solver(row), self.epochs, iters_per_epoch)
        folder = self.folder / row / species / f"seed{seed}"
        config = self._load(row, species, keys, "OUTPUT_DIR", str(folder))
        return Run(row, species, seed, folder, config)

    def _published_solver(self, row: str) -> CfgNode:
        return load(CONFIGS / TABLES[self.table]["rows"][row]["config"]).SOLVER

    def _load(self, row: str, species: str, keys: dict[str, Any], *last: str) -> CfgNode:
        """Load the files of row, species and size; keys, overrides and ``last`` come after them."""
        names = [TABLES[self.table]["rows"][row]["config"], f"species/{species}.yml"]
        if self.size != "published":
            names.append("sizes/cpu.yml")
        if self.size == "smoke":
            keys = SMOKE | keys
            if "DATASETS.ROOT" not in self.overrides[::2]:
                keys["DATASETS.NAMES"] = HERD.format(seed=KNOWN_SPECIES.index(species))
                keys["DATASETS.ROOT"] = str(self.output / "datasets")
        pairs = [part for pair in keys.items() for part in pair]
        return load([CONFIGS / name for name in names], [*pairs, *self.overrides, *last])


def choose(what: str, names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return names in the order of ``known``.

    Raises:
        UserError: one is not known.
    """
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f"unknown {what} {name!r}{hint}; known: {', '.join(known)}")
    return tuple(name for name in known if name in names)


def scaled_schedule(solver: CfgNode, epochs: int, iters_per_epoch: int) -> dict[str, Any]:
    """Return the keys that train for so many epochs, everything in proportion.

    The published epochs, E, become ``epochs``. Plateau and milestones keep their share of E. So do
    warm-up and freezing; where they are published in iterations, their share is that of
    ``47 E`` iterations, as on LeopardID2022: a share must be of something, and the four species of
    the paper have 23, 47, 59 and 60 iterations an epoch. What was not 0 stays at least 1.

    Args:
        solver: the SOLVER keys of the method, as published.
        epochs: to train for.
        iters_per_epoch: of the data that will be trained on.

    Example:
        BoT warms up over 2000 of 120 x 47 iterations. Over 12 epochs of 10 iterations these are
        ``120 * 2000 / 5640 = 42.6``, rounded 43 iterations; its milestones 40 and 90 become 4
        and 9.
    """

    def scaled(length: float, unit: int = 1) -> int:
        return max(1, round(length * (epochs / solver.MAX_EPOCH * unit))) if length else 0

    warm_up = solver.WARMUP_EPOCHS or solver.WARMUP_ITERS / PUBLISHED_ITERS_PER_EPOCH
    frozen = solver.FREEZE_EPOCHS or solver.FREEZE_ITERS / PUBLISHED_ITERS_PER_EPOCH
    return {
        "SOLVER.MAX_EPOCH": epochs,
        "SOLVER.WARMUP_EPOCHS": 0,
        "SOLVER.WARMUP_ITERS": scaled(warm_up, iters_per_epoch),
        "SOLVER.FREEZE_EPOCHS": 0,
        "SOLVER.FREEZE_ITERS": scaled(frozen, iters_per_epoch),
        "SOLVER.DELAY_EPOCHS": scaled(solver.DELAY_EPOCHS),
        "SOLVER.STEPS": [scaled(step) for step in solver.STEPS],
    }
