"""What no configuration may be: a key twice, a bomb, a number outside of its domain."""

import math
import time

import pytest

from openanimals.config import get_cfg, load, load_text
from openanimals.config.node import RULES, ConfigError
from tests.config.conftest import mistakes


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("SEED: 1\nLOG_PERIOD: 3\nSEED: 2\n", "SEED", (3, 1)),
        ("SOLVER: {MAX_EPOCH: 3}\nSEED: 1\nSOLVER:\n  BASE_LR: 1.0\n", "SOLVER", (3, 1)),
        ("SOLVER:\n  MAX_EPOCH: 3\n  MAX_EPOCH: 4\n", "SOLVER.MAX_EPOCH", (3, 2)),
        ("SOLVER.MAX_EPOCH: 3\nSOLVER: {MAX_EPOCH: 4}\n", "SOLVER.MAX_EPOCH", (2, 1)),
    ],
)
def test_a_repeated_key_is_told_with_its_lines(write, text, key, lines):
    path = write("one.yml", text)
    told = f"{path}: line {lines[0]}: the key {key} stands in line {lines[1]} already"
    assert mistakes(path) == mistakes(write("two.yml", f"_BASE_: {path.name}\n")) == [told]


def test_a_section_in_two_notations_is_no_repetition():
    cfg = load_text("SOLVER.MAX_EPOCH: 3\nSOLVER: {BASE_LR: 1.0}\n")
    assert (cfg.SOLVER.MAX_EPOCH, cfg.SOLVER.BASE_LR) == (3, 1.0)


BOMB = "a: &a0 [x, x]\n" + "".join(
    f"b{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "SEED: &a [*a]\n",
        "SEED: " + "[" * 5000,
        "".join(f"KEY{i}: {i}\n" for i in range(60000)),
        "SEED: !!int x\n",
        "SEED: !!timestamp x\n",
        "SEED: !!python/object/apply:os.getcwd []\n",
        "? [a]\n: b\n",
        "<<: 5\n",
    ],
)
def test_bombs_and_odd_values_are_refused_quickly_with_their_line(text):
    start = time.perf_counter()
    with pytest.raises(ConfigError, match=r"model\.pth: line \d+: ") as error:
        load_text(text, where="model.pth")
    assert time.perf_counter() - start < 10 and len(str(error.value)) < 1000


@pytest.mark.parametrize("value", ["9" * 9000, "x" * 9000, "0x" + "f" * 9000, "[" + "1," * 9000])
def test_long_values_are_shortened(value):
    with pytest.raises(ConfigError) as error:
        load_text(f"SEED: '{value}'")
    assert len(str(error.value)) < 500


def test_bases_that_name_each_other_exponentially(write):
    for number in range(30):
        write(f"{number}.yml", f"_BASE_: [{number + 1}.yml, {number + 1}.yml]\n")
    write("30.yml", "SEED: 1\n")
    (problem,) = mistakes(write("one.yml", "_BASE_: 0.yml\n"))
    assert problem.endswith("one.yml: its _BASE_ leads to more than 100 files")


def test_numbers_are_read_as_they_are_written():
    cfg = load_text("OUTPUT_DIR: 010\nMODEL: {WEIGHTS: 12:30, CAVEAT: 2024-01-05}\n")
    assert (cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS, cfg.MODEL.CAVEAT) == ("010", "12:30", "2024-01-05")
    with pytest.raises(ConfigError, match="SEED must be of type int"):
        load_text("SEED: 010")  # neither 8 nor 10


def numeric(value) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(map(numeric, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


NUMBERS = {key: value for key, value in get_cfg().keys_and_values() if numeric(value)}


def test_every_number_has_a_domain():
    assert NUMBERS.keys() - RULES.keys() == {"TEST.EVAL_PERIOD"}  # 0 or less: only at the end


@pytest.mark.parametrize("key", NUMBERS)
def test_no_number_may_be_infinite(key):
    default = NUMBERS[key]
    for odd in (math.inf, math.nan, *([2**64] if isinstance(default, int) else [])):
        value = [odd] * len(default) if isinstance(default, list) else odd
        with pytest.raises(ConfigError, match=rf"{key} must be "):
            load(None, [key, value])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((f"MODEL.LOSSES.{loss}.SCALE", -1) for loss in ("CE", "TRI", "CIRCLE", "COSFACE", "FL")),
        *((f"SOLVER.{key}", -0.1) for key in ("MOMENTUM", "GAMMA", "BASE_LR", "WEIGHT_DECAY")),
        *((f"SOLVER.{key}_LR_FACTOR", -1) for key in ("HEADS", "BIAS")),
        ("SOLVER.MOMENTUM", 1.0),
        ("SOLVER.GAMMA", 0),
        ("SOLVER.STEPS", [-3]),
        ("SOLVER.ETA_MIN_LR", -1e-7),
        ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", 0),
        ("MODEL.HEADS.SCALE", 0),
        ("MODEL.HEADS.MARGIN", 2.0),
        ("MODEL.LOSSES.TRI.MARGIN", -0.3),
        ("MODEL.LOSSES.CIRCLE.MARGIN", 5),
        ("INPUT.CJ.CONTRAST", 1.5),
        ("INPUT.CROP.SCALE", [0.5, 2.0]),
        ("INPUT.REA.VALUE", [-1, 0, 0]),
        ("MODEL.PIXEL_MEAN", [300, 0, 0]),
        ("OUTPUT_DIR", ""),
        ("OUTPUT_DIR", "s3://bucket/run"),
        ("MODEL.WEIGHTS", "https://example.org/model.pth"),
    ],
)
def test_values_outside_of_their_domain(key, value):
    (problem,) = mistakes(overrides=[key, value])
    assert problem.startswith(f"{key} must ")


def test_values_that_would_train_nothing():
    assert "nothing would be learnt" in mistakes(overrides=["MODEL.LOSSES.CE.SCALE", 0])[0]
    both = ["MODEL.LOSSES.NAME", ["CrossEntropyLoss", "TripletLoss"], "MODEL.LOSSES.CE.SCALE", 0]
    assert load(None, both).MODEL.LOSSES.CE.SCALE == 0
    unit = ["MODEL.PIXEL_MEAN", [0.485, 0.456, 0.406], "MODEL.PIXEL_STD", [0.229, 0.224, 0.225]]
    assert "multiply them by 255" in mistakes(overrides=unit)[0]
    assert load(None, ["MODEL.PIXEL_MEAN", [0, 0, 0], "MODEL.PIXEL_STD", [1, 1, 1]])


# What the command line says wins over what a file or a checkpoint says of the other key


@pytest.mark.parametrize("before", ["DATASETS: {NAMES: [a]}", "DATASETS: {NAMES: [a], TESTS: [a]}"])
def test_the_test_sets_follow_the_names_of_the_command_line(before):
    for text in (before, load_text(before).dump()):
        assert load_text(text, ["DATASETS.NAMES", "b"]).DATASETS.TESTS == ("b",)
        assert load_text(text, ["DATASETS.TESTS", "b"]).DATASETS.TESTS == ("b",)


def test_other_test_sets_that_were_chosen_stay():
    cfg = load_text("DATASETS: {NAMES: [a], TESTS: [c]}", ["DATASETS.NAMES", "b"])
    assert (cfg.DATASETS.NAMES, cfg.DATASETS.TESTS) == (("b",), ("c",))


def test_branches_and_warm_up_follow_the_command_line():
    mgn = load(None, ["MODEL.META_ARCHITECTURE", "MGN", "SOLVER.WARMUP_EPOCHS", 3])
    cfg = load_text(mgn.dump(), ["MODEL.META_ARCHITECTURE", "Baseline", "SOLVER.WARMUP_ITERS", 5])
    assert (cfg.MODEL.HEADS.BRANCHES, cfg.SOLVER.WARMUP_EPOCHS) == ([[1]], 0)


def test_a_written_configuration_follows_the_files_after_it(write):
    first = write("run.yaml", load(None, ["DATASETS.NAMES", "a"]).dump())
    assert load([first, write("other.yml", "DATASETS: {NAMES: [b]}")]).DATASETS.TESTS == ("b",)


# Words


@pytest.mark.parametrize("value", ["[folder: photos]", "{folder: photos}"])
def test_a_space_after_the_colon_of_a_data_set(value):
    with pytest.raises(ConfigError, match=r"(write folder:photos, without a|leave no) space after"):
        load_text(f"DATASETS: {{NAMES: {value}}}")


@pytest.mark.parametrize(
    ("key", "value"),
    [("DATASETS.NAMES", [2023]), ("MODEL.DEVICE", "auto:3"), ("IMPORTS", [".x"])],
)
def test_odd_values_are_one_clear_error(key, value):
    (problem,) = mistakes(overrides=[key, value])
    assert problem.startswith(key) and str(value).strip("[]") in problem


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("build_resnest_backbone", "did you mean 'timm/resnest50d'?"),
        ("build_osnet_backbone", "osnet is neither here nor in timm"),
        ("build_vit_backbone", "did you mean 'timm/vit_base_patch16_224'?"),
    ],
)
def test_fastreids_other_backbones_name_one_of_timm(name, said):
    overrides = ["MODEL.BACKBONE.NAME", name, "MODEL.BACKBONE.DEPTH", "base"]
    assert said in mistakes(overrides=overrides)[0]


@pytest.mark.parametrize("key", ["MODEL.HEADS.PFC.ENABLED", "TEST.DSR.ENABLED", "TEST.RECALLS"])
def test_keys_of_fastreids_projects_get_no_far_fetched_hint(key):
    (problem,) = mistakes(overrides=[key, 1])
    assert "did you mean" not in problem and "of FastReID's project" in problem
