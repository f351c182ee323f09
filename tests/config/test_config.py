"""From files and overrides to a tree of keys: what is merged, refused and filled in."""

import pytest

from openanimals.config import ConfigError, check, get_cfg, load, load_text
from tests.config.conftest import mistakes
from tests.conftest import REPOSITORY

# Files


def test_a_base_is_relative_to_its_file_and_comes_first(write, tmp_path, monkeypatch):
    # YAML reads 1e-4, without a point, as text.
    write("base.yml", "SEED: 1\nSOLVER: {MAX_EPOCH: 7, BASE_LR: 1e-4}\n")
    path = write("species/one.yml", "_BASE_: ../base.yml\nSOLVER: {MAX_EPOCH: 8}\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    cfg = load(path)
    assert (cfg.SEED, cfg.SOLVER.MAX_EPOCH, cfg.SOLVER.BASE_LR) == (1, 8, 1e-4)


def test_of_several_bases_the_later_one_wins(write):
    write("method.yml", "SEED: 1\nOUTPUT_DIR: method\nLOG_PERIOD: 3\n")
    write("species.yml", "_BASE_: root.yml\nOUTPUT_DIR: species\n")
    write("root.yml", "SEED: 2\nOUTPUT_DIR: root\n")
    cfg = load(write("both.yml", "_BASE_: [method.yml, species.yml]\n"))
    assert (cfg.SEED, cfg.OUTPUT_DIR, cfg.LOG_PERIOD) == (2, "species", 3)


def test_several_files_are_merged_in_order_into_a_folder_of_their_names(write):
    method = write("method.yml", "SEED: 1\nLOG_PERIOD: 3\n")
    species = write("species/cat.yml", "SEED: 2\n")
    cfg = load([method, str(species)], ["LOG_PERIOD", 4])
    assert (cfg.SEED, cfg.LOG_PERIOD, cfg.OUTPUT_DIR) == (2, 4, "logs/method+cat")
    assert load([method]) == load(method)
    assert load([]) == load() == load(write("empty.yml", "# nothing yet\n"))
    assert load(method).OUTPUT_DIR == get_cfg().OUTPUT_DIR
    named = write("named.yml", "OUTPUT_DIR: elsewhere\n")
    assert load([named, species]).OUTPUT_DIR == "elsewhere"
    assert load([method, species], ["OUTPUT_DIR", "logs/"]).OUTPUT_DIR == "logs/"


def test_mistakes_of_several_files_are_listed_together(write):
    files = [write("one.yml", "SEEDS: 1\n"), "gone.yml", write("two.yml", "SEED: x\n")]
    assert [problem.split("/")[-1].split(":")[0] for problem in mistakes(files)] == [
        "one.yml",
        "gone.yml",
        "two.yml",
    ]


def test_a_base_may_be_reached_twice_but_not_from_itself(write):
    write("root.yml", "SEED: 3\n")
    write("left.yml", "_BASE_: root.yml\n")
    write("right.yml", "_BASE_: root.yml\n")
    assert load(write("both.yml", "_BASE_: [left.yml, right.yml]\n")).SEED == 3
    one = write("one.yml", "_BASE_: two.yml\nSEED: 4\n")
    write("two.yml", "_BASE_: one.yml\n")
    (problem,) = mistakes(one)
    assert problem.endswith("one.yml: is its own _BASE_")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", "is not YAML"),
        ("- a\n- b\n", "expected keys and values, found list"),
        ("_BASE_: gone.yml\n", "gone.yml: cannot be read"),
        *(
            (f"_BASE_: {base}\n", "one.yml: _BASE_ must be a file or a list of files, not ")
            for base in ("5", "{a: b}", "[1]", "")
        ),
    ],
)
def test_files_that_are_none(write, text, message):
    (problem,) = mistakes(write("one.yml", text))
    assert message in problem


@pytest.mark.parametrize("name", ["configs/ARBase/demo.yml", "ARBase/demo.yml"])
def test_a_file_that_is_not_here_is_taken_from_the_shipped_ones(write, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shipped = load(REPOSITORY / "configs/ARBase/demo.yml")
    assert load(name) == load(write("mine/one.yml", f"_BASE_: {name}\n")) == shipped
    assert load(write("mine/copy.yml", "_BASE_: ../Base-ARBase.yml\n")).SOLVER.MAX_EPOCH == 120
    write(name, "SEED: 5\n")
    assert load(name).SEED == 5


@pytest.mark.parametrize("name", ["configs/ARBase/demmo.yml", "demmo.yml", "/none/demmo.yml"])
def test_a_wrong_path_names_the_closest_shipped_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (problem,) = mistakes(name)
    assert problem.startswith(f"{name}: cannot be read (")
    assert problem.endswith((" (did you mean 'ARBase/demo.yml'?)", "'species/demo.yml'?)"))


# Keys


@pytest.mark.parametrize(
    ("key", "closest"),
    [
        ("SOLVER.MAX_EPOCHS", "SOLVER.MAX_EPOCH"),
        ("MODEL.HEAD.NUM_CLASSES", "MODEL.HEADS.NUM_CLASSES"),
        ("solver.base_lr", "SOLVER.BASE_LR"),
        ("BRANCHES", "MODEL.HEADS.BRANCHES"),
    ],
)
def test_an_unknown_key_names_the_closest(key, closest):
    (problem,) = mistakes(overrides=[key, 1])
    assert problem == f"command line: unknown key {key} (did you mean {closest!r}?)"


def test_a_section_is_no_value_and_a_value_no_section():
    (problem,) = mistakes(overrides=["SOLVER.AMP", True])
    assert problem.endswith("SOLVER.AMP is a section with keys of its own, not a value")
    (problem,) = mistakes(overrides=["SEED.AMP", 1])
    assert "unknown key SEED.AMP" in problem


def test_a_key_without_a_value():
    (problem,) = mistakes(overrides=["SEED", 1, "LOG_PERIOD"])
    assert problem == "command line: 'LOG_PERIOD' has no value (KEY VALUE pairs)"


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("SOLVER.BASE_LR", 1, 1.0),
        ("SOLVER.BASE_LR", "1e-4", 1e-4),
        ("SOLVER.MAX_EPOCH", "12", 12),
        ("SOLVER.AMP.ENABLED", "true", True),
        ("SOLVER.AMP.ENABLED", "False", False),
        ("DATASETS.NAMES", "folder:my photos", ("folder:my photos",)),
        ("DATASETS.NAMES", ["a", "b"], ("a", "b")),
        ("DATASETS.NAMES", "('a', 'b')", ("a", "b")),
        ("SOLVER.STEPS", (1, 2), [1, 2]),
        ("INPUT.SIZE_TRAIN", "[64, 32]", [64, 32]),
        ("MODEL.WEIGHTS", 7, "7"),
        ("OUTPUT_DIR", "1e3", "1e3"),
        ("OUTPUT_DIR", "007", "007"),
        ("OUTPUT_DIR", "'quoted'", "quoted"),
    ],
)
def test_values_take_the_type_of_the_default(key, given, expected):
    value = dict(load(None, [key, given]).keys_and_values())[key]
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("SOLVER.BASE_LR", "fast", "float"),
        ("SOLVER.BASE_LR", True, "float"),
        ("SOLVER.MAX_EPOCH", 1.5, "int"),
        ("SOLVER.AMP.ENABLED", 1, "bool"),
        ("DATASETS.NAMES", 3, "tuple"),
        ("INPUT.SIZE_TRAIN", 384, "list"),
        ("OUTPUT_DIR", None, "str"),
        ("OUTPUT_DIR", ["a"], "str"),
    ],
)
def test_a_value_of_another_type_is_refused(key, value, kind):
    (problem,) = mistakes(overrides=[key, value])
    assert problem.startswith(f"command line: {key} must be of type {kind}, like ")
    assert problem.endswith(f"not {value!r}")


def test_every_mistake_of_files_overrides_and_values_is_listed(write):
    write("base.yml", "SEEDS: 1\n")
    path = write("one.yml", "_BASE_: base.yml\nSOLVER: {WARMUP_METHOD: liner}\n")
    found = mistakes(path, ["SEED", "x", "TEST.IMS_PER_BATCH", 0])
    assert [problem.rsplit("/", 1)[-1] for problem in found] == [
        "base.yml: unknown key SEEDS (did you mean 'SEED'?)",
        "command line: SEED must be of type int, like 0, not 'x'",
        "SOLVER.WARMUP_METHOD is 'liner' (did you mean 'linear'?); allowed: linear, constant, exp",
        "TEST.IMS_PER_BATCH must be above 0, not 0",
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["INPUT.SIZE_TEST", [64]], "INPUT.SIZE_TEST must be [height, width] in pixels"),
        (["INPUT.SIZE_TEST", ["a", 1]], "INPUT.SIZE_TEST must be [height, width] in pixels"),
        (["INPUT.FLIP.PROB", 2], "INPUT.FLIP.PROB must lie in 0..1"),
        (["MODEL.DEVICE", "cuda:x"], "MODEL.DEVICE is 'cuda:x'"),
        (["MODEL.HEADS.BRANCHES", [1, 2]], "MODEL.HEADS.BRANCHES must list, branch by branch"),
        (["DATASETS.SPLIT", "file"], "so DATASETS.SPLIT_FILE must name it"),
        (["DATASETS.SPLIT_FILE", "s.json"], "DATASETS.SPLIT_FILE is 's.json', but DATASETS.SPLIT"),
        (
            [
                *("DATASETS.SPLIT", "file", "DATASETS.SPLIT_FILE", "s.json"),
                "DATASETS.NAMES",
                ["b", "a"],
            ],
            "DATASETS.SPLIT is 'file', which splits one data set, not 2: a, b",
        ),
        (["SOLVER.NESTEROV", True], "SOLVER.NESTEROV is for SGD, not for Adam"),
        (
            ["TEST.RERANK.ENABLED", True, "TEST.RERANK.K1", 5],
            "TEST.RERANK.K2 (6) must be at most TEST.RERANK.K1 (5)",
        ),
        (["MODEL.PIXEL_STD", [1, 2, 0]], "MODEL.PIXEL_STD must be three numbers above 0"),
    ],
)
def test_values_that_cannot_be(overrides, message):
    (problem,) = mistakes(overrides=overrides)
    assert problem.startswith(message) or problem.endswith(message)


# What follows from other keys


@pytest.mark.parametrize(
    ("name", "branches"), [("Baseline", [[1]]), ("MGN", [[1], [1, 2], [1, 3]])]
)
def test_the_architecture_fills_the_branches_unless_they_are_given(name, branches):
    assert branches == load(None, ["MODEL.META_ARCHITECTURE", name]).MODEL.HEADS.BRANCHES
    given = ["MODEL.META_ARCHITECTURE", name, "MODEL.HEADS.BRANCHES", [[1], [4]]]
    assert load(None, given).MODEL.HEADS.BRANCHES == [[1], [4]]


def test_data_sets_are_tested_on_themselves_unless_others_are_named():
    assert load(None, ["DATASETS.NAMES", ["a", "b"]]).DATASETS.TESTS == ("a", "b")
    assert load(None, ["DATASETS.NAMES", "a", "DATASETS.TESTS", "c"]).DATASETS.TESTS == ("c",)


def test_a_loaded_tree_is_frozen_and_the_defaults_stay_as_they_are():
    cfg = load(None, ["MODEL.HEADS.BRANCHES", [[1], [2]]])
    with pytest.raises(AttributeError):
        cfg.SEED = 3
    cfg.MODEL.HEADS.BRANCHES.append([1])
    assert get_cfg().MODEL.HEADS.BRANCHES == []
    changed = get_cfg()
    changed.SOLVER.WARMUP_METHOD = "liner"
    with pytest.raises(ConfigError, match="did you mean 'linear'"):
        check(changed)


def test_merging_directly_raises(write):
    cfg = get_cfg()
    with pytest.raises(ConfigError, match="did you mean 'SEED'"):
        cfg.merge_from_file(write("one.yml", "SEEDS: 1\n"))
    with pytest.raises(ConfigError, match="did you mean 'SEED'"):
        cfg.merge_from_list(["SEEDS", 1])


# What is written down


@pytest.mark.parametrize("name", [None, "Base-bagtricks", "Base-ARBase", "ARBase/demo"])
def test_what_is_dumped_loads_to_the_same(name):
    file = REPOSITORY / "configs" / f"{name}.yml" if name else None
    cfg = load(file, ["DATASETS.NAMES", "folder:Größe 1", "SOLVER.ETA_MIN_LR", 1e-9])
    assert load_text(cfg.dump()) == cfg
    assert load_text(cfg.dump(), ["SEED", 5]).SEED == 5


def test_the_text_of_a_checkpoint_is_named_in_its_mistakes():
    with pytest.raises(ConfigError, match=r"old\.pth: unknown key SEEDS"):
        load_text("SEEDS: 1\n", where="old.pth")
