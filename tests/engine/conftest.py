"""What the tests of bad input share: a tiny command line, its one error and its log."""

import pytest

from openanimals import cli
from tests.conftest import REPOSITORY
from tests.engine.photographs import herd, source
from tests.engine.tiny_run import overrides

BASE = str(REPOSITORY / "configs" / "Base-ARBase.yml")


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
