"""What is trained: a cell is the file of a row, that of a species, a size and a seed."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from openanimals.config import CfgNode, get_cfg, load
from openanimals.engine.reproduction.budget import scaled_schedule
from openanimals.engine.reproduction.published import VERDICTS
from openanimals.utils.errors import UserError
from openanimals.utils.registry import did_you_mean

CONFIGS = Path(__file__).parents[3] / "configs"

TABLES: dict[str, dict[str, str]] = {
    "main": {
        "BoT": "Base-bagtricks.yml",
        "AGW": "Base-AGW.yml",
        "SBS": "Base-SBS.yml",
        "MGN": "Base-MGN.yml",
        "SBS-fair": "Base-SBS-fair.yml",
        "MGN-fair": "Base-MGN-fair.yml",
        "ARBase": "Base-ARBase.yml",
    },
    "ablation": {
        "BoT": "Base-bagtricks.yml",
        "BoT-384x384": "ablations/bot-384x384.yml",
        "without-ibn": "ablations/without-ibn.yml",
        "without-multi-branch": "ablations/without-multi-branch.yml",
        "without-multi-branch-as-released": "ablations/without-multi-branch-as-released.yml",
        "without-bnneck": "ablations/without-bnneck.yml",
        "without-label-smoothing": "ablations/without-label-smoothing.yml",
        "without-cosine": "ablations/without-cosine.yml",
        "ARBase": "Base-ARBase.yml",
    },
    "techniques": {
        f"{technique}-{state}": f"techniques/{technique}-{state}.yml"
        for technique in VERDICTS
        for state in ("off", "on")
    },
}
"""The rows of each table with their files below configs/."""

SPECIES = {
    "main": ("hyena", "leopard", "seaturtle", "whaleshark"),
    "ablation": ("hyena", "whaleshark"),
    "techniques": ("hyena", "leopard", "seaturtle", "whaleshark"),
}
"""The columns of each table unless others are asked for: those of the paper."""

# A network, images and a herd that are only large enough for three stripes and for triplets.
TOY = {
    "MODEL.DEVICE": "cpu",
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.NUM_INSTANCE": 4,
    "SOLVER.IMS_PER_BATCH": 16,
    "INPUT.SIZE_TRAIN": [48, 48],
    "INPUT.SIZE_TEST": [48, 48],
}
TOY_EPOCHS = 2
HERD = "Animals-SyntheticHerd:identities=16,images=5,pixels=48,seed={seed}"

SIZES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "published": ((), {}),
    "cpu": (("sizes/cpu.yml",), {}),
    "smoke": (("sizes/cpu.yml",), TOY),
}
"""What is merged after the files of row and species: files below configs/, and keys."""

OURS = {
    "SEED": "--seeds",
    "DATALOADER.SEED": "--seeds",
    "OUTPUT_DIR": "--output",
}
"""Keys that tell the cells of a grid apart, and the options that set them."""


@dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        table: the table it belongs to.
        row: its row there.
        species: its file below configs/species, without suffix.
        seed: number of the repetition, from 0.
        folder: of the run.
        files: configuration files, merged in order.
        overrides: ``KEY, VALUE, ...``, merged after them.
    """

    table: str
    row: str
    species: str
    seed: int
    folder: Path
    files: tuple[Path, ...]
    overrides: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.row} on {self.species}, seed {self.seed}"

    @cached_property
    def config(self) -> CfgNode:
        """The checked configuration."""
        return load(self.files, self.overrides)

    @property
    def command(self) -> str:
        """The command line that trains the cell, ready for a shell."""
        named = [part for file in self.files for part in ("--config-file", str(file))]
        train = ["python", "-m", "openanimals.cli", "train", "--resume"]
        return shlex.join([*train, *named, *map(str, self.overrides)])


@dataclass(frozen=True)
class Grid:
    """The cells of a table.

    Args:
        table: a key of TABLES.
        output: the folder of all tables; a cell is ``<output>/<table>/<row>/<species>/seed<k>``.
        size: a key of SIZES.
        epochs: for all rows, with schedules in proportion; 0: as each row was published.
        overrides: ``KEY, VALUE, ...`` for all cells.
    """

    table: str
    output: Path
    size: str = "published"
    epochs: int = 0
    overrides: tuple[Any, ...] = ()

    def check(self) -> None:
        """Refuse overrides that are wrong, or would take back what the tool itself sets.

        Raises:
            ValueError: names the key, and the option that sets it.
        """
        keys = [str(key) for key in self.overrides[::2]]
        ours = OURS | ({"SOLVER.MAX_EPOCH": "--epochs"} if self.epochs else {})
        for key in keys:
            if key in ours:
                raise UserError(f"{key} is set for each cell; use {ours[key]} instead")
        self.twins  # noqa: B018 (loads all rows)

    @property
    def folder(self) -> Path:
        """The folder of the table's cells."""
        return self.output / self.table

    @cached_property
    def twins(self) -> dict[str, str]:
        """For each row the first row that has the same configuration, often itself.

        Ten of the eleven techniques are on or off in BoT itself: one training serves them all.
        """
        files, keys = SIZES[self.size]
        first: list[tuple[str, Any]] = []
        twins = {}
        for row, file in TABLES[self.table].items():
            sized = [_config_file(name) for name in (file, *files)]
            values = dict(load(sized, [*_pairs(keys), *self.overrides]).keys_and_values())
            del values["OUTPUT_DIR"]
            signature = (values, load(_config_file(file)).SOLVER)  # scaling reads the latter
            twins[row] = next((name for name, other in first if other == signature), row)
            first.append((row, signature))
        return twins

    def cells(self, rows: Sequence[str], species: str, seeds: int, images: int) -> Iterator[Cell]:
        """Yield the cells of some rows on a species, of twins only the first.

        Args:
            rows: names in ``TABLES[table]``.
            species: the name of a file below configs/species.
            seeds: how many repetitions.
            images: that training has; epochs in proportion are counted by them.
        """
        for row in dict.fromkeys(self.twins[row] for row in rows):
            for seed in range(seeds):
                yield self._cell(row, species, seed, images)

    def unseeded(self, row: str, species: str) -> CfgNode:
        """Return the configuration of a row on a species but for length, seed and folder."""
        files, overrides = self._parts(row, species)
        return load(files, [*overrides, *self.overrides])

    def _cell(self, row: str, species: str, seed: int, images: int) -> Cell:
        files, overrides = self._parts(row, species)
        solver = self.unseeded(row, species).SOLVER
        if self.epochs:
            iters_per_epoch = max(1, images // solver.IMS_PER_BATCH)
            overrides += scaled_schedule(load(files[0]), self.epochs, iters_per_epoch)
        # Only the final weights are kept: a grid of checkpoints would fill any disk.
        overrides += ["SOLVER.CHECKPOINT_PERIOD", self.epochs or solver.MAX_EPOCH]
        overrides += ["SEED", seed]
        if seed:  # other batches too; seed 0 has the published ones
            overrides += ["DATALOADER.SEED", get_cfg().DATALOADER.SEED + seed]
        folder = self.folder / row / species / f"seed{seed}"
        overrides += [*self.overrides, "OUTPUT_DIR", str(folder)]
        return Cell(self.table, row, species, seed, folder, tuple(files), tuple(overrides))

    def _parts(self, row: str, species: str) -> tuple[list[Path], list[Any]]:
        """Return the files of a row on a species, and the overrides of the size."""
        sized, keys = SIZES[self.size]
        names = (TABLES[self.table][row], f"species/{species}.yml", *sized)
        overrides = _pairs(keys)
        if self.size == "smoke" and "DATASETS.ROOT" not in self.overrides[::2]:
            herd = HERD.format(seed=known_species().index(species))
            overrides += ["DATASETS.NAMES", herd]
            overrides += ["DATASETS.ROOT", str(self.output / "datasets")]
        return [_config_file(name) for name in names], overrides


def known_species() -> list[str]:
    """Return the names of the files below configs/species."""
    return sorted(file.stem for file in (CONFIGS / "species").glob("*.yml"))


def choose(what: str, names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return names in the order of ``known``.

    Raises:
        ValueError: one is not known.
    """
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f"unknown {what} {name!r}{hint}; known: {', '.join(known)}")
    return [name for name in known if name in names]


def _config_file(name: str) -> Path:
    """Return a file below configs/, relative where one stands in the checkout."""
    path = CONFIGS / name
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _pairs(keys: dict[str, Any]) -> list[Any]:
    return [part for pair in keys.items() for part in pair]
