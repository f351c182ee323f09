"""The floors in setup.py are those of the environment that `make test-oldest` makes."""

import re
import runpy

import setuptools

from tests.conftest import REPOSITORY


def test_the_oldest_environment_is_of_the_declared_floors(monkeypatch):
    declared: dict = {}
    monkeypatch.setattr(setuptools, "setup", declared.update)
    runpy.run_path(str(REPOSITORY / "setup.py"))
    extras = declared["extras_require"]
    assert "test" in extras
    needed = set(declared["install_requires"]).union(
        *(extras[extra] for extra in extras if extra != "lint")
    )
    floors = {re.sub(r"^([\w-]+)>=([\d.]+)(,<.*)?$", r"\1==\2", text) for text in needed}
    lines = (REPOSITORY / "tests/oldest.txt").read_text(encoding="utf-8").splitlines()
    assert floors == {line for line in lines if not line.startswith("#")}
