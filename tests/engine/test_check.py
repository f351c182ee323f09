"""``openanimals check``: what it looks at, and what it advises before a training."""

from itertools import chain

import pytest

from openanimals import cli
from openanimals.config import load
from openanimals.data.build import load_sets
from openanimals.data.loaders import build_train_loader
from openanimals.engine.train import train
from openanimals.utils.errors import UserError
from tests.engine.photographs import animals, herd, source

PK = ["DATALOADER.SAMPLER_TRAIN", "NaiveIdentitySampler"]


@pytest.fixture
def checked(tmp_path, monkeypatch, capsys):
    """Check with two small data sets beside; return what is printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.yml").write_text(f"DATASETS: {{NAMES: ['{source(tmp_path / 'a', herd())}']}}")
    other = source(tmp_path / "b", animals("train", 3) + animals("gallery", 2))
    (tmp_path / "two.yml").write_text(f"DATASETS: {{TESTS: ['{other}']}}")

    def output_of(*arguments) -> str:
        assert cli.main(["check", *map(str, arguments)]) == 0
        return capsys.readouterr().out

    return output_of


def test_all_data_sets_of_the_config_files_are_looked_at(checked, tmp_path):
    files = ["--config-file", "one.yml", "--config-file", "two.yml"]
    report = checked("--contact-sheet", "sheet.jpg", *files)
    for name, sheet in (("a", "sheet.jpg"), ("b", "sheet_1.jpg")):
        assert f"csv:{tmp_path}/{name}/animals.csv" in report
        assert f"contact sheet: {sheet}" in report and (tmp_path / sheet).is_file()
    assert "b/animals.csv" not in checked(*files, f"csv:{tmp_path}/a/animals.csv")


def test_a_batch_is_advised_on_where_the_sampler_takes_individuals(checked):
    advice = "a batch needs 16 identities (SOLVER.IMS_PER_BATCH 64 / DATALOADER.NUM_INSTANCE 4) but"
    assert advice not in checked("--config-file", "one.yml")
    assert advice in checked("--config-file", "one.yml", *PK)
    fits = "the training set has 6; set SOLVER.IMS_PER_BATCH to a multiple of 4 from 4 to 24"
    assert fits in checked("--config-file", "one.yml", *PK)
    assert "a batch" not in checked("--config-file", "one.yml", *PK, "SOLVER.IMS_PER_BATCH", 8)


@pytest.mark.parametrize("keys", [{}, {"DATALOADER.NUM_INSTANCE": 1}, {"SOLVER.ACCUMULATE": 5}])
def test_check_and_training_say_the_same_of_a_batch(checked, keys, tmp_path):
    pairs = [*PK, "MODEL.LOSSES.NAME", "('TripletLoss',)", *chain.from_iterable(keys.items())]
    pairs += ["SOLVER.IMS_PER_BATCH", 40]  # 10 identities of 4 images, of 6
    said = checked("--config-file", "one.yml", *pairs)
    cfg = load(tmp_path / "one.yml", pairs)
    with pytest.raises(UserError) as refusal:
        build_train_loader(cfg, load_sets(cfg).train)
    assert said.splitlines()[-1] in str(refusal.value)


def test_a_set_that_cannot_be_trained_on_is_told(checked, tmp_path):
    few = source(tmp_path / "few", animals("train", 1) + animals("gallery", 2))
    assert "no training is possible: the training set of" in checked(few)


def test_nothing_to_check(checked, capsys):
    assert cli.main(["check"]) == 2
    assert "nothing named to check" in capsys.readouterr().err


def test_faults_are_an_exit_status(tmp_path, capsys):
    rows = herd()
    name = source(tmp_path, rows)
    (tmp_path / rows[1]["path"]).write_bytes((tmp_path / rows[0]["path"]).read_bytes())
    (tmp_path / rows[2]["path"]).rename(tmp_path / "TRAIN0_2.PNG")
    assert cli.main(["check", name]) == 1
    report = capsys.readouterr().out
    assert "copies of images           1 (train0_0.png = train0_1.png: train0)" in report
    assert f"train0_2.png (did you mean {tmp_path}/TRAIN0_2.PNG?)" in report
    assert "2 faults to mend" in report


def test_boxes_of_another_form_are_told_by_the_check_and_before_a_training(tmp_path, capsys):
    rows = herd()  # of 24 x 24 pixels
    for number, row in enumerate(rows):
        left, top = number % 7, number % 5
        row["bbox"] = f"{left} {top} {left + 17} {top + 18}"
    name = source(tmp_path, rows)
    assert cli.main(["check", name]) == 1
    report = capsys.readouterr().out
    words = "values of bbox leave their photographs, but do not if read as left, top, right, bottom"
    assert report.count(words) == 2 and "no training is possible: " in report
    keys = ["DATASETS.NAMES", f"('{name}',)", "OUTPUT_DIR", str(tmp_path / "run")]
    with pytest.raises(UserError, match=words):
        train(load(None, keys))
    assert not (tmp_path / "run").exists()


def test_a_box_far_larger_than_its_photograph_is_left_out_before_a_training(tmp_path, capsys):
    rows = herd()
    rows[-1]["bbox"] = "-900 -900 2000 2000"
    name = source(tmp_path, rows)
    assert cli.main(["check", name]) == 1
    assert f"unusable boxes             1 ({tmp_path / rows[-1]['path']}" in capsys.readouterr().out
    sets = load_sets(load(None, ["DATASETS.NAMES", f"('{name}',)"]))
    assert sets.dropped == {name: 1}
