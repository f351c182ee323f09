"""The examples of CONTRIBUTING.md and docs/extending.md, made small, train and evaluate."""

import json
import re
import shlex
import sys

import pytest

from openanimals.engine import checkpoint
from tests.conftest import REPOSITORY
from tests.data.wildlife_fixtures import coat
from tests.engine.tiny_run import overrides
from tests.processes import run

pytestmark = pytest.mark.cli

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
WHOLE = (REPOSITORY / "docs/extending.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", re.DOTALL)
FILES = dict(BLOCK.findall(TEXT))
MOST_LINES = {".yml": 5, ".py": 12}
MODULES = ["", "my_backbone", "my_loss", "my_source"]
SMALL = {"DATASETS__NAMES": None, "OUTPUT_DIR": None, "SOLVER__MAX_EPOCH": 1}  # else as tiny_run


def command_for(module: str, root) -> list[str]:
    """The command of CONTRIBUTING.md that imports a module (or, for "", none), made small."""
    for match in re.findall(r"\$ (python .*--config-file(?:.*\\\n)*.*)\n", TEXT):
        _, script, option, config, *keys = shlex.split(match.replace("\\\n", ""))
        if module in keys or (not module and not keys):
            small = [str(part) for part in overrides(root, root, **SMALL)]
            return [sys.executable, script, option, config, *small, *keys]
    raise AssertionError(f"CONTRIBUTING.md has no command for {module!r}")


def output_of(command: list[str]) -> str:
    """The folder that a command writes to; without the key it is the one of zebras.yml."""
    keys = dict(zip(command[4::2], command[5::2], strict=True))
    return keys.get("OUTPUT_DIR", "logs/zebras")


@pytest.fixture
def folder(tmp_path):
    """A user's folder: the examples, photographs in two layouts, the shipped configs."""
    for name, content in {**FILES, **dict(BLOCK.findall(WHOLE))}.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    for identity in range(8):
        for path in (f"zebras/animal{identity}/{{}}.jpg", f"my_zoo/animal{identity}_{{}}.jpg"):
            for image in range(5):
                file = tmp_path / path.format(image)
                file.parent.mkdir(parents=True, exist_ok=True)
                coat(identity, image, 48).save(file)
    return tmp_path


def test_check_finds_a_source_of_the_user(folder):
    arguments = ["check", "MyZoo", "IMPORTS", "my_source", "DATASETS.ROOT", str(folder)]
    finished = run([sys.executable, "openanimals/cli.py", *arguments], cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"images +40\b", finished.stdout)  # 8 individuals, 5 photographs of each


@pytest.mark.parametrize("name", FILES)
def test_examples_are_short(name):
    lines = [f"# {name}", *FILES[name].splitlines()]
    assert len(lines) <= MOST_LINES[name[name.index(".") :]]


@pytest.mark.parametrize("module", MODULES)
def test_examples_train_and_evaluate(module, folder):
    command = command_for(module, folder)
    finished = run(command, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    out = folder / output_of(command)
    source = "MyZoo" if module == "my_source" else "folder:zebras"
    assert json.loads((out / "results.json").read_text())[source]["queries"] == 8
    stem = checkpoint.read(out / "model_final.pth")["model"]["stem.0.weight"]
    assert stem.shape == ((16, 3, 7, 7) if module == "my_backbone" else (8, 3, 3, 3))
    losses = json.loads((out / "metrics.json").read_text().splitlines()[0])
    assert ("loss_compactness" in losses) == (module == "my_loss")


def test_a_method_of_ones_own_trains_resumes_and_is_evaluated(folder):
    """Key, sampler, head with its own weight names and loss that learns: docs/extending.md."""
    train, resume, evaluate = (
        shlex.split(line) for line in re.findall(r"\$ (python .*my_method.*)", WHOLE)
    )
    small = [str(part) for part in overrides(folder, folder, **SMALL)]
    out = folder / "logs/my_method"

    def results(command, *keys) -> dict:
        finished = run([sys.executable, *command[1:], *small, *keys], cwd=folder)
        assert finished.returncode == 0, finished.stderr
        return json.loads((out / "results.json").read_text())["folder:zebras"]

    assert results(train)["queries"] == 8
    first = checkpoint.read(out / "model_final.pth")
    assert "CENTRE:\n      SCALE: 0.02" in first["config"]
    assert "loss_centre" in (out / "metrics.json").read_text()
    trained = results(resume, "SOLVER.MAX_EPOCH", "2")
    last = checkpoint.read(out / "model_final.pth")
    assert last["iteration"] == 2 * first["iteration"]
    for part, weight in (("model", "heads.b1.prototypes"), ("losses", "centres")):
        (before, after) = (
            next(value for name, value in of[part].items() if name.endswith(weight))
            for of in (first, last)
        )
        assert before.shape == after.shape and not before.equal(after)
    (out / "results.json").rename(out / "trained.json")
    command = [*evaluate, "OUTPUT_DIR", str(out / "again")]
    finished = run([sys.executable, *command[1:]], cwd=folder)  # all else is in the checkpoint
    assert finished.returncode == 0, finished.stderr
    again = json.loads((out / "again/results.json").read_text())["folder:zebras"]
    assert again == trained


@pytest.mark.parametrize("keys", [[], ["IMPORTS", "['my_kornia']", "TEST.MATCHER", "kornia"]])
def test_a_matcher_of_ones_own(keys, folder):
    (command,) = re.findall(r"\$ (python .*my_matcher.*)", WHOLE)
    keys = [*keys, "DATASETS.ROOT", str(folder), "MODEL.DEVICE", "cpu"]
    finished = run([sys.executable, *shlex.split(command)[1:], *keys], cwd=folder)
    assert finished.returncode == 0, finished.stderr
    results = json.loads((folder / "logs/my_matcher/results.json").read_text())
    assert [*results] == ["folder:zebras", "folder:zebras (by individual)"]
    assert results["folder:zebras"]["Rank-1"] > 50


TRACKER = """import json

class Run:
    def log(self, scalars, step):
        with open("tracked.jsonl", "a") as file:
            file.write(json.dumps({"iteration": step, **scalars}) + "\\n")

    def finish(self):
        open("finished", "w").close()

def init(dir, config):
    assert config["TRAINER"] in {"MixupTrainer", "Trainer"} and dir
    return Run()
"""


def test_a_step_callback_transform_and_tracker_of_ones_own(folder):
    """The tracker has a stand-in; it is told what metrics.json is told."""
    (folder / "wandb.py").write_text(TRACKER)
    (line,) = re.findall(r"\$ (python .*my_loop.*)", WHOLE)
    small = [str(part) for part in overrides(folder, folder, **SMALL)]
    command = [sys.executable, *shlex.split(line)[1:], *small]

    def weights(name, *keys):
        finished = run([*command, "OUTPUT_DIR", str(folder / name), *keys], cwd=folder)
        assert finished.returncode == 0, finished.stderr
        return checkpoint.read(folder / name / "model_final.pth")["model"]["stem.0.weight"]

    ours = weights("ours")
    tracked = [json.loads(text) for text in (folder / "tracked.jsonl").read_text().splitlines()]
    lines = (folder / "ours/metrics.json").read_text().splitlines()
    written = [json.loads(text) for text in lines]
    for record in written:
        del record["epoch"]
    assert tracked == written
    assert any(record.get("weight_norm", 0) > 0 for record in tracked)
    assert any("loss_triplet" in record for record in tracked)
    assert (folder / "finished").exists()
    assert not ours.equal(weights("plain", "TRAINER", "Trainer"))
    assert not ours.equal(weights("bright", "INPUT.TRANSFORMS", "[]"))
