"""Which cells a table has, how long they train, and what was published about them."""

import re

import pytest

from openanimals.config import load
from openanimals.engine.reproduction import grid as grids
from openanimals.engine.reproduction import published
from openanimals.engine.reproduction.budget import scaled_schedule
from openanimals.engine.reproduction.grid import CONFIGS, TABLES, Grid
from openanimals.engine.reproduction.request import request_of
from tests.engine.reproduction import options


def test_rows_and_species_are_files_that_load():
    for table, rows in TABLES.items():
        for row in rows:
            for species in grids.SPECIES[table]:
                cfg = load([CONFIGS / rows[row], CONFIGS / f"species/{species}.yml"])
                assert len(cfg.DATASETS.NAMES) == 1
    assert {"demo", "holstein", "nyala"} < set(grids.known_species())


def test_every_file_of_ablations_and_techniques_is_a_row():
    for folder, table in (("ablations", "ablation"), ("techniques", "techniques")):
        files = {f"{folder}/{file.name}" for file in (CONFIGS / folder).glob("*.yml")}
        assert files == {file for file in TABLES[table].values() if "/" in file}


def test_what_is_the_same_is_trained_once(tmp_path):
    twins = Grid("techniques", tmp_path).twins
    bot = {row for row, twin in twins.items() if twin == twins["random-erasing-on"]}
    assert len(bot) == 11 and len(set(twins.values())) == 12
    assert {row.rpartition("-")[0] for row in bot} == set(published.VERDICTS)
    assert "random-erasing-on" in bot and "random-erasing-off" not in bot
    cells = list(Grid("techniques", tmp_path).cells(list(TABLES["techniques"]), "demo", 2, 100))
    assert len(cells) == 24
    assert all(row == twin for row, twin in Grid("main", tmp_path).twins.items())


def test_seeds_change_the_batches_and_seed_0_is_published(tmp_path):
    published_batches = load().DATALOADER.SEED
    cells = list(Grid("main", tmp_path).cells(["BoT"], "hyena", 3, 1535))
    seeds = [(cell.config.SEED, cell.config.DATALOADER.SEED) for cell in cells]
    assert seeds == [(k, published_batches + k) for k in range(3)]
    assert cells[2].folder == tmp_path / "main/BoT/hyena/seed2"


def test_overrides_come_last_but_for_what_the_tool_sets(tmp_path):
    grid = Grid("main", tmp_path, overrides=("SOLVER.BASE_LR", "0.1"))
    (cell,) = grid.cells(["BoT"], "hyena", 1, 1535)
    assert cell.config.SOLVER.BASE_LR == 0.1 and str(cell.folder) == cell.config.OUTPUT_DIR
    for key, option in (("SEED", "--seeds"), ("OUTPUT_DIR", "--output")):
        with pytest.raises(ValueError, match=f"{key} is set for each cell.*{option}"):
            Grid("main", tmp_path, overrides=(key, "1")).check()
    with pytest.raises(ValueError, match="--epochs"):
        Grid("main", tmp_path, epochs=3, overrides=("SOLVER.MAX_EPOCH", "9")).check()


@pytest.mark.parametrize(
    ("method", "warm_up", "frozen", "delay", "steps"),
    [  # over 20 epochs of 30 iterations; 600 * 2000 / (120 * 47) = 212.8, and so on
        ("bagtricks", 213, 0, 0, [7, 15]),
        ("AGW", 213, 0, 0, [7, 15]),
        ("SBS", 426, 213, 10, [13, 30]),
        ("MGN", 426, 213, 10, [13, 30]),
        ("SBS-fair", 100, 50, 10, [13, 30]),
        ("MGN-fair", 100, 50, 10, [13, 30]),
        ("ARBase", 213, 0, 10, [7, 15]),
    ],
)
def test_schedules_in_proportion(method, warm_up, frozen, delay, steps):
    cfg = load(CONFIGS / f"Base-{method}.yml")
    scaled = scaled_schedule(cfg, epochs=20, iters_per_epoch=30)
    assert dict(zip(scaled[::2], scaled[1::2], strict=True)) == {
        "SOLVER.MAX_EPOCH": 20,
        "SOLVER.WARMUP_EPOCHS": 0,
        "SOLVER.WARMUP_ITERS": warm_up,
        "SOLVER.FREEZE_EPOCHS": 0,
        "SOLVER.FREEZE_ITERS": frozen,
        "SOLVER.DELAY_EPOCHS": delay,
        "SOLVER.STEPS": steps,
    }


@pytest.mark.parametrize("method", ["bagtricks", "AGW", "SBS", "MGN", "ARBase"])
def test_the_published_budget_is_the_published_schedule(method):
    cfg = load(CONFIGS / f"Base-{method}.yml")
    scaled = scaled_schedule(cfg, epochs=cfg.SOLVER.MAX_EPOCH, iters_per_epoch=47)
    again = load(CONFIGS / f"Base-{method}.yml", scaled)
    assert dict(again.keys_and_values()) == dict(cfg.keys_and_values())


def test_equal_budget_is_equal_for_all_rows(tmp_path):
    grid = Grid("main", tmp_path, size="cpu", epochs=5)
    solvers = [c.config.SOLVER for c in grid.cells(list(TABLES["main"]), "demo", 1, 800)]
    assert len(solvers) == 7
    assert {(s.MAX_EPOCH, s.IMS_PER_BATCH, s.BASE_LR) for s in solvers} == {
        (5, solvers[0].IMS_PER_BATCH, 0.00035)
    }


def test_toy_cells_draw_a_herd_for_each_species_unless_a_root_is_named(tmp_path):
    grid = Grid("main", tmp_path, size="smoke", epochs=2)
    names = {grid.unseeded("BoT", species).DATASETS.NAMES for species in grids.SPECIES["main"]}
    assert len(names) == 4 and all("SyntheticHerd" in name for (name,) in names)
    grid = Grid("main", tmp_path, "smoke", 2, ("DATASETS.ROOT", "somewhere"))
    assert grid.unseeded("BoT", "hyena").DATASETS.NAMES == ("Animals-HyenaID2022",)


def test_command_lines():
    asked = request_of(
        options(table="main", species=["demo", "MODEL.DEVICE", "cpu"]), ["reproduce"]
    )
    assert asked.species == ["demo"] and asked.overrides == ["MODEL.DEVICE", "cpu"]
    asked = request_of(options(table="main", methods=["SBS", "SEED", "1"], opts=["A.B", "2"]), [])
    assert asked.rows == ["SBS"] and asked.overrides == ["SEED", "1", "A.B", "2"]
    assert asked.seeds == 3
    asked = request_of(options(smoke=True), [])
    assert (asked.seeds, asked.size, asked.tables) == (1, "smoke", tuple(TABLES))
    with pytest.raises(ValueError, match="--table"):
        request_of(options(), [])
    with pytest.raises(ValueError, match="--smoke"):
        request_of(options(smoke=True, size="cpu"), [])


def test_published_numbers(shared):
    """Against the tables of the facts that the project started from."""
    species = {
        "HyenaID2022": "hyena",
        "LeopardID2022": "leopard",
        "SeaTurtleIDHeads": "seaturtle",
        "WhaleSharkID": "whaleshark",
    }
    labels = {
        "BoT 256x128": ("BoT",),
        "BoT 384x384": ("BoT-384x384",),
        "ARBase without IBN": ("without-ibn",),
        "ARBase without multi-branch": (
            "without-multi-branch",
            "without-multi-branch-as-released",
        ),
        "ARBase without BNNeck": ("without-bnneck",),
        "ARBase without label smoothing": ("without-label-smoothing",),
        "ARBase without cosine annealing": ("without-cosine",),
    }
    text = (shared / "paper.md").read_text().split("## 1.")[1].split("## 2.")[0]
    read = {"Method": {}, "Ablation": {}}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in read:
            into, columns = read[cells[0]], [species[cell] for cell in cells[1:]]
        elif len(cells) > 2 and "---" not in cells[0]:
            pairs = [tuple(map(float, re.findall(r"[\d.]+", cell))) for cell in cells[1:]]
            for row in labels.get(cells[0], (cells[0],)):
                into[row] = dict(zip(columns, pairs, strict=True))
    assert read["Method"] == published.MAIN
    assert read["Ablation"] == published.ABLATION
    said = re.search(r"yes / no / mixed\): (.*?)\.\n", text)[1].split(", ")
    assert len(said) == 11
    assert [verdict.split()[-1] for verdict in said] == list(published.VERDICTS.values())
