"""What the shipped files change: ablations of ARBase, techniques on BoT, the fair variants."""

import pytest

from openanimals.config import load
from openanimals.solver import build_schedule
from tests.conftest import REPOSITORY

CONFIGS = REPOSITORY / "configs"


def changed(first: str, second: str) -> dict:
    """The keys of the second file that the first has otherwise, and the second's values."""
    before, after = (
        dict(load(CONFIGS / f"{name}.yml").keys_and_values()) for name in (first, second)
    )
    return {key: value for key, value in after.items() if value != before[key]}


ABLATIONS = {
    "without-ibn": {"MODEL.BACKBONE.WITH_IBN": False},
    "without-multi-branch": {
        "MODEL.META_ARCHITECTURE": "Baseline",
        "MODEL.HEADS.BRANCHES": [[1]],
    },
    "without-multi-branch-as-released": {
        "MODEL.META_ARCHITECTURE": "Baseline",
        "MODEL.HEADS.BRANCHES": [[1]],
        "SOLVER.SCHED": "MultiStepLR",
        "SOLVER.DELAY_EPOCHS": 0,
        "SOLVER.ETA_MIN_LR": 1e-7,
    },
    "without-bnneck": {"MODEL.HEADS.WITH_BNNECK": False},
    "without-label-smoothing": {"MODEL.LOSSES.CE.EPSILON": 0.0},
    "without-cosine": {"SOLVER.SCHED": "MultiStepLR", "SOLVER.DELAY_EPOCHS": 0},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_one_thing_of_arbase(name):
    assert changed("Base-ARBase", f"ablations/{name}") == ABLATIONS[name]


def test_the_row_of_the_input_size_changes_it_of_bot():
    size = {"INPUT.SIZE_TRAIN": [384, 384], "INPUT.SIZE_TEST": [384, 384]}
    assert changed("Base-bagtricks", "ablations/bot-384x384") == size


def test_every_ablation_is_known_here():
    shipped = {path.stem for path in (CONFIGS / "ablations").iterdir()}
    assert shipped == {*ABLATIONS, "bot-384x384"}


# By technique: whether BoT has it, and what being on is, as opposed to off.
TECHNIQUES = {
    "random-erasing": (True, {"INPUT.REA.ENABLED": True}),
    "label-smoothing": (True, {"MODEL.LOSSES.CE.EPSILON": 0.1}),
    "last-stride-1": (True, {"MODEL.BACKBONE.LAST_STRIDE": 1}),
    "bnneck": (True, {"MODEL.HEADS.WITH_BNNECK": True}),
    "non-local": (False, {"MODEL.BACKBONE.WITH_NL": True}),
    "gem": (False, {"MODEL.HEADS.POOL_LAYER": "GeneralizedMeanPooling"}),
    "weighted-triplet": (
        False,
        {"MODEL.LOSSES.TRI.HARD_MINING": False, "MODEL.LOSSES.TRI.MARGIN": 0.0},
    ),
    "freeze-training": (
        False,
        {"MODEL.FREEZE_LAYERS": ["backbone"], "SOLVER.FREEZE_ITERS": 1000},
    ),
    "autoaugment": (False, {"INPUT.AUTOAUG.ENABLED": True, "INPUT.AUTOAUG.PROB": 0.1}),
    "cosine-annealing": (
        False,
        {
            "SOLVER.SCHED": "CosineAnnealingLR",
            "SOLVER.DELAY_EPOCHS": 60,
            "SOLVER.ETA_MIN_LR": 7e-7,
        },
    ),
    "multi-branch": (
        False,
        {"MODEL.META_ARCHITECTURE": "MGN", "MODEL.HEADS.BRANCHES": [[1], [1, 2], [1, 3]]},
    ),
}


@pytest.mark.parametrize("name", TECHNIQUES)
def test_a_technique_is_a_pair_of_which_one_is_bot(name):
    in_bot, on = TECHNIQUES[name]
    on_file, off_file = (f"techniques/{name}-{state}" for state in ("on", "off"))
    assert changed(off_file, on_file) == on
    assert changed("Base-bagtricks", on_file if in_bot else off_file) == {}


def test_every_technique_is_known_here():
    shipped = {path.stem for path in (CONFIGS / "techniques").iterdir()}
    assert shipped == {f"{name}-{state}" for name in TECHNIQUES for state in ("on", "off")}


FAIR = {"DATALOADER.NUM_INSTANCE": 4, "SOLVER.WARMUP_EPOCHS": 10, "SOLVER.FREEZE_EPOCHS": 5}


def test_the_fair_variants_change_sampler_warm_up_and_freezing():
    assert changed("Base-SBS", "Base-SBS-fair") == FAIR
    unfrozen_heads = {"MODEL.FREEZE_LAYERS": ["backbone", "b1", "b2", "b3"]}
    assert changed("Base-MGN", "Base-MGN-fair") == {**FAIR, **unfrozen_heads}
    assert changed("Base-ARBase", "Base-ARBase-fair") == {"SOLVER.WARMUP_EPOCHS": 10}


@pytest.mark.parametrize("base", ["Base-ARBase-fair", "Base-ARBase-lite"])
def test_a_base_for_ones_own_photographs_trains_at_the_full_rate(base):
    cfg = load(CONFIGS / f"{base}.yml")
    schedule = build_schedule(cfg, 250 // cfg.SOLVER.IMS_PER_BATCH)  # half of 500 photographs
    rates = [schedule.lr_at(i, cfg.SOLVER.BASE_LR) for i in range(schedule.max_iter)]
    assert rates.count(cfg.SOLVER.BASE_LR) > 0.2 * len(rates)
    assert rates[-1] < 0.1 * cfg.SOLVER.BASE_LR
    assert not schedule.caveats(cfg.SOLVER.BASE_LR)


@pytest.mark.parametrize("species", sorted((CONFIGS / "species").iterdir()), ids=lambda p: p.stem)
def test_a_species_names_its_data_and_nothing_else(species):
    defaults, values = (dict(cfg.keys_and_values()) for cfg in (load(), load(species)))
    differing = {key for key in values if values[key] != defaults[key]}
    assert "DATASETS.NAMES" in differing
    assert all(key.startswith("DATASETS.") for key in differing)
