"""Which runs a table has, how long they train, and what was published about them."""

import re

import pytest

from openanimals.config import load
from openanimals.engine.check import describe_schedule
from reproduce.grid import CONFIGS, KNOWN_SPECIES, TABLES, Grid, scaled_schedule


def grid(folder, table="main", **settings):
    return Grid(table, folder, (), (), **settings)


def test_rows_and_species_are_files_that_load():
    for table in TABLES.values():
        for facts in table["rows"].values():
            for species in table["species"]:
                cfg = load([CONFIGS / facts["config"], CONFIGS / f"species/{species}.yml"])
                assert len(cfg.DATASETS.NAMES) == 1
    assert {"demo", "holstein", "nyala"} < set(KNOWN_SPECIES)


@pytest.mark.parametrize(("folder", "table"), [("ablations", "ablation"), ("techniques",) * 2])
def test_every_file_of_ablations_and_techniques_is_a_row(folder, table):
    files = {f"{folder}/{file.name}" for file in (CONFIGS / folder).glob("*.yml")}
    rows = {facts["config"] for facts in TABLES[table]["rows"].values()}
    assert files == {file for file in rows if "/" in file}


def test_what_is_the_same_is_trained_once(tmp_path):
    twins = grid(tmp_path, "techniques").twins
    bot = {row.rpartition("-")[0] for row, twin in twins.items() if twin == "random-erasing-on"}
    assert len(bot) == 11 and len(set(twins.values())) == 12
    assert twins["random-erasing-off"] == "random-erasing-off"
    assert all(row == twin for row, twin in grid(tmp_path).twins.items())


def test_seeds_change_the_batches_and_overrides_come_last(tmp_path):
    runs = grid(tmp_path, overrides=("SOLVER.BASE_LR", "0.1"))
    configs = [runs.run("BoT", "hyena", seed).config for seed in range(3)]
    batches = load().DATALOADER.SEED
    assert [(c.SEED, c.DATALOADER.SEED) for c in configs] == [(k, batches + k) for k in range(3)]
    assert str(tmp_path / "main/BoT/hyena/seed2") == configs[2].OUTPUT_DIR
    assert configs[0].SOLVER.BASE_LR == 0.1


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
        ("ARBase-fair", 50, 0, 10, [7, 15]),
    ],
)
def test_schedules_in_proportion(method, warm_up, frozen, delay, steps):
    solver = load(CONFIGS / f"Base-{method}.yml").SOLVER
    assert scaled_schedule(solver, epochs=20, iters_per_epoch=30) == {
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
    scaled = scaled_schedule(cfg.SOLVER, epochs=cfg.SOLVER.MAX_EPOCH, iters_per_epoch=47)
    assert scaled.items() <= dict(cfg.keys_and_values()).items()


def test_equal_budget_is_equal_for_all_rows(tmp_path):
    runs = grid(tmp_path, size="cpu", epochs=5)
    rows = [runs.run(row, "demo", 0, images=800) for row in TABLES["main"]["rows"]]
    configs = [run.config for run in rows if run.trains]
    assert len(configs) == len(rows) - 1  # HotSpotter's
    assert {(c.SOLVER.MAX_EPOCH, c.SOLVER.IMS_PER_BATCH, c.SOLVER.BASE_LR) for c in configs} == {
        (5, 32, 0.00035)
    }
    assert describe_schedule(configs[0], 800).startswith("5 epochs of 25 iterations, 125 in all; ")


def test_smoke_runs_draw_a_herd_for_each_species_unless_a_root_is_named(tmp_path):
    runs = grid(tmp_path, size="smoke", epochs=2)
    species = TABLES["main"]["species"]
    names = {runs.run("BoT", name, 0).config.DATASETS.NAMES for name in species}
    assert len(names) == 4 and all("SyntheticHerd" in name for (name,) in names)
    runs = grid(tmp_path, size="smoke", epochs=2, overrides=("DATASETS.ROOT", "somewhere"))
    assert runs.run("BoT", "hyena", 0).config.DATASETS.NAMES == ("Animals-HyenaID2022",)


def test_published_numbers(shared):
    """Against the tables of the facts that the project started from."""
    species = {
        "HyenaID2022": "hyena",
        "LeopardID2022": "leopard",
        "SeaTurtleIDHeads": "seaturtle",
        "WhaleSharkID": "whaleshark",
    }
    rows_of = {
        "BoT 256x128": ["BoT"],
        "BoT 384x384": ["BoT-384x384"],
        "ARBase without IBN": ["without-ibn"],
        "ARBase without multi-branch": [
            "without-multi-branch",
            "without-multi-branch-as-released",
        ],
        "ARBase without BNNeck": ["without-bnneck"],
        "ARBase without label smoothing": ["without-label-smoothing"],
        "ARBase without cosine annealing": ["without-cosine"],
    }
    text = (shared / "paper.md").read_text().split("## 1.")[1].split("## 2.")[0]
    read = {"Method": {}, "Ablation": {}}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in read:
            into, columns = read[cells[0]], [species[cell] for cell in cells[1:]]
        elif len(cells) > 2 and "---" not in cells[0]:
            pairs = [[float(n) for n in re.findall(r"[\d.]+", cell)] for cell in cells[1:]]
            for row in rows_of.get(cells[0], [cells[0]]):
                into[row] = dict(zip(columns, pairs, strict=True))

    def published(table):
        rows = TABLES[table]["rows"].items()
        return {row: facts["published"] for row, facts in rows if "published" in facts}

    assert read == {"Method": published("main"), "Ablation": published("ablation")}
    said = re.search(r"yes / no / mixed\): (.*?)\.\n", text)[1].split(", ")
    helps = [facts["helps"] for facts in TABLES["techniques"]["rows"].values()]
    assert [verdict.split()[-1] for verdict in said] == helps[::2] == helps[1::2]
