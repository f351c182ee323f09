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
