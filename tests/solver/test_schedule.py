"""The closed form against recorded rates of the release, and its own words."""

import numpy as np
import pytest

from openanimals.config import get_cfg
from openanimals.solver import SCHEDULE_REGISTRY, Schedule, build_schedule
from openanimals.utils.errors import UserError
from tests.reference import load_arrays, load_json

RECORDED = load_json("lr_schedules.json")


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_rates_equal_the_recorded_ones(name):
    facts = RECORDED[name]
    schedule = Schedule(
        iters_per_epoch=facts["iters_per_epoch"],
        max_epoch=facts["max_epoch"],
        kind=facts["sched"],
        warmup_iters=facts["warmup_iters"],
        delay_epochs=facts["delay_epochs"],
        eta_min=facts["eta_min"],
        steps=facts["steps"],
        gamma=facts["gamma"],
    )
    arrays = load_arrays("lr_schedules.npz")
    ipe, epochs = facts["iters_per_epoch"], facts["max_epoch"]
    first = [schedule.lr_at(e * ipe, facts["base_lr"]) for e in range(epochs)]
    last = [schedule.lr_at((e + 1) * ipe - 1, facts["base_lr"]) for e in range(epochs)]
    np.testing.assert_allclose(first, arrays[f"{name}_epoch_first"], rtol=1e-12, atol=0)
    np.testing.assert_allclose(last, arrays[f"{name}_epoch_last"], rtol=1e-12, atol=0)


@pytest.mark.parametrize(("method", "expected"), [("constant", 0.1), ("exp", 0.1**0.75)])
def test_other_warmups(method, expected):
    schedule = Schedule(10, 2, warmup_iters=4, warmup_method=method)
    assert schedule.lr_at(1, 1.0) == pytest.approx(expected)


def test_description_names_the_turning_points_of_hyena():
    text = "\n".join(
        Schedule(23, 120, warmup_iters=2000, delay_epochs=60, eta_min=7e-7).describe(3.5e-4)
    )
    assert "120 epochs of 23 iterations, 2760 in all" in text
    assert "iterations 0..1999 (until epoch 86)" in text
    assert "cosine from epoch 87 to 119" in text


def test_description_warns_of_an_endless_warmup():
    assert "ends before warm-up" in Schedule(10, 5, warmup_iters=2000).describe(1.0)[-1]


@pytest.mark.parametrize(
    ("warmup", "frozen", "told"),
    [
        (25, 25, []),  # of 100 iterations
        (26, 0, ["warm-up takes 26 of 100 iterations; set SOLVER.WARMUP_EPOCHS 1"]),
        (200, 0, ["warm-up takes 200 of 100 iterations, so the rate gets to 0.55 of 1"]),
        (0, 500, ["MODEL.FREEZE_LAYERS are frozen for 100 of 100 iterations; set SOLVER.FREEZE_E"]),
    ],
)
def test_what_is_too_long_for_a_run_is_told_with_the_key_that_mends_it(warmup, frozen, told):
    caveats = Schedule(10, 10, warmup_iters=warmup).caveats(1.0, frozen)
    assert len(caveats) == len(told)
    assert all(map(str.startswith, caveats, told))


def test_a_schedule_of_ones_own(monkeypatch):
    monkeypatch.setattr(SCHEDULE_REGISTRY, "_entries", dict(SCHEDULE_REGISTRY._entries))

    @SCHEDULE_REGISTRY.register("PolyLR")
    def poly(schedule, iteration, base_lr):
        done = (iteration - schedule.warmup_iters) / (schedule.max_iter - schedule.warmup_iters)
        return base_lr * (1 - done) ** schedule.cfg.SOLVER.GAMMA

    cfg = get_cfg()
    cfg.SOLVER.SCHED, cfg.SOLVER.MAX_EPOCH, cfg.SOLVER.WARMUP_ITERS = "PolyLR", 3, 2
    cfg.SOLVER.GAMMA = 2.0
    schedule = build_schedule(cfg, iters_per_epoch=4)
    assert [schedule.lr_at(i, 1.0) for i in (1, 2, 7)] == pytest.approx([0.55, 1, 0.25])
    assert "decay by PolyLR; last rate 0.01" in schedule.describe(1.0)[-1]
    cfg.SOLVER.SCHED = "PolyL"
    with pytest.raises(UserError, match=r"SOLVER\.SCHED. 'PolyL' .did you mean 'PolyLR'"):
        build_schedule(cfg, iters_per_epoch=4)
