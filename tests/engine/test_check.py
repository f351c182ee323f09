"""``openanimals check``: what it looks at, and what it advises before a training."""

import pytest

from openanimals import cli
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
    advice = "a batch takes 16 individuals, training has 6: train with SOLVER.IMS_PER_BATCH 24 or"
    assert advice not in checked("--config-file", "one.yml")
    assert advice in checked("--config-file", "one.yml", *PK)
    assert "a batch takes" not in checked(
        "--config-file", "one.yml", *PK, "SOLVER.IMS_PER_BATCH", 8
    )


def test_nothing_to_check(checked, capsys):
    assert cli.main(["check"]) == 2
    assert "nothing named to check" in capsys.readouterr().err
