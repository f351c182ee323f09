"""Checkpoints and files that cannot be used, and runs that fail: one clear error, nothing lost.

All through the command line, in this process where that is enough.
"""

import re
import resource

import pytest
import torch

from openanimals import cli
from openanimals.engine import checkpoint
from openanimals.engine.trainer import Trainer
from openanimals.utils.errors import UserError
from tests.engine.conftest import BASE, needs_wildlife
from tests.engine.photographs import animals, truncate


def checkpoints(folder) -> dict[str, bytes]:
    """Each checkpoint in a folder, to the last bit."""
    return {path.name: path.read_bytes() for path in folder.glob("*.pth")}


# Checkpoints


def test_another_runs_folder_is_refused_and_untouched(line, refused, trained):
    before = checkpoints(trained)
    error = refused(line())
    assert f"{trained} holds the checkpoints of another run (model_best.pth, model_fin" in error
    assert "--resume" in error and "OUTPUT_DIR" in error
    assert checkpoints(trained) == before


def test_weights_of_another_architecture_say_what_differs(line, refused, trained, tmp_path):
    weights, elsewhere = str(trained / "model_final.pth"), str(tmp_path / "other")
    one_branch = {"MODEL__HEADS__BRANCHES": "[[1]]", "OUTPUT_DIR": elsewhere}
    for options in ((), ("--eval-only",)):
        error = refused(line(*options, MODEL__WEIGHTS=weights, **one_branch))
        assert f"{weights} holds the weights of another architecture" in error
        assert "not expected: tails.b2." in error
    error = refused(line("--resume", MODEL__HEADS__EMBEDDING_DIM=4))
    assert "another architecture" in error and "reduction.weight" in error
    assert "[8] instead of [4]" in error


@pytest.mark.parametrize("kind", ["text", "zip cut short", "other tensors", "empty"])
def test_a_checkpoint_that_is_none(line, refused, trained, tmp_path, kind):
    path = tmp_path / "weights.pth"
    if kind == "text":
        path.write_text("hello, these are my weights\n")
    elif kind == "zip cut short":
        path.write_bytes((trained / "model_final.pth").read_bytes())
        truncate(path)
    elif kind == "other tensors":
        torch.save(torch.zeros(3), path)
    else:
        path.touch()
    for config in (BASE, None):
        error = refused(line("--eval-only", config=config, MODEL__WEIGHTS=path))
        assert f"{path} is not a checkpoint" in error


def test_no_checkpoint_to_evaluate(line, refused, tmp_path):
    error = refused(line("--eval-only", DATASETS__NAMES=f"folder:{tmp_path}/none"))
    assert error.startswith("2 mistakes")
    assert "nothing to evaluate: set MODEL.WEIGHTS" in error and f"{tmp_path}/none" in error


def test_going_on_with_other_individuals(line, refused, trained):
    before = checkpoints(trained)
    error = refused(line("--resume", rows=animals("train", 8)[4:] + animals("gallery", 2)))
    assert "the checkpoint was trained on 6 identities, the data have 7; 3 of them are on" in error
    assert checkpoints(trained) == before


def test_going_on_with_another_optimiser(line, refused, trained):
    error = refused(line("--resume", SOLVER__MAX_EPOCH=2, SOLVER__OPT="SGD"))
    assert "was trained by Adam, so SOLVER.OPT SGD cannot go on from it" in error
    error = refused(line("--resume", SOLVER__MAX_EPOCH=2, SOLVER__WEIGHT_DECAY_NORM=0))
    assert "other groups of weights" in error and "SOLVER.WEIGHT_DECAY" in error


# While running


def test_no_space_left_keeps_the_last_checkpoint(line, refused, tmp_path, monkeypatch, capsys):
    write = checkpoint.write

    def write_on_a_small_disk(path, content):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        limit = 4096 if content["iteration"] == 4 and path.name == "model_last.pth" else before[0]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            write(path, content)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    monkeypatch.setattr(checkpoint, "write", write_on_a_small_disk)
    arguments = line(SOLVER__MAX_EPOCH=3)
    error = refused(arguments)
    folder = tmp_path / "run"
    assert f"{folder}/model_last.pth could not be written" in error
    assert "--resume" in error
    assert checkpoint.read(folder / "model_last.pth")["iteration"] == 2
    assert not list(folder.glob(".*.tmp"))
    monkeypatch.undo()
    assert cli.main([arguments[0], "--resume", *arguments[1:]]) == 0
    resumed = checkpoint.read(folder / "model_final.pth")["model"]
    assert cli.main(line(SOLVER__MAX_EPOCH=3, OUTPUT_DIR=tmp_path / "whole")) == 0
    whole = checkpoint.read(tmp_path / "whole/model_final.pth")["model"]
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_an_output_folder_that_cannot_be_written(line, refused, tmp_path):
    (tmp_path / "file").touch()
    error = refused(line(OUTPUT_DIR=tmp_path / "file" / "run"))
    assert "OUTPUT_DIR cannot be written" in error and f"{tmp_path}/file" in error
    error = refused(line(OUTPUT_DIR=tmp_path / ("long" * 99)))
    assert "longlong" in error and "File name too long" in error


@pytest.mark.parametrize("name", ["log.txt", "config.yaml", "metrics.json", "results.json"])
def test_files_that_cannot_be_written(line, refused, tmp_path, name):
    (tmp_path / "run" / name).mkdir(parents=True)
    error = refused(line())
    assert f"{tmp_path}/run/{name} cannot be written: [Errno 21] Is a directory" in error


HERD = "Animals-SyntheticHerd:identities=8,images=4,pixels=32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--config-file", "folder"], "folder: cannot be read ([Errno 21] Is a directory"),
        (["train", "--config-file", "a\0b"], "embedded null"),
        (["train", "--eval-only", "MODEL.WEIGHTS", "folder"], "no checkpoint at "),
        (["train", "--eval-only", "MODEL.WEIGHTS", "w" * 300], "cannot be read: [Errno 36] File"),
        (
            ["train", "--eval-only", "MODEL.WEIGHTS", "https://127.0.0.1:9/a.pth"],
            "https://127.0.0.1:9/a.pth is an address on the network, and a file on this machine",
        ),
        (["check", "csv:file/x.csv"], "file/x.csv does not exist; expected a file with"),
        (["check", "folder:" + "x" * 300], "cannot be read: [Errno 36] File name too long"),
        (["check", HERD, "DATASETS.ROOT", "file/x"], f"{HERD} cannot be read: [Errno 20] Not a"),
        (
            ["check", "--contact-sheet", "file/x.jpg", HERD],
            "file/x.jpg cannot be written: [Errno 17] File exists: 'file'",
        ),
        (["convert", "folder", "x.pth"], "no checkpoint at "),
        (["rescore", "file"], "expected the output folder of a run"),
        (["rescore", "~nobody-here/x"], "there is no user 'nobody-here', whose home ~ stands for"),
        (["compare", "~nobody-here/x", "file"], "there is no user 'nobody-here', whose home ~ st"),
        (["compare", "file", "file"], "file.parquet; it belongs to the file beside it"),
        pytest.param(
            ["prepare", "Animals-HyenaID2022", "--root", "file/x"],
            "file/x cannot be written: [Errno 20] Not a directory",
            marks=needs_wildlife,
        ),
    ],
)
def test_files_and_folders_that_cannot_be_used(refused, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert message in refused(arguments)


def test_a_mistake_in_a_plugin_shows_where_it_is(line, tmp_path, monkeypatch):
    """Not one line without file or place, as if the user could mend it without opening a file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "numpy_loss.py").write_text(
        "import numpy as np\n"
        "from openanimals.modeling import LOSS_REGISTRY, LossTerm\n"
        "@LOSS_REGISTRY.register('NumpyLoss')\n"
        "def build(cfg):\n"
        "    def loss(features, targets):\n"
        "        return np.zeros(3) + np.zeros(4)\n"
        "    return LossTerm('loss_numpy', 'features', loss, scale=1.0)\n"
    )
    arguments = line(IMPORTS="['tests.tiny', 'numpy_loss']", MODEL__LOSSES__NAME="NumpyLoss")
    with pytest.raises(ValueError, match="operands could not be broadcast") as error:
        cli.main(arguments)
    assert error.traceback[-1].path == tmp_path / "numpy_loss.py"
    assert error.traceback[-1].lineno == 5  # counted from 0


def test_a_mistake_of_the_users_shows_its_traceback_if_asked_to(line, monkeypatch):
    monkeypatch.setenv("OPENANIMALS_TRACEBACK", "1")
    with pytest.raises(UserError, match="unknown backbone"):
        cli.main(line(MODEL__BACKBONE__NAME="none"))


def test_a_loss_that_is_not_finite_ends_the_run_before_any_save(line, refused, trained, log):
    before = checkpoints(trained)
    error = refused(line("--resume", SOLVER__MAX_EPOCH=4, MODEL__LOSSES__CE__SCALE=1e39))
    assert error.startswith(
        "the loss is not finite at iteration 2 (total_loss = inf, loss_cls = inf, loss_triplet = 0."
    )
    assert "learning rate 0.000245); lower SOLVER.BASE_LR" in error
    assert len(re.findall(r"data/(train\d_\d\.png)", error)) == 12
    assert checkpoints(trained) == before


def test_weights_that_are_not_finite_are_never_saved(line, refused, tmp_path):
    rows = animals("train", 6, each=3) + animals("gallery", 2)  # epochs of one iteration
    keys = {"SOLVER__BASE_LR": 1e9, "SOLVER__OPT": "SGD", "MODEL__LOSSES__TRI__SCALE": 1e37}
    error = refused(line(rows=rows, **keys))
    assert re.match(r"\d+ weights are not finite after iteration 0, for instance stem.0.w", error)
    assert not checkpoints(tmp_path / "run")


def test_keys_changed_for_the_rest_of_a_run_count(line, refused, trained, log):
    error = refused(line("--resume", SOLVER__MAX_EPOCH=2, SOLVER__BASE_LR=1e30))
    (told,) = log("keys that changed since then: ")
    assert "SOLVER.MAX_EPOCH (1 -> 2), SOLVER.BASE_LR (0.00035 -> 1e+30)" in told
    assert "not finite at iteration 3" in error


def test_ctrl_c_says_how_to_go_on(line, tmp_path, monkeypatch, capsys):
    step = Trainer.train_step

    def interrupted(self, batch):
        if self.iteration == 3:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    arguments = line(SOLVER__MAX_EPOCH=2)
    assert cli.main(arguments) == 130
    assert capsys.readouterr().err == "interrupted; to go on: the same command with --resume\n"
    monkeypatch.undo()
    assert cli.main([arguments[0], "--resume", *arguments[1:]]) == 0
    assert (tmp_path / "run/results.json").exists()
