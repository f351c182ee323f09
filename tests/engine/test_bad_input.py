"""Bad input gets one clear error that says what to do, and costs nothing that was made before.

All through the command line, in this process where that is enough. What a source alone can refuse
is tested with it, in tests/data.
"""

import importlib.util
import re

import pytest
import torch

from openanimals import cli
from tests.conftest import REPOSITORY
from tests.engine.photographs import animals, herd, truncate

BASE = str(REPOSITORY / "configs" / "Base-ARBase.yml")
needs_wildlife = pytest.mark.skipif(
    importlib.util.find_spec("wildlife_datasets") is None, reason="needs wildlife-datasets"
)


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


def test_an_option_after_the_keys_is_not_taken_for_a_key(line, refused):
    error = refused([*line(), "--resume"])
    assert "--resume must stand before the KEY VALUE pairs" in error


def test_names_that_nobody_registered(line, refused):
    for key, wrong, message in (
        ("MODEL.BACKBONE.NAME", "build_resent_backbone", "unknown backbone {} (did you mean 'buil"),
        ("MODEL.LOSSES.NAME", "TripletLos", "unknown loss {} (did you mean 'TripletLoss'?)"),
        ("SOLVER.OPT", "Adm", "unknown optimizer (SOLVER.OPT) {} (did you mean 'Adam'?)"),
        ("SOLVER.SCHED", "CosineAnealingLR", "schedule (SOLVER.SCHED) {} (did you mean 'CosineA"),
        ("MODEL.HEADS.CLS_LAYER", "ArcSoftmx", "CLS_LAYER is {} (did you mean 'ArcSoftmax'?)"),
    ):
        assert message.format(repr(wrong)) in refused([*line(), key, wrong])


def test_a_layer_to_freeze_that_is_none_is_told_before_training(line, refused, tmp_path):
    error = refused(line(MODEL__FREEZE_LAYERS="['backbon']", SOLVER__FREEZE_ITERS=1))
    assert "MODEL.FREEZE_LAYERS names 'backbon' (did you mean 'backbone'?)" in error
    assert not (tmp_path / "run/metrics.json").exists() and not list(
        (tmp_path / "run").glob("*.pth")
    )


def test_images_too_small_for_the_stripes_are_told_before_training(line, refused, tmp_path):
    for key in ("INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST"):
        error = refused([*line(), key, "[16, 48]"])
        assert f"{key} is [16, 48]: a feature map of 2 rows cannot be cut into 3 stripes" in error
        assert "MODEL.HEADS.BRANCHES" in error
    assert not list((tmp_path / "run").glob("*.pth"))


def test_images_too_small_for_a_trained_model(line, refused, tmp_path):
    weights = tmp_path / "run/model_final.pth"
    assert cli.main(line()) == 0
    error = refused(
        [*line("--eval-only"), "MODEL.WEIGHTS", str(weights), "INPUT.SIZE_TEST", "[16, 48]"]
    )
    assert "INPUT.SIZE_TEST is [16, 48]: a feature map of 2 rows cannot be cut into 3" in error


# The data


@needs_wildlife
def test_missing_data_says_where_it_was_looked_for_and_how_to_get_it(
    line, refused, tmp_path, monkeypatch
):
    monkeypatch.setenv("REID_DATASETS", str(tmp_path))
    error = refused(line(DATASETS__NAMES="Animals-HyenaID2022", DATASETS__ROOT="''"))
    assert "REID_DATASETS" in error
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
    assert not list((tmp_path / "run").glob("*.pth"))


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
