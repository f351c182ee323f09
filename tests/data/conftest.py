"""Photographs of noise, and a watch on which of them are decoded."""

import pytest

from openanimals.data.photographs import Photographs
from tests.data.cache_process import photographs
from tests.data.pictures import save_noise


@pytest.fixture
def noise(tmp_path) -> Photographs:
    """Ten photographs, each another, to be read at 8 x 10 pixels; all files have one length."""
    for number in range(10):
        save_noise(tmp_path / "noise" / f"{number}.png", seed=number)
    return photographs(tmp_path / "noise")


@pytest.fixture
def reads(monkeypatch) -> list[int]:
    """The rows that were decoded, in any order."""
    rows, read = [], Photographs.read

    def watched(self, row):
        rows.append(row)
        return read(self, row)

    monkeypatch.setattr(Photographs, "read", watched)
    return rows
