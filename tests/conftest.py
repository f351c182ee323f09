"""What all tests share: one thread, the tiny test backbone, the recorded data beside us."""

import logging
import os
from pathlib import Path

import pytest
import torch

import tests.tiny  # noqa: F401  (registers the backbone "tiny")
from openanimals.engine import evaluate, train
from openanimals.utils.logging import LOGGER, close_logging

REPOSITORY = Path(__file__).parent.parent


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest: no process is left alone with them at the end."""
    long = {item.path for item in items if item.get_closest_marker("cli")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():  # of the session: what a module's fixtures make must be as in its tests
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_user_cache(tmp_path_factory):
    """Neither tests nor the processes they start write into the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("user-cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_pictures():
    """Runs draw nothing, which would take most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "draw_results", lambda *_: None)
        yield


@pytest.fixture
def pictures(monkeypatch):
    """In this test, runs draw their pictures all the same."""
    monkeypatch.setattr(train, "draw_results", evaluate.draw_results)


@pytest.fixture(autouse=True)
def _own_logging():
    """A run, perhaps a wider fixture's, takes log and warnings over; each test starts afresh."""
    _reset_logging()
    yield
    _reset_logging()


def _reset_logging():
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
    close_logging()
    logging.captureWarnings(False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and recorded values beside the checkout; CI must have it."""
    folder = Path(os.environ.get("OPENANIMALS_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "golden").is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"no recorded data at {folder}; CI needs them")
        pytest.skip(f"needs the recorded data at {folder} (OPENANIMALS_SHARED)")
    return folder


@pytest.fixture(scope="session")
def herd_root(tmp_path_factory) -> Path:
    """A data root; the herds that tests ask for are drawn into it once a session."""
    return tmp_path_factory.mktemp("datasets")
