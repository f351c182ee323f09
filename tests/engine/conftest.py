"""What the tests of bad input share: a tiny command line, its one error and its log."""

import importlib.util
import shutil
from functools import partial

import pytest

from openanimals import cli
from tests.conftest import REPOSITORY
from tests.engine.photographs import herd, source
from tests.engine.tiny_run import overrides

needs_wildlife = pytest.mark.skipif(
    importlib.util.find_spec("wildlife_datasets") is None, reason="needs wildlife-datasets"
)
BASE = str(REPOSITORY / "configs" / "Base-ARBase.yml")


def command_line(place, *options, rows=None, config=BASE, **keys) -> list[str]:
    """The command line of a tiny run into ``place/run`` on ``place/data``."""
    keys.setdefault("DATASETS__NAMES", source(place / "data", rows or herd()))
    config_file = ["--config-file", config] if config else []
    given = {"SOLVER__MAX_EPOCH": 1, "TEST__EVAL_PERIOD": -1, **keys}
    pairs = overrides(place / "run", place, **given)
    return ["train", *config_file, *options, *map(str, pairs)]


@pytest.fixture
def line(tmp_path):
    """Return a command line: a tiny run into ``tmp_path/run`` on ``tmp_path/data``."""
    return partial(command_line, tmp_path)


@pytest.fixture(scope="session")
def _finished(tmp_path_factory):
    place = tmp_path_factory.mktemp("finished")
    assert cli.main(command_line(place)) == 0
    return place / "run"


@pytest.fixture
def trained(_finished, tmp_path):
    """The folder of a finished run, ``tmp_path/run``."""
    return shutil.copytree(_finished, tmp_path / "run")


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
