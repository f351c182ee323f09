"""Bad input gets one clear error that says what to do, and costs nothing that was made before.

All through the command line, in this process where that is enough. What a source alone can refuse
is tested with it, in tests/data.
"""

import importlib.util
import os
import pickle
import re
import resource

import pytest
import torch

from openanimals import cli
from openanimals.engine import checkpoint
from openanimals.engine.trainer import Trainer
from tests.conftest import REPOSITORY
from tests.engine.photographs import animals, herd, source, truncate
from tests.engine.tiny_run import command, overrides, run

BASE = str(REPOSITORY / "configs" / "Base-ARBase.yml")
needs_wildlife = pytest.mark.skipif(
    importlib.util.find_spec("wildlife_datasets") is None, reason="needs wildlife-datasets"
)


@pytest.fixture
def line(tmp_path):
    """Return a command line: a tiny run into ``tmp_path/run`` on ``tmp_path/data``."""

    def arguments(*options: str, rows=None, config=BASE, **keys) -> list[str]:
        keys.setdefault("DATASETS__NAMES", source(tmp_path / "data", rows or herd()))
        config_file = ["--config-file", config] if config else []
        pairs = overrides(tmp_path / "run", tmp_path, SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=-1)
        given = {key.replace("__", "."): value for key, value in keys.items()}
        pairs += [part for pair in given.items() for part in pair]
        return ["train", *config_file, *options, *map(str, pairs)]

    return arguments


@pytest.fixture
def refused(capsys):
    """Run a command line that must fail; return its one error."""

    def error_of(arguments) -> str:
        capsys.readouterr()
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and "Traceback" not in error
        return error.removeprefix("error: ").strip()

    return error_of


@pytest.fixture
def log(tmp_path):
    """Return the lines of the run's log that contain a text."""

    def lines(text: str) -> list[str]:
        return [row for row in (tmp_path / "run/log.txt").read_text().splitlines() if text in row]

    return lines


def checkpoints(folder) -> dict[str, bytes]:
    """Each checkpoint in a folder, to the last bit."""
    return {path.name: path.read_bytes() for path in folder.glob("*.pth")}


# The configuration


def test_all_mistakes_are_told_at_once_and_nothing_is_made(line, refused, tmp_path):
    config = tmp_path / "wrong.yml"
    config.write_text(f"_BASE_: {BASE}\nSOLVER: {{MAX_EPOCHS: 3}}\nINPUT: {{SIZE_TRAIN: 48}}\n")
    error = refused(
        line(config=str(config), SOLVER__BASE_LR="fast", MODEL__DEVICE="gpu", TEST__METRIC="cosin")
    )
    assert error.startswith("5 mistakes in the configuration:")
    assert f"{config}: unknown key SOLVER.MAX_EPOCHS (did you mean 'SOLVER.MAX_EPOCH'?)" in error
    assert f"{config}: INPUT.SIZE_TRAIN must be of type list, like [384, 384], not 48" in error
    assert "command line: SOLVER.BASE_LR must be of type float, like 0.00035, not 'fast'" in error
    assert "MODEL.DEVICE is 'gpu' (did you mean 'cuda'?); allowed: auto, cpu, cuda" in error
    assert "TEST.METRIC is 'cosin' (did you mean 'cosine'?); allowed: cosine, euclidean" in error
    assert not (tmp_path / "run").exists()


def test_a_missing_file_of_keys(refused, tmp_path):
    error = refused(["train", "--config-file", str(tmp_path / "hyna.yml")])
    assert f"{tmp_path}/hyna.yml: cannot be read" in error


def test_an_option_after_the_keys_is_not_taken_for_a_key(line, refused):
    error = refused([*line(), "--resume"])
    assert "--resume must stand before the KEY VALUE pairs" in error


def test_a_module_to_import_that_is_not_there(line, refused):
    error = refused(line(IMPORTS="['my_hyenas']"))
    assert "IMPORTS names 'my_hyenas', but there is no such module in" in error


def test_names_that_nobody_registered(line, refused):
    error = refused(line(MODEL__BACKBONE__NAME="build_resent_backbone"))
    assert "unknown backbone 'build_resent_backbone' (did you mean 'build_resnet_back" in error
    error = refused(line(MODEL__LOSSES__NAME="['TripletLos']"))
    assert "unknown loss 'TripletLos' (did you mean 'TripletLoss'?)" in error


def test_a_layer_to_freeze_that_is_none_is_told_before_training(line, refused, tmp_path):
    error = refused(line(MODEL__FREEZE_LAYERS="['backbon']", SOLVER__FREEZE_ITERS=1))
    assert "MODEL.FREEZE_LAYERS names 'backbon' (did you mean 'backbone'?)" in error
    assert not (tmp_path / "run/metrics.json").exists() and not checkpoints(tmp_path / "run")


def test_images_too_small_for_the_stripes_are_told_before_training(line, refused, tmp_path):
    for key in ("INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST"):
        error = refused([*line(), key, "[16, 48]"])
        assert f"{key} is [16, 48]: a feature map of 2 rows cannot be cut into 3 stripes" in error
        assert "MODEL.HEADS.BRANCHES" in error
    assert not checkpoints(tmp_path / "run")


# The data


@needs_wildlife
def test_missing_data_says_where_it_was_looked_for_and_how_to_get_it(line, refused, tmp_path):
    error = refused(line(DATASETS__NAMES="Animals-HyenaID2022"))
    assert f"no data in {tmp_path}/HyenaID2022" in error
    assert "python tools/prepare_data.py Animals-HyenaID2022" in error
    assert not (tmp_path / "run").exists()


@needs_wildlife
def test_an_unknown_species_names_the_closest(line, refused):
    error = refused(line(DATASETS__NAMES="Animals-HyenaID2202"))
    assert "Animals-HyenaID2202" in error and "did you mean 'HyenaID2022'?" in error


@needs_wildlife
@pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
def test_a_missing_device_is_told_together_with_missing_data(line, refused):
    error = refused(line(MODEL__DEVICE="cuda", DATASETS__NAMES="Animals-HyenaID2022"))
    assert error.startswith("2 mistakes")
    assert "MODEL.DEVICE is 'cuda' for 1 process(es), but PyTorch sees 0 CUDA devices" in error
    assert "no data in" in error


@pytest.mark.parametrize(("count", "images"), [(0, 0), (1, 4)])
def test_nobody_to_tell_apart(line, refused, count, images):
    error = refused(line(rows=animals("train", count) + animals("gallery", 2)))
    assert f"has {images} images of {count} individuals; expected at least 2" in error


def test_fewer_individuals_than_a_batch_needs(line, refused, tmp_path):
    error = refused(line(rows=animals("train", 3) + animals("gallery", 2)))
    assert "a batch needs 4 identities" in error and "the training set has 3" in error
    assert "SOLVER.IMS_PER_BATCH 12 / DATALOADER.NUM_INSTANCE 3" in error
    assert "lower SOLVER.IMS_PER_BATCH to at most 9" in error
    assert not checkpoints(tmp_path / "run")


def test_fewer_classes_than_individuals(line, refused):
    error = refused(line(MODEL__HEADS__NUM_CLASSES=5))
    assert "MODEL.HEADS.NUM_CLASSES is 5, but the training set has 6 identities" in error


def test_a_batch_that_is_no_multiple_of_the_images_of_an_individual(line, refused):
    error = refused(line(SOLVER__IMS_PER_BATCH=13))
    assert "SOLVER.IMS_PER_BATCH (13) must be a multiple of DATALOADER.NUM_INSTANCE (3)" in error


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ("NaiveIdentitySampler", r"IMS_PER_BATCH \(9\) must be a multiple of .* \(3\) x 2 proc"),
        ("TrainingSampler", r"IMS_PER_BATCH \(9\) must be a multiple of 2 processes"),
    ],
)
def test_a_batch_that_processes_cannot_share(line, refused, monkeypatch, sampler, message):
    monkeypatch.setattr("openanimals.utils.distributed.world_size", lambda: 2)
    error = refused(line(SOLVER__IMS_PER_BATCH=9, DATALOADER__SAMPLER_TRAIN=sampler))
    assert re.search(message, error)


def test_no_query_with_a_match(line, refused):
    test = animals("gallery", 2, each=1) + [
        {"path": "other.png", "identity": "other", "split": "gallery"}
    ]
    error = refused(line(rows=animals("train", 6) + test))
    assert "none of its 2 query images has another image of the same individual among the 1" in (
        error
    )


@pytest.mark.parametrize("sampler", ["NaiveIdentitySampler", "BalancedIdentitySampler"])
def test_what_is_of_little_use_is_counted_in_warnings(line, log, sampler):
    few = [{"path": f"few{n}.png", "identity": f"few{n}", "split": "train"} for n in range(2)]
    single = [{"path": "single.png", "identity": "single", "split": "query"}]
    rows = herd() + few + single
    assert cli.main(line(rows=rows, DATALOADER__SAMPLER_TRAIN=sampler)) == 0
    assert log("2 training identities have fewer than 3 images (DATALOADER.NUM_INSTANCE)")
    assert log("1 queries have no image of their individual in the gallery and are left out")


def test_boxes_that_are_empty_or_outside_drop_their_row_after_the_partition(line, log, tmp_path):
    rows = [{**row, "bbox": "2 2 20 20"} for row in herd()]
    rows[1]["bbox"], rows[-1]["bbox"] = "5 5 0 9", "100 100 8 8"  # one trains, one is gallery
    assert cli.main(line(rows=rows)) == 0
    weights = tmp_path / "run/model_final.pth"
    assert cli.main(line("--eval-only", rows=rows, MODEL__WEIGHTS=weights)) == 0
    assert len(log("2 rows dropped; their box is empty or outside of the image")) == 2
    train, gallery = log("train  ")[0], log("animals.csv gallery")[0]
    assert train.split()[1:3] == ["23", "6"] and gallery.split()[2:4] == ["5", "2"]
    split = (tmp_path / "run/split.json").read_text()
    assert "train0_1.png" not in split and "train0_2.png" in split


def test_an_unreadable_photograph_is_replaced_in_training_and_counted(line, log, tmp_path):
    arguments = line(SOLVER__MAX_EPOCH=4)  # so that each photograph is drawn several times
    bad = truncate(tmp_path / "data/train2_1.png")
    assert cli.main(arguments) == 0
    (warning,) = log("train2_1.png")
    assert str(bad) in warning
    assert "another image of the same individual is used instead (1 so far)" in warning


@pytest.mark.parametrize("workers", [0, 1])
def test_an_individual_without_any_readable_photograph(line, refused, tmp_path, workers):
    arguments = line(DATALOADER__NUM_WORKERS=workers)
    bad = [truncate(tmp_path / f"data/train2_{image}.png") for image in range(4)]
    error = refused(arguments)
    assert error.startswith("no image of an individual can be read:")
    assert all(str(path) in error for path in bad)


@pytest.mark.parametrize("before", [False, True])
def test_unreadable_photographs_at_evaluation_are_all_named(line, refused, log, tmp_path, before):
    arguments = line(SOLVER__MAX_EPOCH=2, TEST__BEFORE_TRAINING=before)
    bad = [tmp_path / "data" / name for name in ("test0_0.png", "test0_2.png", "test1_3.png")]
    whole = [path.read_bytes() for path in bad]
    bad[0].write_text("no image")
    truncate(bad[1])
    bad[2].unlink()
    error = refused(arguments)
    assert error.startswith("3 images cannot be evaluated:")
    assert all(str(path) in error for path in bad)
    for path, content in zip(bad, whole, strict=True):
        path.write_bytes(content)
    assert cli.main([arguments[0], "--resume", *arguments[1:]]) == 0
    assert len(log("the network before training was not evaluated")) == before


# Checkpoints


@pytest.fixture
def trained(line, tmp_path):
    """The folder of a finished run."""
    assert cli.main(line()) == 0
    return tmp_path / "run"


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


class Boobytrap:
    """Makes a folder when unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("kind", ["text", "zip cut short", "code", "other tensors", "empty"])
def test_a_checkpoint_that_is_none(line, refused, trained, tmp_path, kind):
    path, sprung = tmp_path / "weights.pth", tmp_path / "sprung"
    if kind == "text":
        path.write_text("hello, these are my weights\n")
    elif kind == "zip cut short":
        path.write_bytes((trained / "model_final.pth").read_bytes())
        truncate(path)
    elif kind == "code":
        path.write_bytes(pickle.dumps({"model": Boobytrap(sprung)}, protocol=2))
    elif kind == "other tensors":
        torch.save(torch.zeros(3), path)
    else:
        path.touch()
    for config in (BASE, None):
        error = refused(line("--eval-only", config=config, MODEL__WEIGHTS=path))
        assert f"{path} is not a checkpoint" in error
    assert not sprung.exists()


def test_no_checkpoint_to_evaluate(line, refused, tmp_path):
    error = refused(line("--eval-only", MODEL__WEIGHTS=tmp_path / "none.pth"))
    assert f"no checkpoint at {tmp_path}/none.pth" in error
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
    assert log("keys that changed since then: SOLVER.MAX_EPOCH (1 -> 2), SOLVER.BASE_LR (0.00035")
    assert "not finite at iteration 3" in error


def test_ctrl_c_says_how_to_go_on(line, tmp_path, monkeypatch, capsys):
    iterate = Trainer._iterate

    def interrupted(self, batch):
        if self.iteration == 3:
            raise KeyboardInterrupt
        iterate(self, batch)

    monkeypatch.setattr(Trainer, "_iterate", interrupted)
    arguments = line(SOLVER__MAX_EPOCH=2)
    assert cli.main(arguments) == 130
    assert capsys.readouterr().err == "interrupted; to go on: the same command with --resume\n"
    monkeypatch.undo()
    assert cli.main([arguments[0], "--resume", *arguments[1:]]) == 0
    assert (tmp_path / "run/results.json").exists()


@pytest.mark.cli
def test_processes_end_in_one_error(tmp_path, herd_root):
    ended = run(command(tmp_path, herd_root, "--num-gpus", "2", SOLVER__IMS_PER_BATCH=9))
    assert ended.returncode == 2
    assert "must be a multiple of DATALOADER.NUM_INSTANCE (3) x 2 processes" in ended.stderr
    assert re.search(r"error: process [01] of 2 failed \(exit status 2\)", ended.stderr)
    assert "Traceback" not in ended.stderr
