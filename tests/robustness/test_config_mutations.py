"""Mutated configurations: files, bases and KEY VALUE pairs with wrong types, numbers and names.

The oracle, where a configuration loads instead of being refused:

- each key has the value that is written last for it, by a reading of our own: whole numbers as
  Python's ``int(text, 0)`` reads them, others as ``float``, texts letter by letter;
- no key is written twice in one file, and none is written that does not exist;
- every other key has its default; every value is in its domain, every number finite;
- dumped and loaded again, it is the same.
"""

import ast
import math
import re
from contextlib import suppress

import pytest
import yaml
from hypothesis import strategies as st

from openanimals.config import get_cfg, load, load_text
from tests.robustness.fuzz import REFUSED, answer, few_and_many, fuzz

words = str.split

DEFAULTS = dict(get_cfg().keys_and_values())
FILLED = {"MODEL.HEADS.BRANCHES", "DATASETS.TESTS"}  # from other keys, where they are empty
MAY_BE_NEGATIVE = {"TEST.EVAL_PERIOD", "MODEL.LOSSES.CE.EPSILON", "MODEL.PIXEL_MEAN"}
ABOVE_ZERO = re.compile(r"(BASE_LR|HEADS\.SCALE|IMS_PER_BATCH|PERIOD|_STD|SIZE_TEST|MAX_EPOCH)$")
AT_MOST_ONE = re.compile(r"(PROB|MOMENTUM|FRACTION|LAMBDA|EPSILON|WARMUP_FACTOR)$")

NUMBERS = [
    *words("0 1 -1 2 0.5 -0.5 1.0 1. .5 +1 -0.0 1e-4 1e3 1.0e+3 1e400 1e-400 1e308 017 0x1F 0o17"),
    *words("0b11 1_000 1:30 12:30:45 10**9 1,5 2**31 '3' ² ٣ .nan .inf -.inf nan inf -inf"),
    *("!!int '7'", "!!float 3", '"0.1"', "9" * 19, "-" + "9" * 30, "9" * 400, "9" * 5000),
]
SCALARS = [
    *words("true False yes off n ~ null None '' '''' a é << .x a:b a/../b # ~nobody/x /dev/null"),
    *words("2024-02-29 2024-02-30 &a *a cuda:² cuda:-1 cuda:1 gpu CPU"),
    *("", "' '", "a b", '"a\\nb"', "'\u202e'", "2024-02-29 10:00:00", "!!binary aGk=", "!!str 3"),
    *("!!set {a}", "!!python/name:os.system", "!!timestamp a", "!!bool x", "!x y", "x" * 3000),
    *('"\\0"', '"\\x1b[2J"', '"\\ud800"'),
]
LISTS = [
    *words("[] {} [1,2] [1] [[1],[1,2]] [1,[2]] [a,1] [~] [''] [[]] [0,0] [-1,4] [.nan,1] (1,2)"),
    *words("[1,.inf,2] [1.5,2.5] [true,3] ('a','b') [256,128] [1e400,1,1] [010,7] [0.5,0.25]"),
    *("{a: 1}", "[a: b]", "{[1]: 2}", "? [1]", "'{[]: 1}'", "[" * 200, "[" * 60 + "]" * 60),
    *("{a: " * 90 + "1" + "}" * 90, "'" + "(" * 300 + "'"),
]
VALUES = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(SCALARS),
    st.sampled_from(LISTS),
    st.integers().map(str),
    st.floats(width=32).map(repr),
    st.lists(st.sampled_from(NUMBERS + SCALARS), max_size=4).map(lambda v: f"[{', '.join(v)}]"),
)
BASES = ("gone.yml", "file.yml", "[base.yml, base.yml]", "5", "", "[1]", ".", "~nobody/x", "/dev")


def written(value) -> str:
    """A default as one writes it in YAML."""
    text: str = yaml.safe_dump(list(value) if isinstance(value, tuple) else value)
    return text.removesuffix("...\n").strip()


@st.composite
def keys(draw) -> str:
    """A dotted key: right mostly, else misspelt, too deep, too short or of another section."""
    key = draw(st.sampled_from(sorted(DEFAULTS)))
    at = draw(st.integers(0, len(key) - 1))
    wrong = [key.lower(), key[:at] + key[at + 1 :], f"{key}.X", f"SOLVER.{key}", "INPUT.CJ"]
    return draw(st.sampled_from([key] * 100 + wrong))


@st.composite
def values(draw, key: str) -> str:
    """What stands behind a key: its default, or something odd of its kind or of any."""
    default = DEFAULTS.get(key, 1)
    if draw(st.integers(0, 2)):
        return written(default)
    if draw(st.integers(0, 3)) == 0:
        return draw(VALUES)
    odd = {bool: SCALARS, str: SCALARS, list: LISTS, tuple: LISTS}.get(type(default), NUMBERS)
    return draw(st.sampled_from(odd))


PAIRS = keys().flatmap(lambda key: st.tuples(st.just(key), values(key)))


@st.composite
def files(draw) -> str:
    """YAML: keys in their sections, some with odd values, in whole or torn apart line by line."""
    chosen = draw(st.lists(PAIRS, min_size=1, max_size=4, unique_by=lambda pair: pair[0]))
    lines: list[str] = []
    for key, value in sorted(chosen, key=lambda pair: pair[0]):
        *sections, name = key.split(".")
        for depth, section in enumerate(sections):
            line = f"{'  ' * depth}{section}:"
            if line not in lines or draw(st.integers(0, 30)) == 0:
                lines.append(line)
        lines.append(f"{'  ' * len(sections)}{name}: {value}")
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(lines) - 1))
        change = draw(st.sampled_from(("repeat", "drop", "indent", "tab", "stop", "cut")))
        changed = {"indent": "  ", "tab": "\t", "stop": "---\n"}.get(change, "") + lines[at]
        pieces = {"repeat": [changed] * 2, "drop": [], "cut": [changed[: len(changed) // 2]]}
        lines[at : at + 1] = pieces.get(change, [changed])
    return "\n".join(lines) + "\n"


CASES = st.tuples(
    files(),
    st.none() | files(),
    st.sampled_from(["base.yml"] * 20 + [*BASES]),
    st.lists(PAIRS, max_size=2),
)


def settings_of(text: str):
    """The dotted keys and nodes of a YAML text, or an error where a key stands twice."""

    def walk(node, prefix):
        names = [key.value for key, _ in node.value]
        assert len(set(map(str, names))) == len(names), f"a key twice among {names}"
        for key, value in node.value:
            if isinstance(value, yaml.MappingNode):
                yield from walk(value, f"{prefix}{key.value}.")
            else:
                yield f"{prefix}{key.value}", value

    tree = yaml.compose(text, yaml.SafeLoader)
    return list(walk(tree, "")) if tree else []


def says(node, value) -> bool:
    """Whether what is written, a node of YAML or the text of a shell, says this value."""
    if isinstance(node, yaml.SequenceNode):
        return (
            isinstance(value, list | tuple)
            and len(node.value) == len(value)
            and all(map(says, node.value, value))
        )
    if isinstance(node, yaml.MappingNode):
        return False
    text = node if isinstance(node, str) else node.value
    try:
        if isinstance(value, list | tuple):
            alone = len(value) == 1 and says(text, value[0])
            return alone or [*ast.literal_eval(text)] == [*value]
        if isinstance(value, bool):
            return text.casefold() in (("true", "yes", "on") if value else ("false", "no", "off"))
        if isinstance(value, int | float) and re.fullmatch("0[box].*", text):
            return int(text, 0) == value
        if isinstance(value, int | float):
            return type(value)(text) == value
    except (ValueError, SyntaxError, TypeError):
        return False
    if isinstance(node, str) and re.fullmatch(r"""(['"]).*\1""", text, re.DOTALL):
        with suppress(ValueError, SyntaxError):
            return value in (text, ast.literal_eval(text))
    return value == text


def check_domain(key: str, value) -> None:
    for number in value if isinstance(value, list | tuple) else [value]:
        if isinstance(number, int | float):
            assert math.isfinite(number), f"{key} is {value}"
            assert number >= 0 or key in MAY_BE_NEGATIVE, f"{key} is {value}"
            assert number > 0 or not ABOVE_ZERO.search(key) or key in MAY_BE_NEGATIVE, key
            assert number <= 1 or not AT_MOST_ONE.search(key), f"{key} is {value}"
    if key == "MODEL.DEVICE":
        assert re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?|mps(:[0-9]+)?", value)
    if key == "OUTPUT_DIR":
        assert value.strip()


@few_and_many(100, 20_000)
def test_what_loads_is_what_is_written(count, tmp_path):
    def holds(case):
        text, base, named, overrides = case
        if base is not None:
            text = f"_BASE_: {named}\n{text}"
            (tmp_path / "base.yml").write_text(base)
        (tmp_path / "file.yml").write_text(text)
        cfg = answer(load, tmp_path / "file.yml", [part for pair in overrides for part in pair])
        if cfg is REFUSED:
            return False
        own = settings_of(text)
        below = settings_of(base) if base is not None else []
        last = {**dict(below), **dict(own), **dict(overrides)}
        last.pop("_BASE_", None)
        loaded = dict(cfg.keys_and_values())
        for key, node in last.items():
            assert says(node, loaded[key]) or key in FILLED | {"IMPORTS"}, (key, loaded[key])
        for key, value in loaded.items():
            assert key in last or key in FILLED or value == DEFAULTS[key], key
            check_domain(key, value)
        assert load_text(cfg.dump()) == cfg
        return True

    fuzz(count, CASES, holds)


@pytest.mark.parametrize("text", ["[" * 5000, "a: " + "{a: " * 3000, "&a [" + "*a, " * 9 + "]"])
def test_nests_without_end(text, tmp_path):
    (tmp_path / "file.yml").write_text(f"SEED: {text}")
    assert answer(load, tmp_path / "file.yml") is REFUSED
