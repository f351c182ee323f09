"""What stands beside the table of results never costs it: pictures, curves, odd names, old runs."""

import json
import logging
import shutil
import sys

import numpy as np
import pytest

from openanimals import cli
from openanimals.engine import evaluate as testing
from openanimals.engine import train as run
from openanimals.engine.writers import MetricsFile, TensorBoard
from openanimals.evaluation import evaluate
from openanimals.evaluation.visualize import draw_rank_lists, plot_cmc
from tests.engine import photographs
from tests.engine.tiny_run import HERD, tiny_cfg

ODD = ["a\nb", "雪🦓", "\udcff", "_hidden", "$x$ \\frac{", "\x1b[2K\x00", "\u202e", "", "é" * 300]


def test_names_of_any_letters_are_drawn(tmp_path, recwarn):
    identities = [f"{name}{number}" for name in ODD for number in (0, 0, 1, 1)]
    features = np.random.default_rng(0).normal(size=(len(identities), 4))
    result = evaluate(features, features, identities, identities)
    plot_cmc(dict.fromkeys(ODD, result), tmp_path / "cmc.png")
    grey = np.full((3, 5, 3), 128, np.uint8)
    options = {"title": " ".join(ODD), "best": len(identities), "k": 1}  # so that each is there
    draw_rank_lists(result, lambda _: grey, lambda _: grey, tmp_path / "list.jpg", **options)
    assert {path.name for path in tmp_path.iterdir()} == {"cmc.png", "list.jpg"}
    assert not [str(warning.message) for warning in recwarn]


def test_pictures_that_fail_cost_no_table(tmp_path, herd_root, pictures, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("no font")

    monkeypatch.setattr(testing, "plot_cmc", fail)
    monkeypatch.setattr(testing, "draw_rank_lists", fail)
    run.train(tiny_cfg(tmp_path / "run", herd_root, SOLVER__MAX_EPOCH=1))
    told = capsys.readouterr().out
    assert "cmc.png could not be drawn: no font" in told and "results\n" in told
    assert "jpg could not be drawn: no font" in told and "Traceback" in told
    assert json.loads((tmp_path / "run/results.json").read_text()).keys() >= {HERD}


def test_a_run_with_names_of_any_letters(tmp_path, line, pictures, capfdbinary):
    rows = photographs.herd()
    for row in rows:
        row["identity"] += "\n12:00:00 \x1b[2K雪"
    name = photographs.source(tmp_path / "ze\nbra$_{", rows)
    assert cli.main(line(DATASETS__NAMES=f"['{name}']".replace("\n", "\\n"))) == 0
    assert {path.suffix for path in (tmp_path / "run").iterdir()} >= {".png", ".jpg", ".json"}
    assert b"Logging error" not in capfdbinary.readouterr().err


@pytest.mark.parametrize("broken", ["missing", "opening", "writing", "closing"])
def test_tensorboard_costs_only_its_curves(broken, tmp_path, monkeypatch, caplog):
    class Broken:
        def __init__(self, *_, **__):
            if broken == "opening":
                raise TypeError("Descriptors cannot be created directly")

        def add_scalar(self, *_):
            if broken == "writing":
                raise OSError("no space")

        def close(self):
            if broken == "closing":
                raise OSError("no space")

    module = None if broken == "missing" else type(sys)("tensorboard")
    if module:
        module.SummaryWriter = Broken
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    caplog.set_level(logging.INFO, "openanimals")
    curves = TensorBoard(tmp_path, 0)
    for iteration in range(3):
        curves.write(iteration, {"loss": 1.0})
    curves.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the run goes on without its curves" in caplog.text


def test_curves_of_two_sets_are_two(tmp_path, monkeypatch):
    written = []
    curves = TensorBoard(tmp_path, 0)
    monkeypatch.setattr(curves.curves, "add_scalar", lambda tag, *_: written.append(tag))
    curves.write(0, {"loss": 1, "folder:a b/mAP": 1, "folder:a_b/mAP": 2, "Animals-Zoo/mAP": 3})
    curves.close()
    assert len({*written}) == 4 and {"loss", "Animals-Zoo/mAP"} < {*written}


def test_a_folder_that_is_removed_in_mid_run(tmp_path, line, refused, monkeypatch):
    write = MetricsFile.write

    def remove(self, iteration, scalars):
        if iteration > 0:
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
        write(self, iteration, scalars)

    monkeypatch.setattr(MetricsFile, "write", remove)
    error = refused(line())
    assert "metrics.json was removed in mid-run" in error and "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_a_line_of_the_metrics_that_a_kill_cut_short_is_forgotten(tmp_path):
    (tmp_path / "metrics.json").write_text(
        '{"iteration": 1}\n{"iteration": 2}\n{"iteration": 1, "lo'
    )
    MetricsFile(tmp_path, 2, 10).close()
    assert (tmp_path / "metrics.json").read_text() == '{"iteration": 1}\n'
