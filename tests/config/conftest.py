"""What the tests of configurations share: files to load, and what is wrong with them."""

from pathlib import Path

import pytest

from openanimals.config import ConfigError, load


@pytest.fixture
def write(tmp_path):
    """Write a YAML file, in a folder of its own if its name has one; return its path."""

    def file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return file


def mistakes(*arguments, **options) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(*arguments, **options)
    return error.value.problems
