"""Mutilated checkpoints: bytes flipped, records replaced, types and shapes changed, payloads.

The oracle: a checkpoint is refused in words, or what is read is bit for bit what was saved, the
configuration is the one that it carries, and the model has each of its weights. Nothing that a file
brings is executed: no pickle, and no module that its configuration names. (Files in torch's format
of before 1.6 have no check sums, so that flipped bits of theirs cannot be told.)
"""

import io
import itertools
import os
import pickle
import sys
import zipfile

import pytest
import torch
from hypothesis import strategies as st

from openanimals import load_model
from openanimals.config import load
from openanimals.engine import checkpoint
from openanimals.engine.loading import config_from_checkpoint
from openanimals.modeling import build_model
from tests.engine.tiny_run import tiny_cfg
from tests.robustness.fuzz import REFUSED, answer, damage, few_and_many, fuzz

MARK = "executed"  # a file that only a payload makes


class Payload:
    """Unpickled, it calls what it was given."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


PAYLOADS = (
    Payload(os.system, (f"touch {MARK}",)),
    Payload(open, (MARK, "w")),
    Payload(eval, (f"open('{MARK}', 'w')",)),
    Payload(exec, (f"open('{MARK}', 'w')",)),
    Payload(torch.serialization.load, (MARK,)),
)
ODD = (
    *(None, True, 0, -1, 2**70, 1.5, float("nan"), "", "x", b"x", [], (), {}, {"a": 1}, {1: 2}),
    *([[]], ["a"], torch.zeros(0), torch.zeros(2, 3), torch.tensor(1), torch.zeros(3).half()),
    *(torch.zeros(3).bool(), torch.zeros(2).cfloat(), torch.eye(2).to_sparse()),
    *(torch.full((8,), float("nan")), torch.zeros(8, dtype=torch.int64), torch.zeros(8)),
)
BOMB = "a: &a [x, x, x]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}, *{before}, *{before}]\n"
    for before, name in itertools.pairwise("abcdefghijklm")
)
CONFIGS = (
    *("SEED: 1\n", "", "a: [", "- a", "SEED: x", "GONE: 1", "SEED: 1\nSEED: 2", BOMB, "[" * 9000),
    *("_BASE_: /etc/passwd", "_BASE_: file.yml", "IMPORTS: [payload]", "IMPORTS: ['.x']"),
    *("MODEL: {BACKBONE: {NAME: hf-hub:nobody/x}}", "SEED: 2024-02-30", "SEED: " + "9" * 5000),
    *("MODEL: {DEVICE: 'cuda:²'}", "IMPORTS: [gone]"),
)


def saved(content, old: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.to_dense().contiguous().numpy().tobytes()


def same(one, other) -> bool:
    """Whether two nested containers are of the same types and values, tensors bit for bit."""
    if type(one) is not type(other) and not {type(one), type(other)} <= {dict, type(None)}:
        return isinstance(one, dict) and isinstance(other, dict) and same(dict(one), dict(other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and bits(one) == bits(other)
    if isinstance(one, dict):
        return [*one] == [*other] and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """What a checkpoint of a tiny run holds."""
    folder = tmp_path_factory.mktemp("run")
    cfg = tiny_cfg(folder, folder)
    state = dict(build_model(cfg, num_classes=3).state_dict())
    step = {"step": torch.tensor(3.0), "exp_avg": torch.ones(8)}
    optimizer = {"state": {0: step}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    others = {"iteration": 3, "identities": ["a", "b", "c"], "config": cfg.dump()}
    return {"format": 1, "model": state, "optimizer": optimizer, **others}


@st.composite
def records(draw, content: dict) -> bytes:
    """A checkpoint whose zip has a record less, a shorter or longer one, or a payload for one."""
    old, new = zipfile.ZipFile(io.BytesIO(saved(content))), io.BytesIO()
    chosen = draw(st.sampled_from(old.namelist()))
    change = draw(st.sampled_from(("gone", "short", "long", "payload", "renamed", "twice")))
    with zipfile.ZipFile(new, "w") as archive:
        for name in old.namelist():
            record = old.read(name)
            if name == chosen:
                payload = pickle.dumps(draw(st.sampled_from(PAYLOADS)), 2)
                short, longer = record[: len(record) // 2], record + b"\0" * 9
                record = {"short": short, "long": longer, "payload": payload}.get(change, record)
                name = name + "0" if change == "renamed" else name
            if name != chosen or change != "gone":
                archive.writestr(name, record)
            if name == chosen and change == "twice":
                archive.writestr(name, pickle.dumps(draw(st.sampled_from(PAYLOADS)), 2))
    return new.getvalue()


@st.composite
def contents(draw, content: dict) -> dict:
    """What a checkpoint holds, with one thing of another type, shape or name, or a payload."""
    changed = {**content, "model": {**content["model"]}}
    place = draw(st.sampled_from(("top", "weight", "payload", "config", "lost", "new", "renamed")))
    key, weight = draw(st.sampled_from([*content])), draw(st.sampled_from([*content["model"]]))
    if place == "top":
        changed[key] = draw(st.sampled_from(ODD))
    elif place == "weight":
        changed["model"][weight] = draw(st.sampled_from(ODD))
    elif place == "payload":
        inner = draw(st.sampled_from((changed, changed["model"])))
        inner[draw(st.sampled_from([*inner]))] = draw(st.sampled_from(PAYLOADS))
    elif place == "config":
        text = draw(st.sampled_from(CONFIGS))
        changed["config"] = draw(st.sampled_from((text, content["config"] + text)))
    elif place == "lost":
        del changed["model"][weight]
    elif place == "new":
        changed["model"][draw(st.sampled_from(("x", "heads.b9.x", 5, "")))] = torch.zeros(2)
    else:
        changed["model"] = {f"module.{name}": value for name, value in changed["model"].items()}
    return changed


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a payload would leave its mark, and a module that would, too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "payload.py").write_text(f"open({MARK!r}, 'w').close()\n")
    (tmp_path / "file.yml").write_text("SEED: 77\n")
    return tmp_path


def executed(folder) -> bool:
    """Whether a payload has left its mark, which is taken off."""
    sys.modules.pop("payload", None)
    there = (folder / MARK).exists()
    (folder / MARK).unlink(missing_ok=True)
    return there


@few_and_many(50, 200)
def test_damaged_files_are_refused_or_whole(count, content, folder):
    whole, numbers = saved(content), itertools.count()

    def holds(case):
        path = folder / f"{next(numbers)}.pth"
        path.write_bytes(case)
        found = answer(checkpoint.read, path)
        assert not executed(folder), "executed"
        assert found is REFUSED or not case.startswith(b"PK") or same(found, content)
        return found is not REFUSED

    files = damage(whole) | damage(saved(content, old=True)) | records(content)
    fuzz(count, files, holds)


@few_and_many(15, 100)
def test_other_content_is_refused_or_loaded_as_it_is(count, content, folder):
    numbers = itertools.count()

    def holds(case):
        path = folder / f"{next(numbers)}.pth"
        path.write_bytes(saved(case, old=next(numbers) % 3 == 0))
        found = answer(checkpoint.read, path)
        cfg, model = answer(config_from_checkpoint, path), answer(load_model, path)
        assert not executed(folder), "executed"
        assert found is not REFUSED or (cfg is REFUSED and model is REFUSED)
        if found is not REFUSED:
            assert same({**found, "model": None}, {**case, "model": None})
        if cfg is not REFUSED and isinstance(case["config"], str):
            assert cfg.SEED != 77, "a checkpoint's configuration read a file"
            own = case["config"] == content["config"]
            pairs = [*cfg_pairs(content["config"]), "OUTPUT_DIR", str(folder)]
            assert not own or dict(cfg) == dict(load(None, pairs))
        if model is not REFUSED:
            state = {
                str(key).removeprefix("module."): value for key, value in case["model"].items()
            }
            for key, value in model.state_dict().items():
                assert same(value, state[key]), key
        return model is not REFUSED

    fuzz(count, contents(content), holds)


def cfg_pairs(text: str) -> list:
    """The KEY VALUE pairs of a dumped configuration."""
    import yaml

    from openanimals.config.files import leaves

    return [part for pair in leaves(yaml.safe_load(text)) for part in pair]
