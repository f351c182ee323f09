"""Bad input gets one clear error that says what to do, and costs nothing that was made before.

All through the command line, in this process where that is enough. What a source alone can refuse
is tested with it, in tests/data.
"""

import pytest
import torch

from openanimals import cli
from openanimals.config import load
from openanimals.engine import evaluate
from openanimals.engine import train as engine_train
from openanimals.engine.trainer import Trainer
from tests.engine.conftest import BASE, needs_wildlife
from tests.engine.photographs import animals, herd, truncate

# The configuration


@pytest.mark.parametrize("options", [["--eval-only"], ["--resume", "--profile", "1"]])
def test_options_count_wherever_they_stand(line, options, monkeypatch):
    asked = []
    monkeypatch.setattr(engine_train, "train", lambda cfg, **given: asked.append((cfg, given)))
    monkeypatch.setattr(engine_train, "evaluate_only", lambda cfg: asked.append((cfg, {})))
    before, pairs = line()[:3], line()[3:]
    for arguments in ([*before, *options, *pairs], [*before, *pairs[:4], *options, *pairs[4:]]):
        assert cli.main(arguments) == 0
    assert cli.main([*before[:1], *pairs, *options, *before[1:]]) == 0
    assert asked[0] == asked[1] == asked[2]


@pytest.mark.parametrize("config", [None, "run.yaml"])
def test_an_evaluation_is_on_the_set_that_the_command_names(config, tmp_path, monkeypatch):
    text = load(BASE, ["DATASETS.NAMES", "learnt", "DATASETS.TESTS", "chosen"]).dump()
    (tmp_path / "run.yaml").write_text(text)
    weights = {"model": {"stem.0.weight": torch.ones(1)}, "config": text}
    torch.save(weights, tmp_path / "model.pth")
    asked = []
    monkeypatch.setattr(engine_train, "evaluate_only", asked.append)
    options = ["--eval-only", *(["--config-file", str(tmp_path / config)] if config else [])]
    pairs = ["MODEL.WEIGHTS", str(tmp_path / "model.pth")]
    for more in ([], ["DATASETS.NAMES", "new"], ["DATASETS.NAMES", "a", "DATASETS.TESTS", "b"]):
        assert cli.main(["train", *options, *pairs, *more]) == 0
    assert [cfg.DATASETS.TESTS for cfg in asked] == [("chosen",), ("new",), ("b",)]


def test_resume_takes_no_file(line, refused):
    error = refused([*line(), "--resume", "run/model_final.pth"])
    assert "Weights are MODEL.WEIGHTS FILE" in error and "last checkpoint in OUTPUT_DIR" in error


def test_a_batch_that_nothing_can_be_learnt_of_is_told_with_all_else(line, refused):
    keys = {"SOLVER__IMS_PER_BATCH": 1, "DATALOADER__SAMPLER_TRAIN": "TrainingSampler"}
    error = refused(line(TRAINER="Trainr", **keys))
    assert error.startswith("2 mistakes") and "did you mean 'Trainer'?" in error
    assert "MODEL.HEADS.WITH_BNNECK needs 2 images at once" in error


def test_names_that_nobody_registered_are_told_in_one_message(line, refused):
    cases = (
        ("MODEL.BACKBONE.NAME", "build_resent_backbone", "unknown backbone {} (did you mean 'buil"),
        ("MODEL.LOSSES.NAME", "TripletLos", "unknown loss {} (did you mean 'TripletLoss'?)"),
        ("SOLVER.OPT", "Adm", "unknown optimizer (SOLVER.OPT) {} (did you mean 'Adam'?)"),
        ("SOLVER.SCHED", "CosineAnealingLR", "schedule (SOLVER.SCHED) {} (did you mean 'CosineA"),
        (
            "MODEL.HEADS.CLS_LAYER",
            "ArcSoftmx",
            "(MODEL.HEADS.CLS_LAYER) {} (did you mean 'ArcSoftmax'?)",
        ),
        ("DATALOADER.SAMPLER_TRAIN", "NaiveSampler", "unknown sampler {} (did you mean 'Naive"),
    )
    error = refused([*line(), *(word for key, wrong, _ in cases for word in (key, wrong))])
    for _, wrong, message in cases:
        assert message.format(repr(wrong)) in error


def test_a_layer_to_freeze_that_is_none_is_told_before_training(line, refused, tmp_path):
    error = refused(line(MODEL__FREEZE_LAYERS="['backbon']", SOLVER__FREEZE_ITERS=1))
    assert "MODEL.FREEZE_LAYERS names 'backbon' (did you mean 'backbone'?)" in error
    assert not (tmp_path / "run/metrics.json").exists() and not list(
        (tmp_path / "run").glob("*.pth")
    )


def test_images_too_small_for_the_stripes(line, refused, trained, tmp_path):
    new, small = {"OUTPUT_DIR": tmp_path / "new"}, "[16, 48]"
    for options, key, keys in (
        ((), "INPUT.SIZE_TRAIN", new),
        ((), "INPUT.SIZE_TEST", new),
        (("--eval-only",), "INPUT.SIZE_TEST", {"MODEL__WEIGHTS": trained / "model_final.pth"}),
    ):
        error = refused([*line(*options, **keys), key, small])
        assert f"{key} is [16, 48]: a feature map of 2 rows cannot be cut into 3 stripes" in error
        assert "MODEL.HEADS.BRANCHES" in error
    assert not list((tmp_path / "new").glob("*.pth"))


ABSURD = 10**15  # of numbers: no machine has the memory, and none tries


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"MODEL__HEADS__EMBEDDING_DIM": ABSURD}, f"lower MODEL.HEADS.EMBEDDING_DIM ({ABSURD})"),
        ({"MODEL__HEADS__NUM_CLASSES": ABSURD}, f"or MODEL.HEADS.NUM_CLASSES ({ABSURD})"),
        ({"MODEL__HEADS__NUM_CLASSES": 2**62}, "the model does not fit into memory (Storage size"),
        (
            {"INPUT__SIZE_TRAIN": "[100000, 99999]"},
            "INPUT.SIZE_TRAIN must be [height, width] in pixels, and 100 m",
        ),
    ],
)
def test_what_no_memory_could_hold(line, refused, keys, said):
    error = refused(line(**keys))
    assert said in error and "enforce fail" not in error


@pytest.mark.parametrize(
    ("owner", "name", "said"),
    [
        (
            Trainer,
            "train_step",
            "IMS_PER_BATCH (12), raise SOLVER.ACCUMULATE (1), or lower INP",
        ),
        (evaluate, "extract_features", "lower TEST.IMS_PER_BATCH (128) or INPUT.SIZE_TEST (["),
    ],
)
def test_batches_that_no_memory_could_hold(line, refused, tmp_path, monkeypatch, owner, name, said):
    def on_the_cpu(*_, **__):
        torch.empty(ABSURD)

    def on_cuda(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee more")

    def wrong(*_, **__):
        raise RuntimeError("a bug")

    for act, cause in ((on_the_cpu, f"{4 * ABSURD} bytes"), (on_cuda, "(CUDA out of memory")):
        monkeypatch.setattr(owner, name, act)
        error = refused(line(OUTPUT_DIR=tmp_path / act.__name__))
        assert cause in error and said in error and len(error.splitlines()) == 1
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(RuntimeError, match="^a bug$"):
        cli.main(line())


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


def test_fewer_classes_than_individuals(line, refused):
    error = refused(line(MODEL__HEADS__NUM_CLASSES=5))
    assert "MODEL.HEADS.NUM_CLASSES is 5, but the training set has 6 identities" in error


def test_layers_that_are_frozen_for_long(line, log):
    layers = "['backbone', 'b1', 'b2', 'b3', 'heads']"
    assert cli.main(line(MODEL__FREEZE_LAYERS=layers, SOLVER__FREEZE_ITERS=1)) == 0
    assert len(log("schedule: MODEL.FREEZE_LAYERS are frozen for 1 of 2 iterations")) == 2
    assert len(log("are all weights: nothing is learnt for 1 iterations")) == 2


@pytest.mark.parametrize("each", [4, 1])
def test_a_loss_of_pairs_that_meet_by_chance(line, log, each):
    rows = animals("train", 12, each=each) + animals("gallery", 2)
    assert cli.main(line(rows=rows, DATALOADER__SAMPLER_TRAIN="TrainingSampler")) == 0
    assert len(log("but 100 % of the images of a batch (12) are drawn without another")) == (
        each == 1
    )


def test_no_query_with_a_match(line, refused):
    test = animals("gallery", 2, each=1) + [
        {"path": "other.png", "identity": "other", "split": "gallery"}
    ]
    error = refused(line(rows=animals("train", 6) + test))
    assert "none of its 2 query images has another image of the same individual among the 1" in (
        error
    )


def test_what_is_of_little_use_is_counted_in_warnings(line, log):
    few = [{"path": f"few{n}.png", "identity": f"few{n}", "split": "train"} for n in range(2)]
    single = [{"path": "single.png", "identity": "single", "split": "query"}]
    rows = herd() + few + single
    assert cli.main(line(rows=rows)) == 0
    assert log("2 training identities have fewer than 3 images (DATALOADER.NUM_INSTANCE)")
    assert log("1 queries have no image of their individual in the gallery and are left out")
    assert len(log("schedule: warm-up takes 3 of 2 iterations")) == 2  # at the start and the end


def test_boxes_that_are_empty_or_outside_drop_their_row_after_the_partition(line, log, tmp_path):
    rows = [{**row, "bbox": "2 2 20 20"} for row in herd()]
    rows[1]["bbox"], rows[-1]["bbox"] = "5 5 0 9", "100 100 8 8"  # one trains, one is gallery
    assert cli.main(line(rows=rows)) == 0
    weights = tmp_path / "run/model_final.pth"
    assert cli.main(line("--eval-only", rows=rows, MODEL__WEIGHTS=weights)) == 0
    assert len(log("2 rows dropped; their box is empty, outside of the image or far larger")) == 2
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


def test_an_individual_without_any_readable_photograph(line, refused, tmp_path):
    arguments = line(DATALOADER__NUM_WORKERS=1)
    bad = [truncate(tmp_path / f"data/train2_{image}.png") for image in range(4)]
    error = refused(arguments)
    assert error.startswith("no image of an individual can be read:")
    assert all(str(path) in error for path in bad)


def test_files_that_are_gone_are_told_before_training(line, refused, log, tmp_path):
    arguments = line()
    gone = [tmp_path / "data" / name for name in ("train0_1.png", "test0_2.png")]
    gone[0].unlink()
    gone[1].rename(gone[1].with_suffix(".PNG"))
    error = refused(arguments)
    assert error.startswith(f"images to evaluate on cannot be read: 1 files ({gone[1]}")
    assert f"did you mean {gone[1].with_suffix('.PNG')}?" in error
    gone[1].with_suffix(".PNG").rename(gone[1])
    assert cli.main(arguments) == 0
    assert log(f"training images cannot be read, others stand in for them: 1 files ({gone[0]})")
    for path in gone[0].parent.glob("train0*"):
        path.unlink()
    error = refused([*arguments, "OUTPUT_DIR", str(tmp_path / "again")])
    assert error.startswith("of an individual no training image can be read: 4 files")


def test_unreadable_photographs_at_evaluation_are_all_named(line, refused, log, tmp_path):
    arguments = line(SOLVER__MAX_EPOCH=2, TEST__BEFORE_TRAINING=True)
    bad = [tmp_path / "data" / name for name in ("test0_0.png", "test0_2.png", "test1_3.png")]
    whole = [path.read_bytes() for path in bad]
    bad[0].write_text("no image")
    truncate(bad[1])
    bad[2].write_bytes(b"")
    error = refused(arguments)
    assert error.startswith("3 images cannot be evaluated:")
    assert all(str(path) in error for path in bad)
    for path, content in zip(bad, whole, strict=True):
        path.write_bytes(content)
    assert cli.main([arguments[0], "--resume", *arguments[1:]]) == 0
    assert len(log("the network before training was not evaluated")) == 1
