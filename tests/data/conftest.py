"""Photographs of noise, a cache for them, a watch on decoding; a file server."""

from pathlib import Path

import pytest
import torch

from openanimals.data import download
from openanimals.data.cache import ImageCache
from openanimals.data.dataset import ReIDDataset
from tests.data.pictures import COUNT, noise_dataset, save_noise
from tests.data.server import serving


@pytest.fixture(autouse=True)
def _own_user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))


@pytest.fixture(scope="session")
def package():
    """wildlife_datasets.datasets, or a skip where it (or OpenCV's libGL) is missing."""
    return pytest.importorskip("wildlife_datasets.datasets", exc_type=ImportError)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    with serving() as server:
        yield server


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with ten photographs of noise, each another; all files have one length."""
    for number in range(COUNT):
        save_noise(tmp_path / "noise" / f"{number}.png", seed=number)
    return tmp_path / "noise"


@pytest.fixture
def noise(folder) -> ReIDDataset:
    return noise_dataset(folder)


@pytest.fixture
def reads(monkeypatch) -> list[int]:
    """The rows that were decoded, in any order."""
    rows, read = [], ReIDDataset.read

    def watched(self, row):
        rows.append(row)
        return read(self, row)

    monkeypatch.setattr(ReIDDataset, "read", watched)
    return rows


@pytest.fixture
def cache(tmp_path):
    """A function that makes a cache in a folder of its own."""

    def make(mode="disk", limit=10**9, device="cpu", build=True, folder=tmp_path / "cache"):
        return ImageCache(mode, limit, folder, torch.device(device), build=build)

    return make


@pytest.fixture
def built(cache, noise, reads, tmp_path) -> Path:
    """The file of a cache on disk; the reads of building it are forgotten."""
    cache().open(noise)
    reads.clear()
    return next((tmp_path / "cache").glob("*.images"))
