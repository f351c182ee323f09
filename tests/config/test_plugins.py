"""Modules of IMPORTS: found, imported before the keys are read, and with keys of their own."""

import pickle
import sys

import pytest

from openanimals.config import declare, defaults, get_cfg, load, load_text, node
from openanimals.utils.errors import UserError
from tests.config.conftest import mistakes

PLUGIN = """
from openanimals.config import SHARE, declare
declare("MODEL.LOSSES.MINE.ALPHA", 0.5, "weight of the far pairs", SHARE)
declare("MODEL.LOSSES.MINE.KIND", "soft", "how they are found", ("soft", "hard"))
"""
ALPHA, KIND = "MODEL.LOSSES.MINE.ALPHA", "MODEL.LOSSES.MINE.KIND"


@pytest.fixture(autouse=True)
def plugin(tmp_path, monkeypatch):
    """A module ``mine`` where the user stands; what it declares is forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text(PLUGIN)
    monkeypatch.setattr(defaults, "_TREE", get_cfg())
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    kept = [(held, dict(held)) for held in (node.DECLARED, node.RULES)]
    node.DECLARED.clear()
    yield tmp_path / "mine.py"
    for held, before in kept:
        held.clear()
        held.update(before)


def test_a_plugin_declares_keys_wherever_it_is_named(write):
    base = write("base.yml", "IMPORTS: [mine]\nMODEL: {LOSSES: {MINE: {ALPHA: 0.25}}}\n")
    cfg = load(write("one.yml", f"_BASE_: {base.name}\nIMPORTS: [json]\n"), [KIND, "hard"])
    assert (cfg.MODEL.LOSSES.MINE.ALPHA, cfg.MODEL.LOSSES.MINE.KIND) == (0.25, "hard")
    assert cfg.IMPORTS == ["mine", "json"]
    assert load(None, [ALPHA, "1", "IMPORTS", "mine"]).MODEL.LOSSES.MINE.ALPHA == 1.0
    assert load_text(cfg.dump()) == cfg  # as from a checkpoint


def test_mistakes_in_its_keys_are_told_with_all_others():
    overrides = ["IMPORTS", ["mine", "gone"], "MODEL.LOSSES.MINE.ALPA", 1, ALPHA, 2, KIND, "sof"]
    first, *others = mistakes(overrides=[*overrides, "SEED", "x"])
    assert first == (f"command line: unknown key MODEL.LOSSES.MINE.ALPA (did you mean {ALPHA!r}?)")
    assert "IMPORTS names 'gone', but there is no such module in" in others.pop(1)
    assert others == [
        "command line: SEED must be of type int, like 0, not 'x'",
        f"{ALPHA} must lie in 0..1, not 2.0",
        f"{KIND} is 'sof' (did you mean 'soft'?); allowed: soft, hard",
    ]
    (problem,) = mistakes(overrides=["IMPORTS", "mine", ALPHA, "much"])
    assert problem == f"command line: {ALPHA} must be of type float, like 0.5, not 'much'"


@pytest.mark.parametrize("name", ["", ".mine", "mine.py", "no such name"])
def test_names_that_are_no_modules(name):
    (problem,) = mistakes(overrides=["IMPORTS", [name]])
    assert problem.startswith(f"IMPORTS names {name!r}, but there is no such module in")


def test_a_configuration_can_be_pickled():
    cfg = load(None, ["IMPORTS", "mine"])
    assert pickle.loads(pickle.dumps(cfg)) == cfg


@pytest.mark.parametrize("key", [ALPHA, "MYPLUGIN.X", "MINE"])
def test_without_the_plugin_its_keys_are_unknown(key):
    (problem,) = mistakes(overrides=[key, 1])
    assert f"unknown key {key} (one of a plugin's? Then IMPORTS must name its module)" in problem


def test_a_run_without_the_plugin_is_written_down_without_its_keys():
    assert "ALPHA: 0.5" in load(None, ["IMPORTS", "mine"]).dump()
    other = load()  # in the same process, which knows the keys
    assert "KIND" not in other.dump() and other.MODEL.LOSSES.MINE.KIND == "soft"
    assert "ALPHA: 0.25" in load(None, [ALPHA, 0.25]).dump()


@pytest.mark.parametrize(
    ("key", "default", "meaning", "message"),
    [
        (ALPHA, 0.1, "again", f"the key {ALPHA}, which is there already"),
        ("SEED", 1, "ours", "the key SEED, which is there already"),
        ("SOLVER", 1, "a section", "the key SOLVER, which is there already"),
        ("SEED.MINE", 1, "in a key", "the key SEED.MINE, which is there already"),
        ("KD.MODEL_CONFIG", [], "FastReID's", "the key KD.MODEL_CONFIG, which is there already"),
        ("MINE", None, "no type", "expected a bool, int, float, str, list or tuple"),
        ("MINE", 1, "", "expected a bool, int, float, str, list or tuple, and a line of text"),
    ],
)
def test_declarations_that_are_refused(key, default, meaning, message):
    load(None, ["IMPORTS", "mine"])
    with pytest.raises(UserError, match=f"tests.config.test_plugins declares .*{message}"):
        declare(key, default, meaning)


def test_a_mistake_in_a_plugin_shows_where_it_is(plugin):
    plugin.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError) as error:
        load(None, ["IMPORTS", "mine"])
    assert error.traceback[-1].path == plugin
    plugin.write_text("import gone\n")
    with pytest.raises(ModuleNotFoundError, match="gone"):
        load(None, ["IMPORTS", "mine"])
